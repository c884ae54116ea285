"""What Telegraf's JSON becomes; see docs/formats.md."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample
from metric_forwarder.formats.telegraf_json import decode

METRIC = {
    "fields": {"usage_idle": 91.5, "n": 7, "up": True, "os": "linux", "deep": {"a": 1}},
    "name": "cpu",
    "tags": {"host": "a", "cpu-name": "cpu0"},
    "timestamp": 1458229140,
}
LABELS = {"host": "a", "cpu_name": "cpu0"}


def readings(body: Any) -> list[Reading]:
    return list(decode(body, FormatHint()))


def test_each_field_is_a_sample_and_texts_and_nested_values_are_filtered() -> None:
    found = readings(json.dumps(METRIC))
    assert [(type(reading), reading.where) for reading in found] == [
        (Sample, "/fields/usage_idle"),
        (Sample, "/fields/n"),
        (Sample, "/fields/up"),
        (FilteredSample, "/fields/os"),
        (FilteredSample, "/fields/deep"),
    ]
    first, second, third = (reading for reading in found if isinstance(reading, Sample))
    assert first[1:5] == ("cpu_usage_idle", LABELS, 91.5, 1458229140 * 10**9)
    assert (second.value, third.value, third.metric) == (7, 1, "cpu_up")


@pytest.mark.parametrize(
    ("timestamp", "unit"),
    [
        (1_000_000_000, 10**9),
        (9_999_999_999, 10**9),
        (1_458_229_140_123, 10**6),
        (1_458_229_140_123_456, 10**3),
        (1_458_229_140_123_456_789, 1),
    ],
)
def test_the_unit_of_a_time_is_recognised_by_its_digits(timestamp: int, unit: int) -> None:
    found = readings(json.dumps({**METRIC, "timestamp": timestamp}))
    assert {reading.time_ns for reading in found if isinstance(reading, Sample)} == {timestamp * unit}


def test_a_time_may_be_rfc_3339_and_a_metric_may_have_lost_its_fields() -> None:
    found = readings(json.dumps({**METRIC, "timestamp": "2016-03-17T15:39:00Z"}))
    assert {reading.time_ns for reading in found if isinstance(reading, Sample)} == {1458229140 * 10**9}
    # Telegraf leaves out what is infinite.
    assert readings(json.dumps({**METRIC, "fields": {}})) == []


def test_batches_lists_and_values_in_a_row_are_read() -> None:
    one = json.dumps({**METRIC, "fields": {"a": 1}})
    wheres = {
        f'{{"metrics": [{one}, {one}]}}': ["/metrics/0/fields/a", "/metrics/1/fields/a"],
        f"[{one},{one}]": ["/0/fields/a", "/1/fields/a"],
        f"{one}\n{one}\n": ["value 1 /fields/a", "value 2 /fields/a"],
        f"{one}{one}": ["value 1 /fields/a", "value 2 /fields/a"],
        f"{json.dumps(json.loads(one), indent=1)}\n{one}": ["value 1 /fields/a", "value 2 /fields/a"],
    }
    for body, expected in wheres.items():
        assert [reading.where for reading in readings(body)] == expected
        assert [reading.where for reading in readings(body.encode())] == expected


@pytest.mark.parametrize(
    ("change", "where", "rule"),
    [
        ({"name": ""}, "/name", "name"),
        ({"name": 7}, "/name", "name"),
        ({"fields": None}, "/fields", "type"),
        ({"fields": [1]}, "/fields", "type"),
        ({"tags": {"a": 1}}, "/tags", "type"),
        ({"tags": {f"t{number}": "" for number in range(101)}}, "/tags", "size"),
        ({"timestamp": 0}, "/timestamp", "timestamp"),
        ({"timestamp": 1458229140.5}, "/timestamp", "timestamp"),
        ({"timestamp": "2016-03-17"}, "/timestamp", "timestamp"),
        # In tenths and hundredths of a second.
        ({"timestamp": 14582291405}, "/timestamp", "timestamp"),
        ({"timestamp": 145822914051}, "/timestamp", "timestamp"),
        ({"timestamp": 2**63}, "/timestamp", "timestamp"),
        ({"timestamp": True}, "/timestamp", "timestamp"),
        ({"fields": {"a/b": None}}, "/fields/a~1b", "type"),
        ({"fields": {"a": math.inf}}, "/fields/a", "not-finite"),
    ],
)
def test_what_breaks_the_format_is_one_sample_and_says_where(
    change: dict[str, Any], where: str, rule: str
) -> None:
    (found,) = readings(json.dumps({**METRIC, **change}))
    assert isinstance(found, InvalidSample)
    assert (found.where, found.rule) == (where, rule)


@pytest.mark.parametrize("batch", [[], [METRIC]], ids=["empty", "with a metric"])
def test_an_object_that_is_a_metric_and_a_batch_is_invalid_as_nothing_of_it_may_be_lost(batch: Any) -> None:
    both = {**METRIC, "metrics": batch}
    (found,) = readings(json.dumps(both))
    assert isinstance(found, InvalidSample)
    assert found.raw == both
    assert "of its own" in found.message


def test_one_bad_value_among_a_thousand_costs_one_sample() -> None:
    lines = [json.dumps({**METRIC, "fields": {"a": number}}) for number in range(1000)]
    lines[499] = lines[499][:-2]
    found = readings("\n".join(lines))
    assert len(found) == 1000
    (bad,) = (reading for reading in found if isinstance(reading, InvalidSample))
    assert (bad.where, bad.rule) == ("value 500", "json")


def test_what_json_does_not_allow_costs_its_own_place() -> None:
    body = '{"metrics": [{"name":"a","fields":{"x":NaN,"y":1}},{"name":"a","name":"b","fields":{"x":1}}]}'
    assert [(reading.where, type(reading)) for reading in readings(body)] == [
        ("/metrics/0/fields/x", InvalidSample),
        ("/metrics/0/fields/y", Sample),
        ("/metrics/1", InvalidSample),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("name", "fields", "tags", "timestamp", "metrics", "x")), inner)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(JSON)
def test_any_json_yields_at_least_one_reading_and_raises_nothing(decoded: Any) -> None:
    assert readings(json.dumps(decoded)) or _holds_nothing(decoded)


def _holds_nothing(decoded: Any) -> bool:
    if isinstance(decoded, dict) and isinstance(decoded.get("metrics"), list):
        decoded = decoded["metrics"]
    if isinstance(decoded, list):
        return all(isinstance(metric, dict) and metric.get("fields") == {} for metric in decoded)
    return isinstance(decoded, dict) and decoded.get("fields") == {}


@given(st.text(alphabet='{}[]",:1a\n \\', max_size=60))
def test_whatever_the_text_nothing_raises(text: str) -> None:
    readings(text)


def _cpu_seconds(text: str) -> float:
    began = time.process_time()
    for _ in decode(text, FormatHint()):
        pass
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("piece", ['{"a":[\n', "{}\n", "[", '{"', "x\n{", '""', "[]\n[", '{"a":1}x\n', "1 "])
def test_reading_takes_time_in_proportion_to_the_text(piece: str) -> None:
    small, large = piece * (20_000 // len(piece)), piece * (320_000 // len(piece))
    # Sixteen times the text; a quadratic reader would take 256 times as long.
    fastest = min(_cpu_seconds(small) for _ in range(3))
    assert _cpu_seconds(large) < 64 * fastest + 0.1
