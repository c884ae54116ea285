"""JSON values one after the other: one value, JSON Lines, or values without a separator."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from metric_forwarder.formats.payload import _DECODER, NotJson, Violation, decode, holds_too_much
from metric_forwarder.formats.samples import InvalidSample

# A value that begins a line; after text that is not JSON, reading goes on here.
_next_value = re.compile(r"\n(?=[{\[])").search
_skip_space = re.compile(r"\s*").match


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
    text = _several(body)
    if text is None:
        yield InvalidSample("", decoded.rule, decoded.message, body)
        return
    yield from _read_row(text)


def _several(body: Any) -> str | None:
    """The text of a message that holds more than one value, or other text after the first."""
    if isinstance(body, bytes):
        try:
            body = body.decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(body, str) or holds_too_much(body):
        return None
    text = body.removeprefix("\ufeff")
    try:
        _, end = _DECODER.raw_decode(text, _begin(text, 0))
    except (ValueError, RecursionError):
        return text if _next_value(text) else None
    return text if _begin(text, end) < len(text) else None


def _begin(text: str, position: int) -> int:
    match = _skip_space(text, position)
    return match.end() if match else position


def _read_row(text: str) -> Iterator[Value | InvalidSample]:
    """Read one part of the text after the other, each from the beginning of a value to the next that begins a line.

    So an error costs only the time of its part: ``json`` counts the lines before an error.
    """
    begin, number = 0, 1
    # A value may reach over several parts; the search for its end is limited, since there may be many bad values.
    steps_left = 4 * len(text)
    while begin < len(text):
        found = _next_value(text, begin)
        end = found.end() if found else len(text)
        stretch, position = text[begin:end], _begin(text, begin) - begin
        while position < len(stretch):
            place = f"value {number} "
            try:
                decoded, position = _DECODER.raw_decode(stretch, position)
                yield Value(place, decoded)
            except (ValueError, RecursionError):
                longer = _read_over(text, begin + position) if steps_left > 0 and end < len(text) else None
                steps_left -= end if longer is None else 0
                if longer is None:
                    raw = stretch[position:].rstrip()
                    yield InvalidSample(
                        place.strip(),
                        "json",
                        "is not JSON, or nested too deeply: correct it at its producer",
                        raw,
                    )
                    position = len(stretch)
                else:
                    yield Value(place, longer[0])
                    end = longer[1]
                    stretch = ""
            number += 1
            position = _begin(stretch, position)
        begin = end


def _read_over(text: str, position: int) -> tuple[Any, int] | None:
    """Decode a value that reaches beyond its part."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None


def not_json(where: str, value: NotJson) -> InvalidSample:
    """The error for a value that JSON does not allow."""
    return InvalidSample(where, value.rule, value.message, value)
