"""What Prometheus's protobuf exposition becomes: the same samples as its text; see docs/formats.md."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.prometheus_protobuf import go_number
from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Reading, Sample
from support.metric_families import COUNTER, GAUGE, HISTOGRAM, SUMMARY, UNTYPED, delimited, family
from support.prometheus_server import PrometheusServer

HINT = FormatHint()
INF = float("inf")
TEXT = "text/plain;version=0.0.4"
DELIMITED = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


def decoded(*families: Any, hint: FormatHint = HINT) -> list[Reading]:
    return list(read(Format.PROMETHEUS_PROTOBUF, delimited(families), hint))


def shown(readings: list[Reading]) -> list[tuple[str, dict[str, str], float, int | None]]:
    samples = [reading for reading in readings if isinstance(reading, Sample)]
    return [(each.metric, dict(each.dimensions), each.value, each.time_ns) for each in samples]


def test_each_kind_of_metric_becomes_the_samples_of_its_text() -> None:
    readings = decoded(
        family("requests_total", COUNTER, {"labels": {"code": "200"}, "counter": {"value": 7}, "timestamp_ms": 5}),
        family("load", GAUGE, {"gauge": {"value": -0.5}}, {"labels": {"cpu": "1"}, "gauge": {"value": INF}}),
        family("odd", UNTYPED, {"untyped": {"value": 3}, "timestamp_ms": -5}),
        family("size", SUMMARY, {"summary": {"sample_count": 2, "sample_sum": 9.5, "quantile": [{"quantile": 0.99, "value": 8}]}}),
        family("time", HISTOGRAM, {"labels": {"a": "b"}, "histogram": {"sample_count": 3, "sample_sum": 2, "bucket": [
            {"upper_bound": 0.005, "cumulative_count": 1}, {"upper_bound": 1e6, "cumulative_count": 2}]}}),
    )  # fmt: skip
    assert shown(readings) == [
        ("requests_total", {"code": "200"}, 7, 5_000_000),
        ("load", {}, -0.5, None),
        ("load", {"cpu": "1"}, INF, None),
        ("odd", {}, 3, -5_000_000),
        ("size", {"quantile": "0.99"}, 8, None),
        ("size_sum", {}, 9.5, None),
        ("size_count", {}, 2, None),
        ("time_bucket", {"a": "b", "le": "0.005"}, 1, None),
        ("time_bucket", {"a": "b", "le": "1e+06"}, 2, None),
        ("time_bucket", {"a": "b", "le": "+Inf"}, 3, None),
        ("time_sum", {"a": "b"}, 2, None),
        ("time_count", {"a": "b"}, 3, None),
    ]
    places = [reading.where for reading in readings]
    assert len(set(places)) == len(places)
    assert places[1:3] == ["family 1 metric 0", "family 1 metric 1"]


def test_the_labels_of_the_path_join_each_sample() -> None:
    readings = decoded(
        family("up", GAUGE, {"labels": {"job": "own"}, "gauge": {"value": 1}}),
        hint=FormatHint(labels={"job": "backup"}),
    )
    assert shown(readings) == [("up", {"job": "backup"}, 1, None)]


def test_exemplars_are_left_out_and_their_samples_go() -> None:
    exemplar = {"value": 1, "label": [{"name": "trace", "value": "x"}]}
    buckets = [
        {"upper_bound": 1, "cumulative_count": 1, "exemplar": exemplar},
        {"upper_bound": INF, "cumulative_count": 1, "exemplar": exemplar},
    ]
    readings = decoded(
        family("c", COUNTER, {"counter": {"value": 1, "exemplar": exemplar}}),
        family("h", HISTOGRAM, {"histogram": {"sample_count": 1, "bucket": buckets}}),
    )
    assert [reading.rule for reading in readings if isinstance(reading, FilteredSample)] == ["exemplar"] * 3
    assert [metric for metric, *_ in shown(readings)] == ["c", "h_bucket", "h_bucket", "h_sum", "h_count"]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (family("", GAUGE, {"gauge": {"value": 1}}), "name"),
        (family("m", 9, {"gauge": {"value": 1}}), "name"),
        (family("m", GAUGE, {"counter": {"value": 1}}), "value"),
        (family("m", HISTOGRAM, {"histogram": {"sample_count": 1, "schema": 3}}), "native-histogram"),
        (family("m", GAUGE, {"labels": {f"l{n}": "x" for n in range(101)}, "gauge": {"value": 1}}), "size"),
    ],
    ids=["no name", "an unknown type", "another type", "a native histogram", "too many labels"],
)
def test_a_bad_metric_is_one_invalid_and_its_dead_letter_says_the_same(bad: Any, rule: str) -> None:
    good = family("good", GAUGE, {"gauge": {"value": 1}})
    before, wrong, after = decoded(good, bad, good)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert isinstance(wrong, InvalidSample)
    assert (wrong.rule, wrong.where) == (rule, "family 1 metric 0")
    (again,) = read(Format.PROMETHEUS_PROTOBUF, wrong.raw, HINT)
    assert isinstance(again, InvalidSample)
    assert (again.rule, again.message) == (wrong.rule, wrong.message)


def test_what_comes_before_the_end_of_a_body_that_was_cut_off_is_read() -> None:
    whole = delimited(
        [family("a", GAUGE, {"gauge": {"value": 1}}), family("b", GAUGE, {"gauge": {"value": 2}})]
    )
    first, wrong = read(Format.PROMETHEUS_PROTOBUF, whole[:-1], HINT)
    assert isinstance(first, Sample)
    assert isinstance(wrong, InvalidSample)
    assert (wrong.rule, wrong.where) == ("protobuf", "family 1")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "-0"), (1, "1"), (100_000, "100000"), (999_999, "999999"), (1e6, "1e+06"), (1_234_567, "1.234567e+06"), (0.0001, "0.0001"), (0.00001, "1e-05"), (-2.5e-7, "-2.5e-07"), (1e100, "1e+100"), (0.1, "0.1"), (INF, "+Inf"), (-INF, "-Inf"), (float("nan"), "NaN")],
)  # fmt: skip
def test_a_bound_is_written_as_go_writes_it(value: float, text: str) -> None:
    """Go 1.22, strconv.FormatFloat(value, 'g', -1, 64), as expfmt uses it."""
    assert go_number(value) == text


@given(st.floats(allow_nan=False))
def test_a_bound_is_read_again_as_the_same_number(value: float) -> None:
    assert float(go_number(value)) == value


@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    for reading in read(Format.PROMETHEUS_PROTOBUF, body, HINT):
        assert isinstance(reading, (Sample, InvalidSample, FilteredSample))


def test_a_real_prometheus_says_the_same_in_protobuf_and_in_text(tmp_path: Path) -> None:
    with PrometheusServer(tmp_path) as server:
        url = server.url.replace("/api/v1/write", "/metrics")
        # The first request makes series of its own.
        _exposed(url, TEXT)
        before, body, after = (_exposed(url, accept) for accept in (TEXT, DELIMITED, TEXT))
    readings = list(read(Format.PROMETHEUS_PROTOBUF, body, HINT))
    assert not any(isinstance(reading, InvalidSample) for reading in readings)
    # Values change from one request to the next, and series may come.
    earlier, later = (_series(list(read(Format.PROMETHEUS_TEXT, text, HINT))) for text in (before, after))
    assert len(earlier) > 200
    assert earlier <= _series(readings) <= later


def _series(readings: list[Reading]) -> set[tuple[Any, ...]]:
    return {(metric, *sorted(labels.items())) for metric, labels, _, _ in shown(readings)}


def _exposed(url: str, accept: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: bytes = reply.read()
    return found
