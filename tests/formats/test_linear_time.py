"""However a producer repeats itself, reading takes time in proportion to what it wrote."""

import json
import time
from collections.abc import Callable
from itertools import product

import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.detect import detect
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.protobuf import write_field, write_varint
from metric_forwarder.formats.samples import FormatHint

HINT = FormatHint()
PREFIXES = ("", "a", "a ", "a{", 'a{b="', "a 1", "a,b=", "a b=", 'a b="', '{"a', '[{"')
FILLERS = (
    " ",
    "1",
    "a",
    '"',
    "\\",
    "\\ ",
    "\\,",
    ",",
    "=",
    "{",
    "}",
    'a="b",',
    "a=1,",
    ".",
    "é",
    "\t",
    '"" ',
)
SUFFIXES = ("", "x\n")


def _read(name: Format) -> Callable[[str], object]:
    return lambda text: list(read(name, text, HINT))


READERS: dict[str, Callable[[str], object]] = {
    "detection": lambda text: detect(text, HINT),
    **{
        name.value: _read(name)
        for name in (Format.INFLUX, Format.PROMETHEUS_TEXT, Format.TELEGRAF_JSON, Format.KAFKA_ADAPTER)
    },
}


def _cpu_seconds(reader: Callable[[str], object], text: str) -> float:
    return _seconds(lambda: reader(text))


def _seconds(action: Callable[[], object]) -> float:
    """The processor time of an action."""
    began = time.process_time()
    action()
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_line_of_one_thing_repeated_takes_time_in_proportion_to_its_length(
    reader: Callable[[str], object],
) -> None:
    for prefix, filler, suffix in product(PREFIXES, FILLERS, SUFFIXES):
        small, large = (prefix + filler * (length // len(filler)) + suffix for length in (1_500, 48_000))
        # Thirty-two times the text; a quadratic reader would take a thousand times as long.
        if (taken := _cpu_seconds(reader, large)) > 0.02:
            again = min(taken, _cpu_seconds(reader, large))
            assert again < 200 * _cpu_seconds(reader, small) + 0.02, (prefix, filler, suffix)


MAPPER = Mapper({"name": "/n", "value": "/v/*", "labels": ["/l", {"of": "*"}]})


def _otlp(parts: int) -> str:
    metric = {"name": "m", "description": "x" * parts * 15, "gauge": {"dataPoints": [{"asInt": 1.5}] * parts}}
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})


def _otlp_in_protobuf(parts: int) -> bytes:
    metric = write_field(1, b"m" * parts * 15) + write_field(5, write_field(1, b"") * parts)
    return write_field(1, write_field(2, write_field(2, metric)))


def _family(parts: int) -> bytes:
    family = write_field(1, b"m" * parts * 60) + b"\x18\x01" + write_field(4, b"") * parts
    return write_varint(len(family)) + family


def _telegraf(parts: int) -> str:
    fields = {f"f{number}": None for number in range(parts)}
    return json.dumps({"name": "m", "fields": fields} | dict.fromkeys(map(str, range(parts)), 1))


def _mapped(parts: int) -> str:
    labels = {f"l{number}": "x" for number in range(parts)}
    return json.dumps({"n": "m", "v": [1] * parts, "l": labels})


def _influx(parts: int) -> str:
    return f"m,a={'x' * parts * 400} " + ",".join(["b=z"] * parts)


# What many bad parts of a message share, and as many parts.
SHARING: dict[Format, Callable[[int], str | bytes]] = {
    Format.OTLP_JSON: _otlp,
    Format.OTLP_PROTOBUF: _otlp_in_protobuf,
    Format.PROMETHEUS_PROTOBUF: _family,
    Format.TELEGRAF_JSON: _telegraf,
    Format.MAPPING: _mapped,
    Format.INFLUX: _influx,
}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", SHARING, ids=[name.value for name in SHARING])
def test_bad_parts_take_time_in_proportion_to_the_message_however_long_what_they_share_is(
    name: Format,
) -> None:
    small, large = (SHARING[name](parts) for parts in (2_000, 8_000))
    taken = min(_seconds(lambda: list(read(name, large, HINT, MAPPER))) for _ in range(2))
    # Four times as much; a quadratic reader would take sixteen times as long.
    assert taken < 7 * _seconds(lambda: list(read(name, small, HINT, MAPPER))) + 0.05
