"""The fast road and the careful road say the same of every text."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import make_intake
from metric_forwarder.formats.payload import decode, decode_together
from metric_forwarder.intake.intake import Intake
from metric_forwarder.model import Message
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from support.fakes import FakeClock
from support.harness import environ, point, remote_write_environ

DESTINATIONS = {"receiver": environ(), "remote-write": remote_write_environ()}
NEXT = ',"metric_forwarder: next message",'

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, 1e999, 2**64, -0.0, 1e14, 1_767_225_600, 1_767_225_600_123, 1_767_225_600.25])
    | st.sampled_from(
        ["", "a", "b", '":', '\\":', '"', "metric_forwarder: next message", "x" * 1025, "ä", "\ud800"]
    )
    | st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1234567+08:00", "2026-02-30T00:00:00Z"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "dimensions", "points", "Data", "value"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["m", "n", "a", "b"])
USUAL = st.fixed_dictionaries(
    {
        "metricName": NAMES,
        "dimensions": st.dictionaries(
            NAMES, st.sampled_from(["x", "y", "x:y", 1, 1.0, True, "1"]), max_size=3
        ),
        "value": st.integers() | st.floats(allow_nan=False) | st.sampled_from([1e999, True, "1"]),
    },
    optional={
        "namespace": st.sampled_from(["pc", "other", None, "", 1]),
        "timestamp": SCALARS,
        "id": SCALARS,
        "extra": SCALARS,
    },
)
PAYLOADS = (
    USUAL
    | st.lists(USUAL | VALUES, max_size=4)
    | st.builds(
        lambda key, inner, more: {key: inner, **more},
        st.sampled_from(["points", "Data"]),
        st.lists(USUAL | VALUES, max_size=3),
        st.fixed_dictionaries(
            {},
            optional={
                "namespace": st.sampled_from(["pc", 1]),
                "Namespace": st.just("pc"),
                "dimensions": st.dictionaries(NAMES, SCALARS, max_size=2) | SCALARS,
                "Region": st.just("gz"),
            },
        ),
    )
    | VALUES
)


def _written(value: Any, separators: tuple[str, str], indent: int | None) -> str:
    return json.dumps(value, separators=separators, indent=indent)


# What is no longer JSON, or says something else, for want of a character.
MISSPELT = [
    lambda text: text,
    lambda text: text.replace(":", " :", 1),
    lambda text: text.replace('"value":', '"value":1,"value":', 1),
    lambda text: text.replace('"value":', '"value" :1,"value":', 1),
    lambda text: text.replace("{", '{"metricName":"m",', 1),
    lambda text: text[:-1],
    lambda text: text + "]",
    lambda text: "[" + text,
    lambda text: text + text,
    lambda text: text + "\n" + text,
    lambda text: text + "," + text,
    lambda text: text + NEXT + text,
    lambda text: "\ufeff" + text,
    lambda text: f" {text}\n",
    json.dumps,
    lambda text: text[:0],
]
TEXTS = st.builds(
    lambda value, separators, indent, misspell: misspell(_written(value, separators, indent)),
    PAYLOADS,
    st.sampled_from([(",", ":"), (", ", ": "), (",", " :")]),
    st.sampled_from([None, None, None, 1]),
    st.sampled_from(MISSPELT[:1] * 15 + MISSPELT),
)


def shown(value: Any) -> Any:
    """A value whose equality tells 1 from 1.0 and from true, and NaN from nothing."""
    return repr(value)


@pytest.mark.slow
@given(st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=1500)
@example(['{"a":1', '"b":2}', "1,2"])
@example(['{"value" :1,"value":2}'])
@example(['{"value":1,"value":2}'])
@example(["[1", "2]", "3,4,5"])
@example([f"1{NEXT}2", '{"a":1', '"b":2}'])
@example(['"metric_forwarder: next message"', "1"])
@example(['{"a":"\\":"}', '{"a" :1}'])
@example(["NaN"])
@example(["1" * 5000])
@example(["[" * 100_000])
def test_messages_decoded_together_say_what_each_says_alone(texts: list[str]) -> None:
    together = decode_together(texts)
    if together is not None:
        for found, text in zip(together, texts, strict=True):
            alone = decode(text) if not isinstance(found, str) else found
            assert shown(found) == shown(alone)


def told(intake: Intake) -> list[Any]:
    """What became of points, but for a time that the forwarder gave them: that depends on the points before."""
    return [
        (point.series.key, shown(point.value), point.timestamp_ns, point.id, point.pointer, point.identity)
        + ((point.time_ms, point.wire) if point.timestamp_ns is not None else ())
        for point in intake.points
    ]


def taken_fast(settings: dict[str, str], texts: Sequence[str]) -> Any:
    """All messages at once, twice: the second time every valid series is known."""
    ledger = Ledger(max_problems=1000)
    intake = make_intake(Settings.read(settings), FakeClock(), ledger)
    messages = [Message("s", text, f"c{number}") for number, text in enumerate(texts)]
    intake.take_all(messages)
    intake.take_all(messages)
    return told(intake), len(intake.stale), ledger.outcomes(), ledger.problems


def taken_carefully(settings: dict[str, str], texts: Sequence[str]) -> Any:
    """Each message by itself on an instance that has met no other."""
    ledger = Ledger(max_problems=1000)
    points, stale = [], 0
    for number, text in [*enumerate(texts)] * 2:
        intake = make_intake(Settings.read(settings), FakeClock(), ledger)
        intake._take_carefully(Message("s", text, f"c{number}"))
        points += told(intake)
        stale += len(intake.stale)
    return points, stale, ledger.outcomes(), ledger.problems


@pytest.mark.slow
@pytest.mark.parametrize("destination", DESTINATIONS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=500)
@example(texts=[json.dumps(point(dimensions={"a": "1"})), json.dumps(point(dimensions={"a": True}))])
@example(texts=[json.dumps(point()), json.dumps(point(namespace=None))])
@example(texts=[json.dumps(point()), json.dumps(point()).replace("1}", "1e999}")])
@example(texts=[json.dumps(point()), json.dumps(point(id="")), json.dumps(point(timestamp=True))])
def test_the_fast_road_makes_of_every_message_what_the_careful_road_makes(
    destination: str, texts: list[str]
) -> None:
    settings = DESTINATIONS[destination]
    assert taken_fast(settings, texts) == taken_carefully(settings, texts)


def test_a_message_that_cannot_be_read_takes_no_other_along() -> None:
    bodies = [json.dumps(point(value)) for value in range(100)]
    bodies[50] = '{"metricName":"m","dimensions":{},"value":1,"value":2}'
    points, _, _, problems = taken_fast(environ(), bodies)
    assert len(points) == 198
    assert [problem.rule for problem in problems] == ["duplicate-key"] * 2


def test_the_usual_shapes_take_the_fast_road() -> None:
    shapes = [
        point(1.5, timestamp="2026-01-01T00:00:00Z", id="a"),
        [point(1), point(2)],
        {
            "namespace": "pc",
            "dimensions": {"a": "b"},
            "points": [point(1), {"metricName": "m", "value": math.pi}],
        },
        {"Namespace": "pc", "Data": [point(1)]},
        point(dimensions={f"d{number}": "12:30" for number in range(10)}),
    ]
    for shape in shapes:
        for text in (
            json.dumps(shape),
            json.dumps(shape, separators=(",", ":")),
            json.dumps(shape, indent=2),
        ):
            assert decode_together([text] * 10) == [shape] * 10
