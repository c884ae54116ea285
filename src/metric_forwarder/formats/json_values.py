"""JSON values one after the other: a message may hold one, JSON Lines, or objects printed in a row."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import NotJson, Violation, decode, values_in_a_row
from metric_forwarder.formats.samples import InvalidSample


class Value(NamedTuple):
    """One decoded JSON value; ``prefix`` goes before a pointer into it."""

    prefix: str
    decoded: Any


def read_values(body: Any) -> Iterator[Value | InvalidSample]:
    """Decode the values of a message; a value that is not JSON does not affect the others."""
    decoded = decode(body)
    if not isinstance(decoded, Violation):
        yield Value("", decoded)
        return
    number = 0
    for number, value in enumerate(values_in_a_row(body, decoded), 1):
        place = f"value {number}"
        if isinstance(value.decoded, Violation):
            yield InvalidSample(place, "json", _NO_JSON, value.text.rstrip())
        else:
            yield Value(f"{place} ", value.decoded)
    if number == 0:
        yield InvalidSample("", decoded.rule, decoded.message, body)


def not_json(where: str, value: NotJson, kept: Any = None) -> InvalidSample:
    """The error for a value that JSON does not allow; a dead letter keeps it, or what it is a part of."""
    return InvalidSample(where, value.rule, value.message, value if kept is None else kept)


_NO_JSON = "is not JSON, or nested too deeply: correct it at its producer"
