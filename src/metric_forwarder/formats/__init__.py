"""Messages become samples: one module for each payload format, and one table.

``payload`` reads our own JSON and is always loaded. The module of another format is loaded with its first message.
docs/formats.md describes each format.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, cast

from metric_forwarder.formats.samples import (
    MAX_SAMPLES,
    TOO_MANY,
    Decoder,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
)

# Characters of all names and labels in the samples of one message, which may hold them only once.
MAX_WRITTEN = 32 * 2**20
# Bytes that a label of a sample takes in memory, besides its characters.
_LABEL_BYTES = 50


class Format(str, Enum):
    """A payload format by its name in ``MF_FORMAT``."""

    JSON = "json"
    INFLUX = "influx"
    TELEGRAF_JSON = "telegraf-json"
    PROMETHEUS_TEXT = "prometheus-text"
    PROMETHEUS_PROTOBUF = "prometheus-protobuf"
    OTLP_JSON = "otlp-json"
    OTLP_PROTOBUF = "otlp-protobuf"
    KAFKA_ADAPTER = "kafka-adapter"
    REMOTE_WRITE = "remote-write"
    MAPPING = "mapping"


# The names of the modules, which are imported when needed; each has a ``Decoder`` named ``decode``.
_MODULES = {
    Format.INFLUX: "influx",
    Format.TELEGRAF_JSON: "telegraf_json",
    Format.PROMETHEUS_TEXT: "prometheus_text",
    Format.PROMETHEUS_PROTOBUF: "prometheus_protobuf",
    Format.OTLP_JSON: "otlp_json",
    Format.OTLP_PROTOBUF: "otlp_protobuf",
    Format.KAFKA_ADAPTER: "kafka_adapter",
    Format.REMOTE_WRITE: "remote_write",
    Format.MAPPING: "mapping",
}

# The formats in which samples may share their labels.
_MERGING = frozenset({Format.OTLP_JSON, Format.OTLP_PROTOBUF, Format.PROMETHEUS_PROTOBUF, Format.MAPPING})


def decoder(name: Format) -> Decoder:
    """Load the decoder of a format other than our own JSON."""
    return cast("Decoder", import_module(f"{__name__}.{_MODULES[name]}").decode)


def read(name: Format, body: Any, hint: FormatHint, mapping: Decoder | None = None) -> Iterator[Reading]:
    """Read a message of a format other than our own JSON, one sample after the other.

    A list of them would take hundreds of bytes for each number that a message holds. What is beyond a bound is not read, and
    becomes one invalid sample.

    Args:
        name: which format.
        body: text or bytes; for a JSON format also decoded JSON.
        hint: what the trigger knows about the message.
        mapping: reads ``Format.MAPPING``; None: there is no mapping.
    """
    decode = mapping if name is Format.MAPPING and mapping is not None else decoder(name)
    # In these formats, and with labels from a path, each sample has its own copy of the labels.
    are_merged = name in _MERGING or bool(hint.labels)
    written = size = 0
    last: Mapping[str, str] | None = None
    for count, reading in enumerate(decode(body, hint)):
        if type(reading) is Sample:
            labels = reading.dimensions
            if labels is not last:
                last = labels
                size = _size(labels) + _LABEL_BYTES * len(labels) if are_merged else 0
            elif not size:
                size = _size(labels)
            written += size + len(reading.metric)
        if count >= MAX_SAMPLES or written > MAX_WRITTEN:
            reason = TOO_MANY if count >= MAX_SAMPLES else _TOO_MUCH
            # The whole message would be delivered again by each replay of its dead letter.
            rest = _lines_from(reading, body) if name is Format.PROMETHEUS_TEXT else None
            told = _NOT_READ if rest else _NOT_KEPT
            yield InvalidSample(reading.where, "size", f"{reason}: those before it are taken, {told}", rest)
            return
        yield reading


_TOO_MUCH = f"stands in a message that repeats more than {MAX_WRITTEN // 2**20} MB of names and labels for its samples"
_NOT_READ = "the others are not read, so split the message"
_NOT_KEPT = "the others are neither read nor kept as a dead letter, so split the message and send them again"


def _lines_from(reading: Reading, body: str | bytes) -> Any:
    """The lines of a message from a reading on; an exemplar comes after the sample of its line."""
    lines_before = int(reading.where.split()[1]) - (type(reading) is not FilteredSample)
    line_break: Any = "\n" if isinstance(body, str) else b"\n"
    begin = 0
    for _ in range(lines_before):
        begin = body.find(line_break, begin) + 1
    return body[begin:]


def _size(labels: Mapping[str, str]) -> int:
    return sum(map(len, labels)) + sum(map(len, labels.values()))
