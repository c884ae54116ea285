"""CPU time to read a sample of each format, detection included, compared with the floor and a plain decoder of that format.

The bound is a multiple of the floor's cost of a point in batches of 500, so that it is the same on every machine.
"""

import gc
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

import index
from benchmarks.processes import Subject, receiver
from benchmarks.rows import Pair, Row, compare
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect_decoding
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.samples import FormatHint, Sample
from support.remote_write import encode_series
from support.remote_write_decoder import decode as decode_remote_write

SAMPLES = 10_000
TURNS = 3
_NOW_S = 1_767_225_600
_FIELDS = 4
_HINT = FormatHint()
_MAPPER = Mapper(
    {"name": "/name", "value": "/fields/*", "labels": "/tags", "time": "/timestamp", "unit": "s"}
)


class Case(NamedTuple):
    """One format.

    Attributes:
        bound: the most that a sample may cost, as a multiple of the floor's cost of a point.
        body: a message of ``SAMPLES`` samples.
        plain: a decoder that checks nothing.
        is_named: whether a setting names the format; if not, its detection is measured too.
    """

    bound: float
    body: str | bytes
    plain: Callable[[Any], object]
    is_named: bool = False


def _influx() -> str:
    return "\n".join(
        f"cpu,host=h{n % 100},region=gz,cpu=cpu{n % 4} "
        f"user={n / 7:.6f},system={n / 11:.6f},idle={n / 13:.6f},n={n}i {_NOW_S}{n:09d}"
        for n in range(SAMPLES // _FIELDS)
    )


def _plain_influx(text: str) -> object:
    found = []
    for line in text.split("\n"):
        head, fields, at = line.split(" ")
        name, *tags = head.split(",")
        labels = dict(tag.split("=") for tag in tags)
        for field in fields.split(","):
            key, _, value = field.partition("=")
            found.append((name, key, labels, float(value.rstrip("i")), int(at)))
    return found


def _metrics() -> list[dict[str, Any]]:
    return [
        {
            "name": "cpu",
            "tags": {"host": f"h{n % 100}", "region": "gz", "cpu": f"cpu{n % 4}"},
            "fields": {"user": n / 7, "system": n / 11, "idle": n / 13, "n": n},
            "timestamp": _NOW_S + n,
        }
        for n in range(SAMPLES // _FIELDS)
    ]


def _plain_metrics(text: str) -> object:
    decoded = json.loads(text)
    metrics = decoded["metrics"] if isinstance(decoded, dict) else decoded
    return [
        (metric["name"], key, metric["tags"], value, metric["timestamp"])
        for metric in metrics
        for key, value in metric["fields"].items()
    ]


def _text() -> str:
    lines = (
        f'http_requests_total{{method="get",code="200",path="/p{n % 50}",instance="h{n % 100}"}} {n} {_NOW_S + n}000'
        for n in range(SAMPLES)
    )
    return "# TYPE http_requests_total counter\n" + "\n".join(lines) + "\n"


def _attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def _otlp() -> str:
    resource = [_attribute("service.name", "api"), _attribute("service.instance.id", "i-1")]
    metrics = [
        {
            "name": f"http.server.requests.{metric}",
            "unit": "s",
            "sum": {
                "aggregationTemporality": 2,
                "isMonotonic": True,
                "dataPoints": [
                    {
                        "asDouble": n / 7,
                        "startTimeUnixNano": f"{_NOW_S - 60}000000000",
                        "timeUnixNano": f"{_NOW_S}000000000",
                        "attributes": [
                            _attribute("http.method", "GET"),
                            _attribute("http.route", f"/r{n}"),
                            {"key": "http.status_code", "value": {"intValue": "200"}},
                        ],
                    }
                    for n in range(100)
                ],
            },
        }
        for metric in range(SAMPLES // 100)
    ]
    scopes = [{"scope": {"name": "lib"}, "metrics": metrics}]
    return json.dumps({"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": scopes}]})


def _plain_otlp(text: str) -> object:
    return [
        (
            metric["name"],
            {each["key"]: next(iter(each["value"].values())) for each in point["attributes"]},
            point["asDouble"],
            int(point["timeUnixNano"]),
        )
        for group in json.loads(text)["resourceMetrics"]
        for scope in group["scopeMetrics"]
        for metric in scope["metrics"]
        for point in metric["sum"]["dataPoints"]
    ]


def _remote_write() -> bytes:
    return compress(
        [
            encode_series(
                encode_labels(
                    [
                        ("__name__", "http_requests_total"),
                        ("code", "200"),
                        ("instance", f"h{n % 100}"),
                        ("job", "node"),
                        ("path", f"/p{n % 50}"),
                    ]
                ),
                [(n / 7, _NOW_S * 1000 + n % 20)],
            )
            for n in range(SAMPLES)
        ]
    )


def _adapter() -> str:
    return "\n".join(
        json.dumps(
            {
                "timestamp": "2026-01-01T00:00:00Z",
                "value": str(n / 7),
                "name": "up",
                "labels": {"__name__": "up", "instance": f"h{n % 100}", "job": "node"},
            }
        )
        for n in range(SAMPLES)
    )


def _plain_adapter(text: str) -> object:
    return [(each["labels"], float(each["value"])) for each in map(json.loads, text.split("\n"))]


def cases() -> Mapping[Format, Case]:
    return {
        Format.INFLUX: Case(2.4, _influx(), _plain_influx),
        Format.TELEGRAF_JSON: Case(1.6, json.dumps({"metrics": _metrics()}), _plain_metrics),
        Format.PROMETHEUS_TEXT: Case(2.0, _text(), lambda text: list(text_string_to_metric_families(text))),
        Format.OTLP_JSON: Case(3.0, _otlp(), _plain_otlp),
        Format.REMOTE_WRITE: Case(1.0, _remote_write(), decode_remote_write, is_named=True),
        Format.KAFKA_ADAPTER: Case(2.4, _adapter(), _plain_adapter),
        Format.MAPPING: Case(2.0, json.dumps(_metrics()), _plain_metrics, is_named=True),
    }


def _cpu_us(work: Callable[[], object]) -> float:
    """Measure ``work``, which reads ``SAMPLES`` samples, in microseconds a sample."""
    gc.collect()
    began = time.process_time()
    kept = work()
    taken = time.process_time() - began
    del kept
    return taken / SAMPLES * 1e6


def _read(name: Format, case: Case) -> list[Any]:
    body: Any = case.body
    if not case.is_named:
        _, body = detect_decoding(body, _HINT)
    return list(read(name, body, _HINT, _MAPPER))


def rows() -> list[Row]:
    # As the function does. A decoded message is a million objects: without this, much of the time is spent on looking for cycles.
    gc.set_threshold(index.OBJECTS_BETWEEN_COLLECTIONS)
    with receiver() as url, Subject("floor", url=url, batch=500) as floor:
        return compare([_pair(name, case, floor) for name, case in cases().items()], TURNS)


def _pair(name: Format, case: Case, floor: Subject) -> Pair:
    if sum(isinstance(each, Sample) for each in _read(name, case)) != SAMPLES:
        raise RuntimeError(f"not every sample of {name.value} was read")
    plain_us = median(_cpu_us(partial(case.plain, case.body)) for _ in range(TURNS))
    return Pair(
        f"CPU to read a sample of {name.value}, against the floor of batches of 500",
        case.bound,
        partial(_cpu_us, partial(_read, name, case)),
        lambda: floor.run(SAMPLES).cpu_s / SAMPLES * 1e6,
        lambda ours_us, floor_us: (
            f"{median(ours_us):.1f} µs; a plain decoder takes {plain_us:.1f} µs, the floor {median(floor_us):.1f} µs"
        ),
    )


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows()))
