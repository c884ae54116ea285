"""JSON values one after the other in one message: each is read, and a bad one costs one ``invalid``."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metric_forwarder.formats import json_text
from metric_forwarder.formats.payload import read_payloads
from metric_forwarder.model import Message
from support.harness import ckafka, make_harness, outcomes, point, values

JOINED = {
    "concatenated": ("", None),
    "a line each": ("\n", None),
    "with blank lines": ("\n\n\r\n", None),
    "pretty-printed": ("\n", 2),
    "pretty-printed without indentation": ("\n", 0),
}


def joined(name: str, *bodies: Any) -> str:
    separator, indent = JOINED[name]
    return separator.join(
        body if isinstance(body, str) else json.dumps(body, indent=indent) for body in bodies
    )


@pytest.mark.parametrize("name", JOINED)
def test_every_value_of_a_message_is_read(name: str) -> None:
    text = joined(name, point(1), [point(2), point(3)], {"namespace": "x", "points": [point(4)]}, point(5))
    events: list[Any] = [
        ckafka(text),
        {"Records": [{"CMQ": {"msgId": "1", "msgBody": text}}]},
        {"specversion": "1.0", "id": "1", "source": "s", "data": {"msgBody": text}},
        {"Type": "Timer", "TriggerName": "t", "Time": "2026-01-01T00:00:00Z", "Message": text},
        ckafka(json.dumps(text)),
        ckafka("\ufeff" + text),
    ]
    for event in events:
        harness = make_harness()
        assert outcomes(harness.handle(event)) == {"delivered": 5}
        assert sorted(values(harness.receiver.points)) == [1, 2, 3, 4, 5]
        assert outcomes(harness.handle(event)) == {"duplicate": 5}, (
            "places are the same when the event comes again"
        )


BAD = {
    "no JSON": "x",
    "broken off": '{"metricName":"m",',
    "a name twice": '{"metricName":"m","dimensions":{},"value":1,"value":1}',
    "a missing member": '{"metricName":"m","dimensions":{}}',
    "a number": "5",
    "too many digits": '{"metricName":"m","dimensions":{},"value":' + "9" * 5000 + "}",
    "too deep": "[" * 100_000,
    "a string": '"x"',
}


@pytest.mark.parametrize("name", ["a line each", "with blank lines", "pretty-printed"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_value_costs_one_invalid_and_no_neighbour(name: str, bad: str, place: int) -> None:
    bodies: list[Any] = [point(1), [point(2), point(3)]]
    bodies.insert(place, bad)
    text = joined(name, *bodies)
    harness = make_harness()
    report = harness.handle(ckafka(text, topic="demo"))
    assert outcomes(report) == {"delivered": 3, "invalid": 1}
    assert sorted(values(harness.receiver.points)) == [1, 2, 3]
    line = text[: text.index(bad)].count("\n") + 1
    assert {error["source"] for error in report["errors"]} == {"demo/0@0"}
    assert all(error["pointer"].startswith(f"line {line}") for error in report["errors"])


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("bad", ["x", '{"metricName":"m",', "[" * 100_000, '{"value":}'])
def test_a_bad_value_leaves_an_envelope_after_it_whole(name: str, bad: str) -> None:
    envelope = {"namespace": "x", "dimensions": {"host": "h"}, "points": [point(1), point(2)]}
    harness = make_harness()
    report = harness.handle(
        ckafka("\n".join([bad, joined(name, envelope, envelope | {"points": [point(3)]})]))
    )
    assert outcomes(report) == {"delivered": 3, "invalid": 1}
    assert {(where, of["dimensions"]["host"]) for where, of in harness.receiver.points} == {("x", "h")}


@pytest.mark.parametrize("name", JOINED)
def test_envelopes_longer_than_what_is_read_at_once_after_a_bad_value_are_left_whole(name: str) -> None:
    first, second, third = (
        {"namespace": "x", "points": [point(value) for value in range(start, start + 200)]}
        for start in (0, 200, 400)
    )
    assert len(json.dumps(first)) > 2 * json_text.READ_AFTER_ERROR
    harness = make_harness()
    report = harness.handle(ckafka("\n".join(["x", joined(name, first, second), "x", joined(name, third)])))
    assert outcomes(report) == {"delivered": 600, "invalid": 2}
    assert sorted(values(harness.receiver.points)) == list(range(600))
    assert {where for where, _ in harness.receiver.points} == {"x"}


@pytest.mark.parametrize("before", ["", json.dumps(point(7)) + "\n", '{"value":}\n'])
def test_points_of_an_envelope_that_cannot_be_read_are_not_sent_without_it(before: str) -> None:
    envelope = json.dumps({"namespace": "x", "points": [point(1), point(2)]}, indent=0)
    broken = envelope.replace('"value": 2', '"value": 2 2')
    harness = make_harness()
    report = harness.handle(ckafka(f"{before}{broken}\n{json.dumps(point(3))}"))
    assert 1 not in values(harness.receiver.points)
    assert values(harness.receiver.points)[-1:] == [3]
    assert report["outcomes"]["invalid"] == 1 + (before == '{"value":}\n')


def test_an_error_names_its_line_and_column_in_the_whole_message() -> None:
    lines = [json.dumps(point(1)), '{"metricName":}', "", '{"a":1}{"b"}', "[", "1 2]"]
    report = make_harness().handle(ckafka("\n".join(lines)))
    found = [(error["pointer"], error["message"]) for error in report["errors"] if error["rule"] == "json"]
    places = [(pointer, message.partition(" at ")[2].partition(")")[0]) for pointer, message in found]
    assert places == [
        ("line 2", "line 2 column 15"),
        ("line 4 value 2", "line 4 column 12"),
        ("line 5", "line 6 column 3"),
    ]


def test_a_number_of_too_many_digits_costs_only_its_point() -> None:
    harness = make_harness()
    good, bad = json.dumps(point(1)), json.dumps(point(2)).replace("2}", "9" * 5000 + "}")
    report = harness.handle(ckafka(f"[{good},{bad}]"))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert (report["errors"][0]["pointer"], report["errors"][0]["rule"]) == ("/1/value", "maximum")


def test_values_of_one_line_are_distinguished() -> None:
    report = make_harness().handle(ckafka('{"a":1}{"b":2} [1]\n{"c":3}'))
    assert [
        error["pointer"] for error in report["errors"] if error["rule"] in {"additionalProperties", "type"}
    ] == [
        "line 1/a",
        "line 1 value 2/b",
        "line 1 value 3/0",
        "line 2/c",
    ]


def test_the_dead_letter_of_a_bad_value_is_that_value_alone(tmp_path: Any) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    good, bad = json.dumps(point(1)), '{"points":[],"namespce":"pc"}'
    assert outcomes(harness.handle(ckafka(f"{good}\n{bad}\n{good}"))) == {"delivered": 2, "invalid": 1}
    (letters,) = list(tmp_path.rglob("*.jsonl"))
    (record,) = [json.loads(line) for line in letters.read_text().splitlines() if "payload" in line]
    assert record["payload"] == bad


@given(st.text(alphabet='{}[]",:1\\n \n\u00a0ax', max_size=40))
@example("1 2")
@example("\n{")
@example("")
def test_any_text_gives_payloads_at_places_of_their_own(text: str) -> None:
    payloads = list(read_payloads(text))
    assert payloads
    places = [payload.place for payload in payloads]
    assert len(set(places)) == len(places)
    assert Message("s", text).place(places[0]) is None
