"""The fast road and the careful road say the same of every text."""

import json
import math
from typing import Any

import pytest

from metric_forwarder.formats.json_text import decode
from metric_forwarder.formats.payload import decode_together
from support.harness import environ, point
from support.roads import DESTINATIONS, NEXT, Roads, Texts, compare, shown


@pytest.mark.slow
def test_messages_decoded_together_say_what_each_says_alone() -> None:
    texts = Texts(seed=7)
    for _ in range(2000):
        same_as_alone(texts.batch())


@pytest.mark.parametrize(
    "texts",
    [
        ['{"a":1', '"b":2}', "1,2"],
        ['{"value" :1,"value":2}'],
        ['{"value":1,"value":2}'],
        ["[1", "2]", "3,4,5"],
        [f"1{NEXT}2", '{"a":1', '"b":2}'],
        ['"metric_forwarder: next message"', "1"],
        ['{"a":"\\":"}', '{"a" :1}'],
        ["NaN"],
        ["1" * 5000],
        ["[" * 100_000],
    ],
    ids=lambda texts: texts[0][:20],
)
def test_odd_messages_decoded_together_say_what_each_says_alone(texts: list[str]) -> None:
    same_as_alone(texts)


def same_as_alone(texts: list[str]) -> None:
    together = decode_together(texts)
    for found, text in zip(together or (), texts, strict=together is not None):
        alone = decode(text) if not isinstance(found, str) else found
        assert shown(found) == shown(alone)


@pytest.mark.slow
def test_the_fast_road_makes_of_every_message_what_the_careful_road_makes() -> None:
    # ``make fuzz-roads`` takes as many as one likes.
    assert compare(seed=2026, messages=3000) > 1000


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (point(dimensions={"a": "1"}), point(dimensions={"a": True})),
        (point(), point(namespace=None)),
        (point(), point(value=1e999)),
        (point(id=""), point(timestamp=True)),
    ],
)
def test_a_known_series_excuses_nothing(destination: str, first: Any, second: Any) -> None:
    texts = [json.dumps(point()), json.dumps(first), json.dumps(second)]
    roads = Roads(DESTINATIONS[destination])
    assert roads.fast(texts) == roads.careful(texts)


def test_a_message_that_cannot_be_read_takes_no_other_along() -> None:
    bodies = [json.dumps(point(value)) for value in range(100)]
    bodies[50] = '{"metricName":"m","dimensions":{},"value":1,"value":2}'
    points, _, _, problems = Roads(environ()).fast(bodies)
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
