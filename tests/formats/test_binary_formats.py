"""What remote write and OTLP in protobuf become; see docs/formats.md."""

import base64
import json
import math
import random
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import cramjam
import pytest
from google.protobuf import json_format
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.formats import otlp_json, otlp_protobuf, remote_write
from metric_forwarder.formats.samples import (
    STALE_MARKER,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    is_stale_marker,
)
from metric_forwarder.formats.snappy import BadSnappy, decompress
from support.harness import ROOT
from support.remote_write import encode_series

HINT = FormatHint()
TEXT = st.text(alphabet="ab_é.0", max_size=3)


def readings(body: Any) -> list[Reading]:
    return list(remote_write.decode(body, HINT))


def series(labels: dict[str, str] | list[tuple[str, str]], *samples: tuple[float, int]) -> bytes:
    pairs = labels.items() if isinstance(labels, dict) else labels
    return encode_series(encode_labels(pairs), samples)


def test_the_samples_of_a_series_have_its_labels_and_their_times() -> None:
    found = readings(compress([series({"__name__": "up", "job": "a", "e": ""}, (1.0, 5), (0.5, -6))]))
    assert found == [
        Sample("series 0 sample 0", "up", {"job": "a"}, 1.0, 5_000_000),
        Sample("series 0 sample 1", "up", {"job": "a"}, 0.5, -6_000_000),
    ]


def test_a_stale_marker_keeps_its_bits() -> None:
    stale, other = readings(compress([series({"__name__": "up"}, (STALE_MARKER, 1), (math.nan, 2))]))
    assert isinstance(stale, Sample)
    assert isinstance(other, Sample)
    assert is_stale_marker(stale.value)
    assert not is_stale_marker(other.value)


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        ([("job", "a")], "name"),
        ([("__name__", "up"), ("a", "1"), ("a", "2")], "duplicate-label"),
        ([("__name__", "up"), *((f"l{number}", "x") for number in range(101))], "size"),
    ],
)
def test_bad_labels_cost_the_samples_of_their_series_alone(labels: list[tuple[str, str]], rule: str) -> None:
    good = series({"__name__": "up"}, (1.0, 5))
    found = readings(compress([good, series(labels, (1.0, 5), (2.0, 6)), good]))
    assert [getattr(reading, "rule", None) for reading in found] == [None, rule, rule, None]


def test_exemplars_and_native_histograms_are_reported_and_metadata_is_ignored() -> None:
    labels = encode_labels([("__name__", "up")])
    exemplar, histogram = b"\x1a\x02\x11\x00", b"\x22\x02\x09\x00"
    content = labels + exemplar + histogram
    metadata = b"\x1a\x02\x08\x01"
    found = readings(compress([b"\x0a" + bytes([len(content)]) + content, metadata]))
    assert [type(reading) for reading in found] == [FilteredSample, InvalidSample]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no snappy",
        b"\xff\xff\xff\xff\x0f" + b"\x00" * 10,
        b"\xff\xff\xff\x0f" + b"\x00" * 10,
        b"\x0a\x00a",
        b"\x04\x0dabc",
        b"\x04\x00a\x01\x05",
        "text",
    ],
)
def test_a_body_that_is_not_remote_write_is_one_invalid_sample(body: bytes | str) -> None:
    (found,) = readings(body)
    assert isinstance(found, InvalidSample)


# A request of remote write 2.0 and one of OTLP before 0.15, as their readers of today see them: fields that they do not know.
NEWER = b"\x22\x00\x22\x02up\x2a\x10\x0a\x02\x00\x01\x12\x0a\x09" + bytes(8) + b"\x10"
OLDER = b"\x0a\x05\xc2\x3e\x02\x12\x00"


@pytest.mark.parametrize("body", [NEWER, b"m,a=b v=1234"], ids=["version 2.0", "a text"])
@pytest.mark.parametrize("encoding", ["", "zstd"])
def test_a_request_of_fields_that_are_not_known_is_not_taken_for_an_empty_one(
    body: bytes, encoding: str
) -> None:
    hint = HINT._replace(content_encoding=encoding)
    (found,) = remote_write.decode(body if encoding else compress([body]), hint)
    assert isinstance(found, InvalidSample)
    assert "prometheus.WriteRequest" in found.message
    assert list(remote_write.decode(compress([]), HINT)) == []


@pytest.mark.parametrize("body", [OLDER, b"\x1a\x00"], ids=["before 0.15", "another field"])
def test_an_otlp_request_of_fields_that_are_not_known_is_not_taken_for_an_empty_one(body: bytes) -> None:
    (found,) = otlp_protobuf.decode(body, HINT)
    assert isinstance(found, InvalidSample)
    assert list(otlp_protobuf.decode(b"", HINT)) == []


def test_a_request_that_is_not_compressed_is_read_and_its_bad_sample_can_be_replayed() -> None:
    good, bad = series({"__name__": "up"}, (1.0, 5)), series({"job": "a"}, (1.0, 5))
    sample, invalid = readings(good + bad)
    assert sample == Sample("series 0 sample 0", "up", {}, 1.0, 5_000_000)
    assert isinstance(invalid, InvalidSample)
    (again,) = readings(invalid.raw)
    assert isinstance(again, InvalidSample)
    assert again.rule == invalid.rule == "name"


def test_a_bad_series_costs_itself_alone() -> None:
    good = series({"__name__": "up"}, (1.0, 5))
    broken = b"\x0a\x03\x0a\x7fx"
    found = readings(compress([good, broken, good]))
    assert [type(reading) for reading in found] == [Sample, InvalidSample, Sample]


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_raises(data: bytes) -> None:
    readings(data)
    readings(bytes(cramjam.snappy.compress_raw(data)))
    list(otlp_protobuf.decode(data, HINT))


WITHOUT_PACKAGE = """
import random, sys
sys.modules["cramjam"] = None
from metric_forwarder.formats.snappy import BadSnappy, decompress
failed = 0
for line in sys.stdin:
    written, text = (bytes.fromhex(part) for part in line.rstrip("\\n").split(" "))
    assert decompress(written) == text
    for _ in range(20):
        broken = bytearray(written)
        broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
        try:
            decompress(bytes(broken[:random.randrange(len(broken) + 1)]))
        except BadSnappy:
            failed += 1
print(failed)
"""


def test_snappy_is_read_without_a_package_too() -> None:
    chance = random.Random(1)
    texts = [b"", b"a", b"ab" * 500, bytes(70_000), chance.randbytes(70_000)]
    texts += [bytes(chance.choice(b"abcde") for _ in range(chance.randrange(2000))) for _ in range(100)]
    lines = "\n".join(f"{bytes(cramjam.snappy.compress_raw(text)).hex()} {text.hex()}" for text in texts)
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE], input=lines, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert int(told.stdout) > 1000


def test_snappy_that_lies_about_its_length_takes_no_memory() -> None:
    for claimed in (b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x10", b"\x80\x80\x20"):
        tracemalloc.start()
        with pytest.raises(BadSnappy):
            decompress(claimed + b"\x00" * 100)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000


def protobuf(request: Any) -> bytes:
    return json_format.Parse(json.dumps(request), ExportMetricsServiceRequest()).SerializeToString()


_ANY = st.recursive(
    st.builds(lambda text: {"stringValue": text}, TEXT)
    | st.builds(lambda flag: {"boolValue": flag}, st.booleans())
    | st.builds(lambda number: {"intValue": str(number)}, st.integers(-(2**63), 2**63 - 1))
    | st.builds(lambda number: {"doubleValue": number}, st.floats(allow_nan=False, allow_infinity=False))
    | st.builds(lambda data: {"bytesValue": base64.b64encode(data).decode()}, st.binary(max_size=4)),
    lambda inner: (
        st.builds(lambda values: {"arrayValue": {"values": values}}, st.lists(inner, max_size=2))
        | st.builds(
            lambda values: {"kvlistValue": {"values": [{"key": k, "value": v} for k, v in values.items()]}},
            st.dictionaries(TEXT, inner, max_size=2),
        )
    ),
    max_leaves=3,
)
_ATTRIBUTES = st.builds(
    lambda values: [{"key": key, "value": value} for key, value in values.items()],
    st.dictionaries(TEXT | st.sampled_from(("service.name", "service.instance.id")), _ANY, max_size=3),
)
_DOUBLE = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(("NaN", "Infinity", "-Infinity"))
_SHARED = {
    "timeUnixNano": st.integers(0, 2**63 - 1).map(str),
    "attributes": _ATTRIBUTES,
    "flags": st.sampled_from((0, 1, 2)),
}


def _optional(**members: Any) -> Any:
    return st.fixed_dictionaries({}, optional={**_SHARED, **members})


_NUMBERS = st.lists(
    st.fixed_dictionaries(
        {}, optional={**_SHARED, "asInt": st.integers(-(2**63), 2**63 - 1).map(str)}
    )
    | st.fixed_dictionaries({"asDouble": _DOUBLE}, optional=_SHARED),
    max_size=3,
)  # fmt: skip
_COUNT = st.integers(0, 9)


@st.composite
def _histogram(draw: st.DrawFn) -> Any:
    counts = draw(st.lists(_COUNT, max_size=4))
    bounds = sorted(
        draw(st.sets(st.integers(-5, 5), min_size=max(len(counts) - 1, 0), max_size=max(len(counts) - 1, 0)))
    )
    point = draw(_optional(sum=_DOUBLE, min=_DOUBLE, exemplars=st.just([{}])))
    return {
        **point,
        "count": str(sum(counts)),
        "bucketCounts": [str(c) for c in counts],
        "explicitBounds": bounds,
    }


_QUANTILE = st.fixed_dictionaries({"quantile": _DOUBLE, "value": _DOUBLE})
_SUMMARY = _optional(sum=_DOUBLE, count=_COUNT.map(str), quantileValues=st.lists(_QUANTILE, max_size=2))
_TEMPORALITY = st.sampled_from((1, 2, 2))


def _metric(kind: str, data: Any) -> Any:
    return st.fixed_dictionaries({"name": TEXT, "unit": st.sampled_from(("", "s", "1", "By/s")), kind: data})


_METRIC = (
    _metric("gauge", st.fixed_dictionaries({"dataPoints": _NUMBERS}))
    | _metric("sum", st.fixed_dictionaries({"dataPoints": _NUMBERS, "aggregationTemporality": _TEMPORALITY, "isMonotonic": st.booleans()}))
    | _metric("histogram", st.fixed_dictionaries({"dataPoints": st.lists(_histogram(), max_size=2), "aggregationTemporality": _TEMPORALITY}))
    | _metric("exponentialHistogram", st.just({"dataPoints": [{}]}))
    | _metric("summary", st.fixed_dictionaries({"dataPoints": st.lists(_SUMMARY, max_size=2)}))
)  # fmt: skip
_REQUEST = st.fixed_dictionaries(
    {
        "resourceMetrics": st.lists(
            st.fixed_dictionaries(
                {
                    "resource": st.fixed_dictionaries({"attributes": _ATTRIBUTES}),
                    "scopeMetrics": st.lists(
                        st.fixed_dictionaries(
                            {
                                "scope": st.fixed_dictionaries({"name": TEXT, "version": TEXT}),
                                "metrics": st.lists(_METRIC, max_size=3),
                            }
                        ),
                        max_size=2,
                    ),
                }
            ),
            max_size=2,
        )
    }
)


def _comparable(found: list[Reading]) -> list[str]:
    """Readings without what was kept of the producer's own writing; zeros and NaNs alike have one form as text.

    The order of labels says nothing: a series is the same in each.
    """
    return [
        repr((type(reading).__name__, *(_ordered(part) for part in reading if not isinstance(part, dict) or isinstance(reading, Sample)))).replace("-0.0", "0.0")
        if not isinstance(reading, InvalidSample)
        else repr(reading[:3])
        for reading in found
    ]  # fmt: skip


def _ordered(part: Any) -> Any:
    return sorted(part.items()) if isinstance(part, dict) else part


# Values of two kinds, which protobuf's reader takes one kind after the other.
_TWO_KINDS = [{"key": "b", "value": {"intValue": "0"}}, {"key": "a", "value": {"stringValue": "0"}}]


@pytest.mark.slow
@given(_REQUEST)
@example(
    {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {
                        "metrics": [
                            {
                                "name": "m",
                                "gauge": {"dataPoints": [{"asDouble": 0.0, "attributes": _TWO_KINDS}]},
                            }
                        ]
                    }
                ]
            }
        ]
    }
)
@settings(max_examples=60)
def test_both_encodings_of_a_request_become_the_same_samples(request: Any) -> None:
    in_json = list(otlp_json.decode(json.dumps(request), HINT))
    in_protobuf = list(otlp_protobuf.decode(protobuf(request), HINT))
    assert _comparable(in_protobuf) == _comparable(in_json)


def test_protobuf_of_more_values_than_are_read_is_refused() -> None:
    many = b"\x0a\x00" * 500_001
    began = time.process_time()
    (found,) = otlp_protobuf.decode(many, HINT)
    assert isinstance(found, InvalidSample)
    assert "values" in found.message
    assert time.process_time() - began < 5


def test_protobuf_nested_without_end_is_refused() -> None:
    value = b""
    for _ in range(100):
        value = (
            b"\x2a"
            + _length(len(b"\x0a" + _length(len(value)) + value))
            + b"\x0a"
            + _length(len(value))
            + value
        )
    attribute = b"\x12" + _length(len(value)) + value
    for tag in (b"\x0a", b"\x0a", b"\x0a"):
        attribute = tag + _length(len(attribute)) + attribute
    (found,) = otlp_protobuf.decode(attribute, HINT)
    assert isinstance(found, InvalidSample)
    assert "deeply" in found.message


def _length(size: int) -> bytes:
    return bytes([size & 0x7F | 0x80, size >> 7]) if size > 0x7F else bytes([size])
