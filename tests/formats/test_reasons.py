"""What is told of a message that cannot be read: what is wrong, and what would be right."""

import json
import random
from typing import Any

import cramjam
import pytest

from metric_forwarder import formats
from metric_forwarder.formats import Format
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.samples import FormatHint, InvalidSample
from support.harness import Harness, ckafka, make_harness, outcomes

HINT = FormatHint()
OTLP = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeMetrics": [
                {
                    "scope": {"name": "meter", "version": "1"},
                    "metrics": [
                        {
                            "name": "t",
                            "unit": "s",
                            "gauge": {
                                "dataPoints": [{"timeUnixNano": "1767225600000000000", "asDouble": 1.5}]
                            },
                        },
                        {
                            "name": "h",
                            "histogram": {
                                "aggregationTemporality": 2,
                                "dataPoints": [
                                    {
                                        "timeUnixNano": 1767225600000000000,
                                        "count": "3",
                                        "sum": 2.5,
                                        "bucketCounts": ["1", "2"],
                                        "explicitBounds": [1],
                                    }
                                ],
                            },
                        },
                        {
                            "name": "n",
                            "sum": {"aggregationTemporality": 1, "dataPoints": [{"asInt": "5"}]},
                        },
                    ],
                }
            ],
        }
    ]
}
SERIES = b"\x0a\x1a\x0a\x0d\x0a\x08__name__\x12\x01m\x12\x09\x09\0\0\0\0\0\0\xf0\x3f"
GOOD: dict[Format, bytes] = {
    Format.JSON: b'[{"metricName":"m","dimensions":{"a":"b"},"value":1,"timestamp":1767225600,"id":"x"}]',
    Format.INFLUX: b'cpu,host=a\\ b,x=y idle=1.5,n=3i,u=4u,ok=true,t="a \\" b" 1767225600000000000\n',
    Format.TELEGRAF_JSON: b'{"metrics":[{"name":"cpu","tags":{"a":"b"},"fields":{"x":1,"y":true},"timestamp":1767225600}]}',
    Format.KAFKA_ADAPTER: b'{"timestamp":"2026-01-01T00:00:00Z","value":"1.5","name":"m","labels":{"__name__":"m","a":"b"}}',
    Format.PROMETHEUS_TEXT: b'# TYPE m counter\nm_total{a="b",c="\\"d"} 1.5 1767225600 # {t="x"} 1 2\n{"q",a="b"} 2\n# EOF\n',
    Format.PROMETHEUS_PROTOBUF: b"\x1d\x0a\x01m\x18\x01\x22\x16\x0a\x06\x0a\x01a\x12\x01b\x12\x09\x09"
    + b"\0" * 8
    + b"\x30\x05",
    Format.OTLP_JSON: json.dumps(OTLP).encode(),
    Format.OTLP_PROTOBUF: b"\x0a\x10\x12\x0e\x12\x0c\x0a\x01m\x2a\x07\x0a\x05\x21\0\0\0\0",
    Format.REMOTE_WRITE: bytes(cramjam.snappy.compress_raw(SERIES)),
    Format.MAPPING: b'{"m":[{"n":"cpu","v":{"a":1,"b":"2"},"l":{"x":"y"},"t":1767225600,"u":"z"},{"n":"m","v":[3],"l":[{"name":"x","value":1}],"t":"2026-01-01T00:00:00Z","u":1}]}',
}
MAPPING = Mapper({"each": "/m", "name": "/n", "value": "/v/*", "labels": ["/l", {"u": "/u"}], "time": "/t"})
PIECES = (b'"', b"{", b"}", b"[", b",", b"=", b" ", b"\n", b"\\", b"null", b"-1", b"1e999", b"9" * 25 + b"i", b"__", b"\xff", b"\0", b"0", b"{}", b'""', b"a" * 40)  # fmt: skip


def mutated(text: bytes, draw: random.Random) -> bytes:
    """The text with a few pieces removed, repeated or put in."""
    for _ in range(draw.randint(1, 3)):
        begin = draw.randrange(len(text) + 1)
        end = begin + draw.choice((0, 0, 1, 1, 2, 5, 20))
        text = text[:begin] + draw.choice((b"", text[begin:end] * 2, draw.choice(PIECES))) + text[end:]
    return text


def tells_a_remedy(message: str) -> bool:
    what, colon, remedy = message.partition(": ")
    return bool(what and colon and remedy)


def reasons(name: Format, text: bytes) -> list[str]:
    if name is Format.JSON:
        report = make_harness().handle(ckafka(text.decode("latin-1")))
        return [error["message"] for error in report["errors"]]
    body = text if "protobuf" in name or name is Format.REMOTE_WRITE else text.decode("utf-8", "replace")
    readings = formats.read(name, body, HINT, MAPPING)
    return [reading.message for reading in readings if isinstance(reading, InvalidSample)]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_whatever_is_wrong_with_a_message_its_reason_tells_what_would_be_right(name: Format) -> None:
    draw = random.Random(13)
    told = {
        message: text
        for text in (mutated(GOOD[name], draw) for _ in range(300 if name is Format.JSON else 3_000))
        for message in reasons(name, text)
    }
    assert len(told) > 3
    assert {message: text for message, text in told.items() if not tells_a_remedy(message)} == {}


@pytest.mark.parametrize("body", ["", " ", "\n\r\n\t", "\ufeff", "\ufeff \n", '""', '" "'])
def test_an_empty_message_is_reported_as_empty(body: str) -> None:
    report = make_harness().handle(ckafka(body))
    assert outcomes(report) == {"invalid": 1}
    assert report["errors"][0]["message"] == "is empty: send a point, or no message"


WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
TEXTS = ['{"metricName":"m","dimensions":{},"value":1}', "cpu,host=a v=1", "m 1", "温度 v=1"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encoding", WIDE)
def test_utf_16_and_utf_32_are_recognised_and_reported(encoding: str, text: str) -> None:
    content = text.encode(encoding)
    if text.isascii():
        found = detect(content, HINT)
        assert isinstance(found, InvalidSample)
        assert found.message == "is in UTF-16 or UTF-32: encode it as UTF-8"
        for name in (Format.INFLUX, Format.PROMETHEUS_TEXT, Format.TELEGRAF_JSON, Format.OTLP_JSON):
            assert reasons_of(name, content) == ["is in UTF-16 or UTF-32: encode it as UTF-8"]
    # What a trigger made of the bytes.
    for wrong in ("latin-1", "utf-8"):
        report = make_harness().handle(ckafka(content.decode(wrong, "replace")))
        assert outcomes(report) == {"invalid": 1}
        if text.isascii():
            assert report["errors"][0]["message"] == "is in UTF-16 or UTF-32: encode it as UTF-8"


def reasons_of(name: Format, content: Any) -> list[str]:
    readings = formats.read(name, content, HINT)
    return [reading.message for reading in readings if isinstance(reading, InvalidSample)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "cpu v=1e999",
            "is a number that does not fit into a 64-bit float: the largest is 1.7976931348623157e308",
        ),
        (
            "cpu v=99999999999999999999i",
            "is a whole number of more than 64 bits: write it as a float, without the letter",
        ),
        ("cpu v=-1u", "is an unsigned number below 0: write i instead of u"),
        (
            "m 1e999",
            "is a number that does not fit into a 64-bit float: the largest is 1.7976931348623157e308",
        ),
    ],
)
def test_the_error_for_a_number_that_is_too_large_names_the_largest(line: str, reason: str) -> None:
    report = make_harness().handle(ckafka(line))
    assert [error["message"] for error in report["errors"]] == [reason]


@pytest.mark.parametrize("name", ["fields", "tags", "time", "x"])
def test_the_remedy_for_an_unknown_member_is_to_remove_it(name: str) -> None:
    harness: Harness = make_harness()
    point = {"metricName": "m", "dimensions": {}, "value": 1, name: {}}
    (error,) = harness.handle(ckafka(point))["errors"]
    assert error["message"] == (
        'is no member of a point: did you mean "timestamp"?'
        if name == "time"
        else "is no member of a point: remove it"
    )
