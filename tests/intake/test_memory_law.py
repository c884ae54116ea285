"""An event takes at most 80 MB plus twelve times its bytes, whatever its format and trigger, with the spool included.

Each event is handled by a process of its own, which tells the most memory that it ever held. The destination is down, so
that every point stays until its part of the event ends, and is spooled.
"""

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cramjam
import pytest

from support.harness import ROOT, ckafka
from support.peak_memory import RECEIVER, TOKEN, Taken, handle_alone
from support.remote_write import encode_series

MB = 2**20
MAPPING = '{"each": "/m", "name": "/n", "value": "/v/*", "labels": {"i": "*"}}'


class Input(NamedTuple):
    """An event, how many bytes it has once it is inflated, and an object of COS that it names."""

    event: Any
    size: int
    stored: bytes = b""


def one_message(text: str) -> Input:
    event = ckafka(text)
    return Input(event, len(json.dumps(event)))


def http(body: bytes, path: str, inflated: int, **headers: str) -> Input:
    headers["Authorization"] = f"Bearer {TOKEN}"
    event = {
        "httpMethod": "POST",
        "path": path,
        "headers": headers,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    return Input(event, max(len(json.dumps(event)), inflated))


def cos(body: bytes) -> Input:
    records = json.loads((ROOT / "tests" / "events" / "cos.json").read_text("utf-8"))["Records"][:1]
    return Input({"Records": records}, len(body), body)


def cls(count: int, line: str) -> Input:
    data = json.dumps({"records": [{"timestamp": "1", "content": line}] * count})
    packed = base64.b64encode(gzip.compress(data.encode())).decode()
    return Input({"clslogs": {"data": packed}}, len(data))


def otlp(kind: str, point: str, count: int, **data: Any) -> str:
    """A request with many equal data points; built as text, since there may be a hundred thousand."""
    head = json.dumps({**data, "dataPoints": [0]}).replace("[0]", f"[{','.join([point] * count)}]")
    metric = f'{{"name":"m","{kind}":{head}}}'
    return f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}'


def histogram(buckets: int, *, step: int) -> str:
    point = {
        "count": buckets,
        "bucketCounts": [1] * buckets,
        "explicitBounds": list(range(0, (buckets - 1) * step, step)),
    }
    return otlp("histogram", json.dumps(point, separators=(",", ":")), 1, aggregationTemporality=2)


def summary(quantiles: int) -> str:
    values = ",".join(f'{{"quantile":0.{number}}}' for number in range(1, quantiles + 1))
    return otlp("summary", f'{{"quantileValues":[{values}]}}', 1)


def remote_write(series: int, samples: int) -> Input:
    times = [1_767_225_600_000 + number for number in range(samples)]
    labels = [
        b"\x0a\x0d\x0a\x08__name__\x12\x01m" + b"\x0a\x0c\x0a\x01i\x12\x07%07d" % number
        for number in range(series)
    ]
    data = b"".join(encode_series(one, [(1.0, time) for time in times]) for one in labels)
    body = bytes(cramjam.snappy.compress_raw(data))
    return http(body, "/api/v1/write", len(data))


def otlp_protobuf(points: int) -> Input:
    # A number of one byte, and nothing else.
    inner = b"\x0a\x09\x31" + (1).to_bytes(8, "little")
    body = b"\x0a\x01m\x2a" + _counted(inner * points)
    for field in (b"\x12", b"\x12", b"\x0a"):
        body = field + _counted(body)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    return http(gzip.compress(body), "/v1/metrics", len(body), **headers)


def _counted(data: bytes) -> bytes:
    size, head = len(data), b""
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + data


INPUTS: dict[str, Callable[[], Input]] = {
    "OTLP, a histogram of 70,000 buckets": lambda: one_message(histogram(70_000, step=1)),
    "OTLP, a histogram of more buckets than are read": lambda: one_message(histogram(180_000, step=3)),
    "OTLP, a summary of 40,000 quantiles": lambda: one_message(summary(40_000)),
    "OTLP, points without a value": lambda: one_message(otlp("gauge", "{}", 150_000)),
    "OTLP, small points": lambda: one_message(otlp("gauge", '{"asInt":1}', 90_000)),
    "OTLP in protobuf, small points": lambda: otlp_protobuf(90_000),
    "influx, a field a line": lambda: one_message("".join(f"m a{n}=1\n" for n in range(95_000))),
    "influx, equal lines": lambda: one_message("m v=1\n" * 95_000),
    "influx, lines of many fields": lambda: one_message(
        "".join("m " + ",".join(f"f{n}=1" for n in range(k, k + 9_000)) + "\n" for k in range(0, 90_000, 9_000))
    ),
    "influx, a long tag and many fields": lambda: one_message(
        "m,a=" + "x" * 3_000 + " " + ",".join(f"f{n}=1" for n in range(9_000)) + "\n"
    ),
    "influx, bad lines": lambda: one_message("m a\n" * 95_000),
    "Prometheus text, small lines": lambda: one_message("m 1\n" * 99_000),
    "Prometheus text, a histogram": lambda: one_message(
        "".join(f'm_bucket{{le="{n}"}} {n}\n' for n in range(95_000))
    ),
    "Prometheus text, small series": lambda: one_message("".join(f'm{{a="{n}"}} 1\n' for n in range(95_000))),
    "Prometheus text, bad lines": lambda: one_message("m x\n" * 99_000),
    "Telegraf, small metrics": lambda: one_message(
        '{"metrics":[' + ",".join(['{"name":"m","fields":{"a":1}}'] * 30_000) + "]}"
    ),
    "Telegraf, a metric of many fields": lambda: one_message(
        '{"name":"m","fields":{' + ",".join(f'"{n}":1' for n in range(95_000)) + "}}"
    ),
    "prometheus-kafka-adapter, small samples": lambda: one_message(
        "\n".join(['{"labels":{"__name__":"m"},"value":"1"}'] * 50_000)
    ),
    "remote write, small series": lambda: remote_write(60_000, 1),
    "remote write, a series of many samples": lambda: remote_write(1, 90_000),
    "a mapping, a list of values": lambda: one_message(
        '{"m":[{"n":"m","v":[' + ",".join(["1"] * 99_000) + "]}]}"
    ),
    "a mapping, small items": lambda: one_message(
        '{"m":[' + ",".join(['{"n":"m","v":[1]}'] * 60_000) + "]}"
    ),
    "our own JSON, small points": lambda: one_message(
        "[" + ",".join(['{"metricName":"m","dimensions":{},"value":1}'] * 90_000) + "]"
    ),
    "our own JSON, small series": lambda: one_message(
        "[" + ",".join(f'{{"metricName":"m","dimensions":{{"a":"{n}"}},"value":1}}' for n in range(90_000)) + "]"
    ),
    "our own JSON, empty objects": lambda: one_message("[" + ",".join(["{}"] * 99_000) + "]"),
    "our own JSON, empty objects without a list": lambda: one_message("{}" * 99_000),
    "our own JSON, an envelope that shares much": lambda: one_message(
        '{"dimensions":{"a":"' + "x" * 3_000 + '"},"points":['
        + ",".join(['{"metricName":"m","value":1}'] * 5_000) + "]}"
    ),
    "COS, small lines": lambda: cos(b'{"metricName":"m","dimensions":{},"value":1}\n' * 95_000),
    "COS, numbers": lambda: cos(b"1\n" * 99_000),
    "CLS, small logs": lambda: cls(20_000, '{"metricName":"m","dimensions":{},"value":1}'),
    "CLS, logs that are no points": lambda: cls(20_000, "x"),
    "many messages of one point": lambda: Input(
        event := ckafka(*['{"metricName":"m","dimensions":{},"value":1}'] * 10_000), len(json.dumps(event))
    ),
}  # fmt: skip
REMOTE_WRITE = {"MF_DESTINATION": "remote-write", "MF_REMOTE_WRITE_URL": "http://r.test/w"}


def measure(
    given: Input, folder: Path, destination: dict[str, str], mood: str, *, spools: bool, mapping: str = ""
) -> Taken:
    """Let a process of its own handle the event."""
    settings = {**destination, **({"MF_MAPPING": mapping} if mapping else {})}
    return handle_alone(given.event, given.stored, folder, settings, mood, spools=spools)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux tells it"),
]


@pytest.mark.parametrize("name", INPUTS)
def test_an_event_takes_no_more_memory_than_is_promised(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    given = INPUTS[name]()
    mapping = MAPPING if "mapping" in name else ""
    taken = measure(given, tmp_path, REMOTE_WRITE, "down", spools=True, mapping=mapping)
    record_property("MB", round(taken.peak / MB))
    assert taken.outcomes
    assert taken.peak <= 80 * MB + 12 * given.size


@pytest.mark.parametrize("name", ["OTLP, a histogram of 70,000 buckets", "many messages of one point"])
def test_points_that_are_not_delivered_take_little_more_than_those_that_are(
    name: str, tmp_path: Path
) -> None:
    given = INPUTS[name]()
    delivered = measure(given, tmp_path, RECEIVER, "up", spools=False)
    undelivered = measure(given, tmp_path, RECEIVER, "down", spools=False)
    assert undelivered.outcomes.keys() == {"undelivered"}
    assert undelivered.peak <= delivered.peak + 20 * MB
