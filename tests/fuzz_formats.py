"""Coverage-guided fuzzing of the decoder of each format: ``make fuzz``, or ``fuzz_formats.py influx`` for one alone.

It ends with an error on any exception, on a reading that is none, on a sample that is counted twice, and where reading
takes much longer than its input is long.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["metric_forwarder.formats"]):
    from metric_forwarder.formats import Format, read
    from metric_forwarder.formats.detect import detect
    from metric_forwarder.formats.mapping import Mapper
    from metric_forwarder.formats.samples import FilteredSample, FormatHint, InvalidSample, Sample

import cramjam

HINTS = (FormatHint(), FormatHint("s", {"job": "x"}, "application/openmetrics-text", "labels"))
MAPPER = Mapper(
    {
        "each": "/m",
        "name": ["/n", "*"],
        "value": "/v/*",
        "labels": ["/l", {"u": {"message": "/u"}}],
        "time": "/t",
    }
)
_OTLP = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "a"}}]},
            "scopeMetrics": [
                {
                    "scope": {"name": "l"},
                    "metrics": [
                        {"name": "g", "unit": "s", "gauge": {"dataPoints": [{"asInt": "1", "timeUnixNano": "5"}]}},
                        {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                            {"count": 2, "sum": 1, "bucketCounts": [1, 1], "explicitBounds": [1]}]}},
                        {"name": "s", "summary": {"dataPoints": [
                            {"count": 1, "quantileValues": [{"quantile": 0.5, "value": 1}]}]}},
                    ],
                }
            ],
        }
    ]
}  # fmt: skip
_SERIES = b"\x0a\x1a\x0a\x0d\x0a\x08__name__\x12\x01m\x12\x09\x09\0\0\0\0\0\0\xf0\x3f"
SEEDS: dict[Format, tuple[bytes, ...]] = {
    Format.INFLUX: (b'cpu\\ x,h=a\\,b f=1.5,n=3i,u=4u,ok=t,s="a \\"\n b" 1767225600000000000\n# c\ncpu f=1',),
    Format.TELEGRAF_JSON: (b'{"metrics":[{"name":"c","tags":{"a":"b"},"fields":{"x":1,"y":true},"timestamp":1767225600}]}',),
    Format.PROMETHEUS_TEXT: (b'# TYPE m counter\nm_total{a="b",c="\\"d"} 1.5 1767225600 # {t="x"} 1 2\n{"q",a="b"} 2\n# EOF\n', b'm{a="b"} NaN 5\n'),
    Format.PROMETHEUS_PROTOBUF: (b"\x1d\x0a\x01m\x18\x01\x22\x16\x0a\x06\x0a\x01a\x12\x01b\x12\x09\x09" + b"\0" * 8 + b"\x30\x05",),
    Format.OTLP_JSON: (json.dumps(_OTLP).encode(),),
    Format.OTLP_PROTOBUF: (b"\x0a\x19\x12\x17\x12\x15\x0a\x01m\x2a\x10\x0a\x0e\x19\0\0\0\0\0\0\0\0\x21" + b"\0" * 8,),
    Format.KAFKA_ADAPTER: (b'{"timestamp":"2026-01-01T00:00:00Z","value":"1.5","name":"m","labels":{"__name__":"m","a":"b"}}',),
    Format.REMOTE_WRITE: (bytes(cramjam.snappy.compress_raw(_SERIES)), _SERIES),
    Format.MAPPING: (b'{"u":1,"m":[{"n":"c","v":{"a":1,"b":"2"},"l":{"x":"y"},"t":1767225600}]}',),
}  # fmt: skip
_SECONDS_AT_MOST = 2.0


def handle(name: Format) -> Callable[[bytes], None]:
    def handle_one(data: bytes) -> None:
        bodies: list[str | bytes] = [data]
        if name in (Format.REMOTE_WRITE, Format.OTLP_PROTOBUF):
            bodies.append(bytes(cramjam.snappy.compress_raw(data)))
        else:
            bodies.append(data.decode("utf-8", "surrogateescape"))
        began = time.process_time()
        for body in bodies:
            for hint in HINTS:
                detect(body, hint, has_mapping=True)
                _check(list(read(name, body, hint, MAPPER)))
        if time.process_time() - began > _SECONDS_AT_MOST:
            raise AssertionError("reading took too long")

    return handle_one


def _check(readings: list[object]) -> None:
    places = set()
    for reading in readings:
        if not isinstance(reading, (Sample, InvalidSample, FilteredSample)):
            raise TypeError("a decoder yields something else")
        if isinstance(reading, Sample):
            if reading.where in places and reading.where:
                raise AssertionError("two samples stand in one place")
            places.add(reading.where)
            if not reading.metric or not all(type(text) is str for text in reading.dimensions.values()):
                raise AssertionError("a sample has no name, or a label that is not a text")


def main() -> None:
    name = Format(sys.argv.pop(1))
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            handle(name)(seed)
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], handle(name))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
