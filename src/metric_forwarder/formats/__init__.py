"""Messages become samples: one module for each payload format, and one table.

``payload`` reads our own JSON and is always loaded. Every other format's module is loaded with its first message.
docs/formats.md describes each format for people.
"""

from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from itertools import islice
from typing import Any, cast

from metric_forwarder.formats.samples import Decoder, FormatHint, InvalidSample, Reading

# Of a message; all points of an event are held until its report is written.
MAX_SAMPLES = 100_000
# Shorter messages cannot hold as many: the shortest samples take four characters, as in ``,a=1``.
_UNCOUNTED = 400_000


class Format(str, Enum):
    """A payload format by its name in ``MF_FORMAT``."""

    JSON = "json"
    INFLUX = "influx"
    TELEGRAF_JSON = "telegraf-json"
    PROMETHEUS_TEXT = "prometheus-text"
    OTLP_JSON = "otlp-json"
    OTLP_PROTOBUF = "otlp-protobuf"
    KAFKA_ADAPTER = "kafka-adapter"
    REMOTE_WRITE = "remote-write"
    MAPPING = "mapping"


# The modules by name, since importing them here would load them; each has a ``Decoder`` named ``decode``.
_MODULES = {
    Format.INFLUX: "influx",
    Format.TELEGRAF_JSON: "telegraf_json",
    Format.PROMETHEUS_TEXT: "prometheus_text",
    Format.OTLP_JSON: "otlp_json",
    Format.OTLP_PROTOBUF: "otlp_protobuf",
    Format.KAFKA_ADAPTER: "kafka_adapter",
    Format.REMOTE_WRITE: "remote_write",
    Format.MAPPING: "mapping",
}

# Whose length says little about how many samples they hold.
_COMPRESSED = (Format.OTLP_PROTOBUF, Format.REMOTE_WRITE)


def decoder(name: Format) -> Decoder:
    """The decoder of a format other than our own JSON; its module is loaded now."""
    return cast("Decoder", import_module(f"{__name__}.{_MODULES[name]}").decode)


def read(name: Format, body: Any, hint: FormatHint, mapping: Decoder | None = None) -> Iterator[Reading]:
    """Read a message of a format other than our own JSON; one that holds too many samples is refused as a whole.

    Args:
        name: which format.
        body: text or bytes; for a JSON format also what was decoded on the way.
        hint: what is known besides.
        mapping: reads ``Format.MAPPING``; None: there is no mapping.
    """
    decode = mapping if name is Format.MAPPING and mapping is not None else decoder(name)
    readings = decode(body, hint)
    if isinstance(body, (str, bytes)) and len(body) <= _UNCOUNTED and name not in _COMPRESSED:
        return readings
    found = list(islice(readings, MAX_SAMPLES + 1))
    if len(found) <= MAX_SAMPLES:
        return iter(found)
    return iter((InvalidSample("", "size", f"holds more than {MAX_SAMPLES} samples: split it", body),))
