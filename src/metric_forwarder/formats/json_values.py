"""What formats in JSON share: values one after the other, and numbers that may be texts.

A message may hold one value, JSON Lines, or objects printed in a row.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import NotJson, Violation, decode, values_in_a_row
from metric_forwarder.formats.samples import NO_FLOAT, InvalidSample, WrongSample


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


is_number_text = re.compile(
    r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)",
    re.IGNORECASE,
).fullmatch


def read_number(value: Any) -> float | int:
    """A number, or the text of one, which may be ``NaN`` or ``+Inf``.

    Raises:
        WrongSample: it is neither, or does not fit into 64 bits.
    """
    kind = type(value)
    if kind is int or (kind is float and value - value == 0):
        return value  # type: ignore[no-any-return]  # checked here
    is_text = isinstance(value, str) and is_number_text(value) is not None
    if not is_text and kind is not float:
        message = 'is not a number: it must be one, or the text of one, such as "9.5", "NaN" or "+Inf"'
        raise WrongSample("value", message)
    number = float(value)
    if is_text and (number - number == 0 or not value[-1].isdigit()):
        return number
    # A number such as 1e999: JSON has no infinity, and a text names it.
    raise WrongSample("value", NO_FLOAT)
