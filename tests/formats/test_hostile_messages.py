"""A message that is made to cost time or memory is refused as documented, in under a second of a processor."""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cramjam
import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.samples import MAX_SAMPLES, FormatHint, InvalidSample, Sample

HINT = FormatHint()
MAPPING = Mapper({"name": "/n", "value": "/v/*", "labels": "/l"})
LABELS = {f"t{number}": "x" * 600 for number in range(99)}
ATTRIBUTES = [{"key": key, "value": {"stringValue": text}} for key, text in LABELS.items()]


def varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def counted(content: bytes) -> bytes:
    return varint(len(content)) + content


def snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))


def otlp(metric: dict[str, Any], resource: list[Any] = []) -> str:  # noqa: B006 - read only
    group = {"resource": {"attributes": resource}, "scopeMetrics": [{"metrics": [metric]}]}
    return json.dumps({"resourceMetrics": [group]})


NAME = field(1, field(1, b"__name__") + field(2, b"up"))
SAMPLE = b"\x12\x0b\x09" + b"\0" * 8 + b"\x10\x01"
# What it is, its format, how it is made, and the rule that it breaks; None: nothing of it is a sample.
HOSTILE: dict[str, tuple[Format, Callable[[], str | bytes], str | None]] = {
    "100 MB of #": (Format.PROMETHEUS_TEXT, lambda: "#" * 100_000_000, "size"),
    "100 MB of # in bytes": (Format.INFLUX, lambda: b"#" * 100_000_000, "size"),
    "two million comments": (Format.INFLUX, lambda: "#\n" * 2_000_000, "size"),
    "a million comments": (Format.PROMETHEUS_TEXT, lambda: "#\n" * 1_000_000, None),
    "a million blank lines": (Format.INFLUX, lambda: "\n" * 1_000_000, None),
    "16 MB of spaces": (Format.INFLUX, lambda: "m" + " " * 16_000_000 + "f=1 2 3", "syntax"),
    "a million tags": (Format.INFLUX, lambda: "m," + ",".join(f"a{n}=b" for n in range(1_000_000)) + " f=1", "size"),
    "a million escaped tags": (Format.INFLUX, lambda: r"m\,x" + ",a=b" * 1_000_000 + " f=1", "size"),
    "a million tags of Telegraf": (Format.TELEGRAF_JSON, lambda: json.dumps({"name": "m", "fields": {"f": 1}, "tags": {f"a{n}": "b" for n in range(400_000)}}), "size"),
    "a million labels": (Format.PROMETHEUS_TEXT, lambda: "m{" + ",".join(f'a{n}="b"' for n in range(1_000_000)) + "} 1", "size"),
    "a million fields": (Format.INFLUX, lambda: "m " + "a=1," * 1_000_000 + "a=1", "size"),
    "a million escaped fields": (Format.INFLUX, lambda: r"m\,x a=1" + ",a=1" * 1_000_000, "size"),
    "a million bad lines": (Format.INFLUX, lambda: "m\n" * 1_000_000, "size"),
    "a million lines": (Format.PROMETHEUS_TEXT, lambda: "m 1\n" * 1_000_000, "size"),
    "tags that many fields share": (Format.TELEGRAF_JSON, lambda: json.dumps({"name": "m", "tags": LABELS, "fields": {f"f{n}": 1 for n in range(50_000)}}), "size"),
    "tags that many lines share": (Format.INFLUX, lambda: "\n".join(["m," + ",".join(f"{k}={v}" for k, v in LABELS.items()) + " " + ",".join(f"f{n}=1" for n in range(9_000))] * 10), "size"),
    "labels that a mapping shares": (Format.MAPPING, lambda: json.dumps({"n": "m", "l": LABELS, "v": list(range(90_000))}), "size"),
    "attributes that many points share": (Format.OTLP_JSON, lambda: otlp({"name": "m", "gauge": {"dataPoints": [{"asInt": 1}] * 3_000}}, [{"key": "service.name", "value": {"stringValue": "x" * 60_000}}]), "size"),
    "attributes that many buckets share": (Format.OTLP_JSON, lambda: otlp({"name": "m", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"count": 0, "attributes": ATTRIBUTES, "explicitBounds": list(range(90_000)), "bucketCounts": [0] * 90_001}]}}), "size"),
    "a name that many points share": (Format.OTLP_JSON, lambda: otlp({"name": "m" * 200_000, "gauge": {"dataPoints": [{"asInt": 1}] * 50_000}}), "size"),
    "a million opening brackets": (Format.TELEGRAF_JSON, lambda: "[" * 1_000_000, "size"),
    "a hundred thousand brackets": (Format.KAFKA_ADAPTER, lambda: "[" * 100_000, "depth"),
    "a million objects": (Format.KAFKA_ADAPTER, lambda: "{}\n" * 1_000_000, "size"),
    "an exemplar of 60 KB, often": (Format.PROMETHEUS_TEXT, lambda: ("a 1 # {" + 'a="b",' * 9_000 + 'a="b"} 1\n') * 100 + "# EOF\n", "size"),
    "snappy that says 4 GB": (Format.REMOTE_WRITE, lambda: b"\xff\xff\xff\xff\x0f" + b"\0" * 100, "snappy"),
    "snappy that says 31 MB": (Format.REMOTE_WRITE, lambda: varint(31 * 2**20) + b"\0" * 100, "snappy"),
    "snappy that says too little": (Format.REMOTE_WRITE, lambda: b"\x05" + snappy(b"x" * 60)[1:], "snappy"),
    "a bomb of snappy": (Format.REMOTE_WRITE, lambda: snappy(bytes(33 * 2**20)), "snappy"),
    "protobuf that says 4 GB": (Format.REMOTE_WRITE, lambda: snappy(b"\x0a\xff\xff\xff\xff\x0f"), "protobuf"),
    "a million samples of a series": (Format.REMOTE_WRITE, lambda: snappy(field(1, NAME + SAMPLE * 1_000_000)), "size"),
    "millions of empty series": (Format.REMOTE_WRITE, lambda: snappy(b"\x0a\x00" * 3_000_000), "size"),
    "millions of labels": (Format.REMOTE_WRITE, lambda: snappy(field(1, field(1, b"") * 3_000_000)), "size"),
    "millions of unknown fields": (Format.REMOTE_WRITE, lambda: snappy(b"\x1a\x00" * 10_000_000), "size"),
    "millions of exemplars": (Format.REMOTE_WRITE, lambda: snappy(field(1, b"\x1a\x00" * 5_000_000)), "size"),
    "unknown fields in each sample": (Format.REMOTE_WRITE, lambda: snappy(field(1, NAME + field(2, b"\x18\x00" * 60) * 200_000)), "protobuf"),
    "a family that says 4 GB": (Format.PROMETHEUS_PROTOBUF, lambda: b"\xff\xff\xff\xff\x0f", "protobuf"),
    "millions of empty families": (Format.PROMETHEUS_PROTOBUF, lambda: b"\0" * 6_000_000, "protobuf"),
    "millions of empty metrics": (Format.PROMETHEUS_PROTOBUF, lambda: counted(field(1, b"m") + b"\x18\x03" + b"\x22\x02\x2a\0" * 1_500_000), "size"),
    "millions of empty labels": (Format.PROMETHEUS_PROTOBUF, lambda: counted(field(1, b"m") + field(4, b"\x0a\0" * 3_000_000)), "size"),
    "millions of empty buckets": (Format.PROMETHEUS_PROTOBUF, lambda: counted(field(1, b"m") + b"\x18\x04" + field(4, field(7, b"\x1a\0" * 3_000_000))), "size"),
    "OTLP that says 4 GB": (Format.OTLP_PROTOBUF, lambda: b"\x0a\xff\xff\xff\xff\x0f", "protobuf"),
    "OTLP within OTLP": (Format.OTLP_PROTOBUF, lambda: b"\x0a\x80\x80\x80\x01" * 100_000, "protobuf"),
    "millions of empty resources": (Format.OTLP_PROTOBUF, lambda: b"\x0a\x00" * 3_000_000, "protobuf"),
    "millions of bucket counts": (Format.OTLP_PROTOBUF, lambda: field(1, field(2, field(2, field(1, b"m") + field(9, b"\x10\x02" + field(1, field(6, bytes(8 * 500_000))))))), "protobuf"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", HOSTILE)
def test_a_message_that_is_made_to_be_expensive_is_cut_off_quickly(name: str) -> None:
    chosen, make, rule = HOSTILE[name]
    body = make()
    list(read(chosen, b"" if isinstance(body, bytes) else "", HINT, MAPPING))
    began = time.process_time()
    detect(body, HINT)
    found = list(read(chosen, body, HINT, MAPPING))
    taken = time.process_time() - began
    # CPU time, which a shared processor may double.
    assert taken < 2
    # What was read before the bound was met counts; the one invalid sample stands for the rest.
    assert len([reading for reading in found if isinstance(reading, Sample)]) <= MAX_SAMPLES
    rules = {reading.rule for reading in found if isinstance(reading, InvalidSample)}
    assert rules == ({rule} if rule else set())


# As many as a message may hold, each kept with what stands around it: no attack by its time, and 180 MB once.
MANY_BAD = otlp({"name": "m", "gauge": {"dataPoints": [{}] * 100_001}})

# Those of which a few KB, or nothing that is kept, would take hundreds of MB.
LARGE = (
    "100 MB of # in bytes",
    "tags that many fields share",
    "tags that many lines share",
    "labels that a mapping shares",
    "attributes that many points share",
    "attributes that many buckets share",
    "a name that many points share",
    "a million fields",
    "snappy that says 31 MB",
    "a bomb of snappy",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LARGE, "many bad data points"])
def test_what_is_made_to_take_memory_is_refused_before_it_takes_it(name: str) -> None:
    chosen, make, _ = HOSTILE.get(name, (Format.OTLP_JSON, lambda: MANY_BAD, None))
    body = make()
    tracemalloc.start()
    try:
        list(read(chosen, body, HINT, MAPPING))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Twice what a message may hold, and a large message decoded.
    assert peak < 80 * 2**20


def test_a_message_within_the_bounds_is_read_whole() -> None:
    lines = [f"m,host=h{number},zone=gz f=1,g=2" for number in range(2_000)]
    assert len([r for r in read(Format.INFLUX, "\n".join(lines), HINT) if isinstance(r, Sample)]) == 4_000
    tags = ",".join(f"t{number}={'x' * 100}" for number in range(90))
    wide = f"m,{tags} " + ",".join(f"f{number}=1" for number in range(3_000))
    assert len([r for r in read(Format.INFLUX, wide, HINT) if isinstance(r, Sample)]) == 3_000
