"""What makes two points the same: everything that a producer wrote, and nothing else."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.cli.sample_events import TEMPLATES
from metric_forwarder.dedupe.identity import Identifier
from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.making import make_intake
from metric_forwarder.model import Message, Outcome, Point, Series
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.policies import point_payload
from metric_forwarder.spool.store import SpoolRecord, decode_record, encode_record, message_of
from metric_forwarder.triggers import Decoded, decode
from metric_forwarder.triggers.decoding import OFFLINE
from support.fakes import FakeClock
from support.harness import ckafka, environ, make_harness, outcomes, point, remote_write_environ

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
PAIRS = 10_000
DESTINATIONS = {
    name: Settings.read(given, platform_region="gz")
    for name, given in {"receiver": environ(), "remote-write": remote_write_environ()}.items()
}


def intake_of(settings: Settings) -> Intake:
    return make_intake(settings, FakeClock(), Ledger())


def points_of(event: Any, settings: Settings) -> list[Point]:
    intake, decoded = intake_of(settings), decode(event, OFFLINE)
    assert isinstance(decoded, Decoded)
    for message in decoded.messages:
        intake.take_all([message])
    return intake.points


def replayed(original: Point, settings: Settings) -> Point:
    """A point that was spooled and comes back."""
    message = original.message
    record = SpoolRecord(
        point_payload(original),
        message.source,
        message.place(original.pointer),
        original.time_ms,
        Outcome.UNDELIVERED.value,
        "",
    )
    intake = intake_of(settings)
    intake.take_all([message_of(decode_record(encode_record(record).encode("ascii")))])
    (point_again,) = intake.points
    return point_again


WRITTEN: dict[str, list[Any]] = {
    "metricName": ["cpu", "cpu_", "a"],
    "value": [0, 1, 0.1, 0.1 + 2**-56, -0.5, 2**53, 2**53 + 1, 10**20, 10**20 + 1, 10**300, 1e300, 5e-324],
    "dimensions": [{}, {"a": "b"}, {"a": "b", "c": "d"}, {"a": "d", "c": "b"}, {"a": 'b","c","d'}, {"ab": ""}, {"a": "b#/0"}],
    "namespace": [None, "pc", "pc_"],
    "timestamp": [None, 1767225600, 1767225600.1, "2026-01-01T00:00:00.1001Z", "2026-01-01T00:00:00.100100001Z", 1767225599999],
    "id": [None, "a", "b", "a#b", "1", "@1", "/0"],
}  # fmt: skip
# Other ways of writing the same.
SAME: dict[str, Any] = {
    "value": {0: 0.0, 1: 1.0, 2**53: 2.0**53, 10**20: 1e20, 10**300: 10**300},
    "timestamp": {
        1767225600: "2026-01-01T08:00:00+08:00",
        1767225600.1: "2026-01-01T00:00:00.100Z",
        1767225599999: 1767225599.999,
    },
    "namespace": {None: "pc"},
    "id": {"1": 1},
}


def pairs(chosen: random.Random) -> Iterator[tuple[dict[str, Any], dict[str, Any], bool]]:
    """Points and their like: each differs from the other in one member that says something else, or says the same."""
    while True:
        one = {name: chosen.choice(values) for name, values in WRITTEN.items()}
        name = chosen.choice(list(WRITTEN))
        if chosen.random() < 0.3:
            other = SAME.get(name, {})
            other = (
                other.get(one[name], one[name])
                if not isinstance(one[name], dict)
                else dict(reversed(one[name].items()))
            )
            yield one, {**one, name: other}, True
        else:
            other = chosen.choice([value for value in WRITTEN[name] if not _is_same(name, value, one[name])])
            yield one, {**one, name: other}, False


def _is_same(name: str, one: Any, other: Any) -> bool:
    return bool(one == other) or (name == "namespace" and {one, other} == {None, "pc"})


def written(members: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in members.items() if value is not None})


@pytest.mark.slow
@pytest.mark.parametrize("destination", DESTINATIONS)
def test_points_have_one_identity_if_and_only_if_their_producers_wrote_the_same(destination: str) -> None:
    settings = DESTINATIONS[destination]
    kinds = itertools.cycle(TEMPLATES.values())
    for one, other, says_the_same in itertools.islice(pairs(random.Random(5)), PAIRS):
        kind = next(kinds)
        (first,), (second,) = (points_of(kind.wrap([written(each)], AT), settings) for each in (one, other))
        if first.identity is None:
            assert second.identity is None or not says_the_same
            continue
        # In the same place of the same event; a place that knows its content by a checksum differs by the way it is written.
        is_known_by_place = one["id"] is None and one["timestamp"] is None
        if not (says_the_same and is_known_by_place and written(one) != written(other)):
            assert (first.identity == second.identity) == says_the_same, (one, other)
        assert replayed(first, settings).identity == first.identity, one
        assert replayed(second, settings).identity == second.identity, other


def test_two_places_never_have_one_identity() -> None:
    """Equal points without time and id, in messages whose names are made of the same characters."""
    body = json.dumps([point(), point()])
    names = [
        ("a#b", "c"),
        ("a", "b#c"),
        ("a", 'b","c'),
        ('a","b', "c"),
        ("a", "b"),
        ("a", "b#/0"),
        ("a#/0", "b"),
    ]
    events: list[Any] = [
        {"specversion": "1.0", "id": id_, "source": source, "data": {"msgBody": body}}
        for source, id_ in names
    ]
    events += [
        {"Records": [{"CMQ": {"topicOwner": 1, "topicName": topic, "msgId": id_, "msgBody": body}}]}
        for topic, id_ in names
    ]
    events += [{"Type": "Timer", "TriggerName": name, "Time": time, "Message": body} for name, time in names]
    events += [
        ckafka(body, topic=topic, partition=partition) for topic in ("a", "a/0@0") for partition in (0, 1)
    ]
    found = [each.identity for event in events for each in points_of(event, DESTINATIONS["receiver"])]
    assert len(found) == 2 * len(events)
    assert len(set(found)) == len(found)


def test_ten_equal_readings_within_a_millisecond_are_ten_readings() -> None:
    readings = [point(1, timestamp=f"2026-01-01T00:00:00.{number:07}Z") for number in range(0, 20_000, 2000)]
    harness = make_harness()
    assert outcomes(harness.handle(ckafka(*readings))) == {"delivered": 10}
    assert outcomes(harness.handle(ckafka(*readings, first_offset=50))) == {"duplicate": 10}


def test_one_id_for_two_metrics_loses_neither() -> None:
    assert outcomes(make_harness().handle([point(1, id="a"), point(1, metric="b", id="a")])) == {
        "delivered": 2
    }


def test_a_constant_id_with_another_value_each_minute_is_delivered_each_minute() -> None:
    harness = make_harness()
    for minute in range(20):
        assert outcomes(harness.handle(ckafka(point(minute, id="cpu"), first_offset=minute))) == {
            "delivered": 1
        }
        harness.clock.sleep(60)


@pytest.mark.parametrize(
    ("value", "identity"),
    [(0.5, "9ab1cdf7f1522d4bc6b58538bb348be4"), (10**20 + 1, "8525ff92145729ebfe86fa89eaee77af")],
    ids=["a fraction", "a whole number that is no float"],
)
def test_an_identity_is_the_same_on_every_instance_and_python(value: float, identity: str) -> None:
    """A window that spans an upgrade would be lost if it changed unnoticed: see the changelog."""
    payload = json.dumps(point(value, id="é\ud800", dimensions={"b": "x", "a": "ü"}))
    intake = intake_of(DESTINATIONS["receiver"])
    intake.take_all([Message("s", payload, 'cmq/["a"]')])
    (found,) = intake.points
    assert found.identity is not None
    assert found.identity.hex() == identity


@given(st.sampled_from([2**53, 2**60, 10**20, 10**300]), st.integers(-3, 3), st.integers(-3, 3))
def test_large_whole_numbers_have_one_identity_if_and_only_if_they_are_equal(
    base: int, one: int, other: int
) -> None:
    first, second = identities_of(base + one, base + other)
    assert (first == second) == (one == other)


@pytest.mark.parametrize("number", [2.0**53, 2.0**60, 1e20, 1e300, -1e20])
def test_a_whole_number_and_the_float_that_is_equal_to_it_have_one_identity(number: float) -> None:
    first, second = identities_of(number, int(number))
    assert first == second


def identities_of(*numbers: float) -> list[bytes | None]:
    """The identities of points that differ in their value alone."""
    count = len(numbers)
    return Identifier("test", "content").identities(
        [Series("pc", "m", {})] * count,
        numbers,
        [1] * count,
        [None] * count,
        [Message("s", None)] * count,
        [""] * count,
    )


class Row(NamedTuple):
    """All of a point that its identity may depend on."""

    metric: str
    value: float
    time_ns: int | None
    key: str | None
    coordinates: str | None
    pointer: str


ROWS = st.builds(
    Row,
    st.sampled_from(["a", "b"]),
    st.sampled_from([0, 1, 1.0, 0.5, -(2**53), -(2**53) - 1, 2**53 + 1, math.inf, -math.inf]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "topic/0@1", "topic/0@2", "scrape/node", "scrape/other"]),
    st.sampled_from(["", "/0", "/1"]),
)


def what_identifies(row: Row, by: str) -> tuple[object, ...] | None:
    if row.key is not None:
        return row.metric, row.value, row.time_ns, "key", row.key
    if row.time_ns is not None and by == "content":
        return row.metric, row.value, row.time_ns
    if row.coordinates is None:
        return None
    # What is scraped is measured again when its event comes again.
    value = None if row.coordinates.startswith("scrape/") else row.value
    return row.metric, value, row.time_ns, "place", row.coordinates, row.pointer


@given(st.lists(ROWS, max_size=30), st.sampled_from(["content", "message"]))
def test_points_have_one_identity_if_and_only_if_the_same_things_identify_them(
    rows: list[Row], by: str
) -> None:
    by_metric = {metric: Series("pc", metric, {}) for metric in ("a", "b")}
    found = Identifier("test", by).identities(
        [by_metric[row.metric] for row in rows],
        [row.value for row in rows],
        [row.time_ns for row in rows],
        [row.key for row in rows],
        [Message("s", None, row.coordinates) for row in rows],
        [row.pointer for row in rows],
    )
    expected = [what_identifies(row, by) for row in rows]
    assert [identity is None for identity in found] == [each is None for each in expected]
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))
