"""What the JSON of prometheus-kafka-adapter becomes; see docs/formats.md."""

import json
import math
from typing import Any

import pytest

from metric_forwarder.formats.kafka_adapter import decode
from metric_forwarder.formats.samples import NO_FLOAT, FormatHint, InvalidSample, Reading, Sample

SAMPLE = {
    "timestamp": "2026-01-31T08:00:00.123Z",
    "value": "12.5",
    "name": "job:up:sum",
    "labels": {"__name__": "job:up:sum", "job": "node", "empty": ""},
}


def readings(body: Any) -> list[Reading]:
    return list(decode(body, FormatHint()))


def test_a_message_becomes_a_sample() -> None:
    (found,) = readings(json.dumps(SAMPLE))
    assert found == Sample("", "job:up:sum", {"job": "node"}, 12.5, 1769846400_123000000)


def test_the_older_form_is_read_too() -> None:
    older = {"__timestamp": "1970-01-01T00:00:00Z", "__value": "7", "labels": {"__name__": "up"}}
    assert readings(json.dumps(older)) == [Sample("", "up", {}, 7.0, 0)]


@pytest.mark.parametrize(("text", "value"), [("+Inf", math.inf), ("-Inf", -math.inf), ("1e3", 1000.0)])
def test_a_value_is_text(text: str, value: float) -> None:
    (found,) = readings(json.dumps({**SAMPLE, "value": text}))
    assert isinstance(found, Sample)
    assert found.value == value


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_a_number_that_is_too_large_for_a_float_is_not_taken_for_an_infinity(number: str) -> None:
    (found,) = readings(json.dumps(SAMPLE).replace('"12.5"', number))
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule) == ("/value", "value")
    assert "does not fit into a 64-bit float" in found.message


def test_not_a_number_is_a_value() -> None:
    (found,) = readings(json.dumps({**SAMPLE, "value": "NaN"}))
    assert isinstance(found, Sample)
    assert math.isnan(found.value)


@pytest.mark.parametrize(
    ("change", "where", "rule"),
    [
        ({"value": "twelve"}, "/value", "value"),
        ({"value": "1_0"}, "/value", "value"),
        ({"value": "1e999"}, "/value", "value"),
        ({"value": None}, "/value", "value"),
        ({"value": True}, "/value", "value"),
        ({"timestamp": "yesterday"}, "/timestamp", "timestamp"),
        ({"labels": {"a": 1}}, "/labels", "type"),
        ({"labels": {}, "name": ""}, "/name", "name"),
    ],
)
def test_what_breaks_the_format_is_one_sample_and_says_where(
    change: dict[str, Any], where: str, rule: str
) -> None:
    (found,) = readings(json.dumps({**SAMPLE, **change}))
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule) == (where, rule)


def test_the_text_of_a_number_that_no_float_holds_is_called_that() -> None:
    (found,) = readings(json.dumps({**SAMPLE, "value": "1e999"}))
    assert isinstance(found, InvalidSample)
    assert found.message == NO_FLOAT


def test_one_bad_sample_among_a_thousand_costs_one() -> None:
    lines = [json.dumps({**SAMPLE, "value": str(number)}) for number in range(1000)]
    lines[499] = json.dumps({**SAMPLE, "value": "?"})
    found = readings("\n".join(lines))
    assert len(found) == 1000
    assert [reading.where for reading in found if not isinstance(reading, Sample)] == ["value 500 /value"]
