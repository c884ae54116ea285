"""OTLP metrics as JSON → samples. Source: OpenTelemetry, OTLP, JSON protobuf encoding."""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.json_values import read_values
from metric_forwarder.formats.otlp import convert
from metric_forwarder.formats.samples import FormatHint, InvalidSample, Reading


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the data points of one or more requests; see ``Decoder``."""
    for value in read_values(body):
        if isinstance(value, InvalidSample):
            yield value
        elif isinstance(value.decoded, list):
            for index, request in enumerate(value.decoded):
                yield from convert(f"{value.prefix}/{index}", request, hint)
        else:
            yield from convert(value.prefix, value.decoded, hint)
