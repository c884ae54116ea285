"""JSON text → values, for every format that is JSON: what is wrong with a text, and what JSON does not allow in it.

A message may hold one value or several. Nothing here raises because of what a producer wrote: what cannot be read comes back
as a ``Violation``, or as a ``NotJson`` in the place of one value.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Commas and opening brackets of a message, outside of its texts; each stands for a value, which takes up to 120 bytes once it
# is decoded. 8 MB of points have 440,000, and 8 KB of gzip may hold millions.
MAX_VALUES = 500_000
# A shorter text cannot hold that many, so it is not counted.
_UNCOUNTED = 250_000
# Characters of a text that are counted at once; this bounds the memory of counting.
_COUNTED_AT_ONCE = 65_536
# Rules that one of several values may break; all other rules concern the whole text.
_OF_ONE_VALUE = frozenset({"json", "depth"})
_SPACE = " \t\n\r"
# Characters of a body that are read at once after an error, and more only for a longer value: if each error were followed by
# all that is left, and counted the lines in it, reading would take quadratic time.
READ_AFTER_ERROR = 4_096
# Values of a body that are nested too deeply, at most: it is unknown where they end, so that other values are looked for in them.
_MOST_TOO_DEEP = 10
_find_value = re.compile(r"[^ \t\n\r]").search
# Where values may begin again after one that cannot be read: a line that begins with a bracket.
_BRACKET_LINE = re.compile(r"\n(?=[{\[])")
# ASCII in two or four bytes a character, behind a byte order mark or none. Compiled when the first such text comes.
_WIDE = r"(?:\0\0)?[^\0-\x7f]{0,4}(?:\0\0)?(?:(?:[\t\n\r -~]\0(?:\0\0)?){2}|(?:\0(?:\0\0)?[\t\n\r -~]){2})"
WIDE = "is in UTF-16 or UTF-32: encode it as UTF-8"


class Violation(NamedTuple):
    """One thing that is wrong: a JSON pointer into the payload, the rule, and the message with the remedy."""

    pointer: str
    rule: str
    message: str


class NotJson:
    """Replaces a value that JSON does not allow, so that only the point with it is invalid.

    It is not a JSON type, so no schema accepts it.

    Attributes:
        raw: the original: a literal, or the members of an object, in their order.
    """

    __slots__ = ("message", "raw", "rule")

    def __init__(self, rule: str, message: str, raw: str | Sequence[tuple[str, Any]] = "null") -> None:
        self.rule = rule
        self.message = message
        self.raw = raw

    def __repr__(self) -> str:
        return f"<{self.rule}>"


def json_pointer(path: Sequence[Any]) -> str:
    """Write a path as an RFC 6901 pointer, each step shortened to 100 characters."""
    return "".join("/" + str(step)[:100].replace("~", "~0").replace("/", "~1") for step in path)


def holds_too_much(text: str | bytes) -> bool:
    """Whether decoding JSON text would take more memory than a small function has."""
    if len(text) <= _UNCOUNTED:
        return False
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    # Leaving out what is inside strings takes several times as long.
    return _marks(content) > MAX_VALUES and _marks_outside_strings(content) > MAX_VALUES


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + text.count(b"[")


def _marks_outside_strings(content: bytes) -> int:
    """Count in linear time and memory for any text, JSON or not."""
    unescaped = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks, is_inside = 0, 0
    for start in range(0, len(unescaped), _COUNTED_AT_ONCE):
        parts = unescaped[start : start + _COUNTED_AT_ONCE].split(b'"')
        marks += _marks(b"".join(parts[is_inside::2]))
        is_inside = (is_inside + len(parts) - 1) % 2
    return marks


def decode(body: Any) -> Any:
    """Decode a message's body: JSON text, that text JSON-encoded once more, UTF-8 bytes, or decoded JSON.

    What cannot be decoded, or holds more than ``MAX_VALUES``, comes back as a ``Violation``.
    """
    decoded = decode_text(body) if isinstance(body, (str, bytes)) else body
    return decode_text(decoded) if isinstance(decoded, str) else decoded


def decode_text(text: str | bytes) -> Any:
    """Decode JSON that may have white space or a byte order mark around it; a ``Violation`` if it cannot be decoded."""
    if holds_too_much(text):
        return Violation("", "size", f"holds more than {MAX_VALUES} values: split it")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        if not decoded.strip(_SPACE + "\ufeff"):
            return Violation("", "json", "is empty: send a point, or no message")
        return _DECODER.decode(decoded.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        message = (
            WIDE if is_wide(text) else f"is not UTF-8 at byte {error.start}: encode the payload as UTF-8"
        )
        return Violation("", "encoding", message)
    except _UNREADABLE as error:
        return Violation("", "encoding", WIDE) if is_wide(text) else _explain(error)


def is_wide(body: str | bytes) -> bool:
    """Whether a text is in UTF-16 or UTF-32, or was taken for one byte a character on its way."""
    begin = body[:24]
    return re.match(_WIDE, begin if isinstance(begin, str) else begin.decode("latin-1")) is not None


def _explain(error: json.JSONDecodeError | RecursionError, before: tuple[int, int] = (0, 0)) -> Violation:
    """Explain an error of the decoder; ``before`` its text are so many lines, and characters in its first line."""
    if isinstance(error, RecursionError):
        return Violation("", "depth", "is nested too deeply: a payload has at most a few levels")
    lines, characters = before
    column = error.colno + (characters if error.lineno == 1 else 0)
    where = f"line {lines + error.lineno} column {column}"
    return Violation(
        "",
        "json",
        f"is not JSON ({error.msg.removesuffix(' at')} at {where}): correct it at its producer, or set MF_FORMAT if it is "
        "in another format",
    )


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """Replace an object with two equal names, of which ``json`` would keep the last one silently."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return NotJson("duplicate-key", f'holds the name "{twice[:60]}" twice: keep one', pairs)


def _constant(name: str) -> NotJson:
    return NotJson("not-finite", f"{name} is not a JSON number: send a finite number, or no point", name)


def _integer(digits: str) -> int | NotJson:
    try:
        return int(digits)
    except ValueError:
        return NotJson(
            "maximum", f"a number of {len(digits)} digits is beyond every number that can be sent", digits
        )


class _Decoder(json.JSONDecoder):
    """Also decodes integers of more digits than Python converts."""

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        try:
            return super().raw_decode(s, idx)
        except json.JSONDecodeError:
            raise
        except ValueError:
            return _DECODER_OF_LONG_INTEGERS.raw_decode(s, idx)


_DECODER = _Decoder(object_pairs_hook=_object, parse_constant=_constant)
# Calls a function for each integer, which takes time.
_DECODER_OF_LONG_INTEGERS = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer
)
_UNREADABLE = (json.JSONDecodeError, RecursionError)


def has_bracket_line(body: Any) -> bool:
    """Whether there may be values after one that cannot be read."""
    if isinstance(body, bytes):
        return b"\n{" in body or b"\n[" in body
    return isinstance(body, str) and _BRACKET_LINE.search(body) is not None


class ValueInARow(NamedTuple):
    """One of several values in a body: its place, its text, and what it is; a ``Violation`` if it cannot be read."""

    place: str
    text: str
    decoded: Any


def values_in_a_row(body: str | bytes, whole: Violation) -> Iterator[ValueInARow]:
    """The values of a body that is not one value, for which ``whole`` says why; none if nothing in it can be read."""
    if whole.rule not in _OF_ONE_VALUE:
        return
    text = _text_of(body)
    line, of_line, counted = 0, 0, 0
    for index, (begin, end, value) in enumerate(_values(text)):
        breaks = text.count("\n", counted, begin)
        line, of_line, counted = line + breaks, 1 if breaks else of_line + 1, begin
        if isinstance(value, _UNREADABLE):
            if index == 0 and end == len(text):
                return
            value = _explain(value, (line, begin - text.rfind("\n", 0, begin) - 1))  # noqa: PLW2901 - explained
        place = f"line {line + 1}" if of_line == 1 else f"line {line + 1} value {of_line}"
        yield ValueInARow(place, text[begin:end], value)


def _text_of(body: str | bytes) -> str:
    """The text in which decoding failed."""
    text = (body.decode() if isinstance(body, bytes) else body).removeprefix("\ufeff")
    decoded = decode_text(text) if text.lstrip().startswith('"') else None
    return decoded if isinstance(decoded, str) else text


def _values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Where each value begins and ends, and what it is; if it cannot be read, the error, in a text that begins there.

    After a value that cannot be read, reading starts again at the next line that begins with a bracket, but not before the
    place of the error: the lines before it are parts of the value, and would be other points without their envelope.
    """
    begin, size, too_deep = 0, len(text), 0
    while begin < len(text):
        # A part ends with a line: a line break cuts no number, text or word of JSON in two.
        part = text[begin : text.find("\n", begin + size) + 1 or len(text)]
        first, value = 0, None
        for first, end, value in _values_until_failure(part):
            if not isinstance(value, _UNREADABLE):
                yield begin + first, begin + end, value
        if not isinstance(value, _UNREADABLE):
            begin += len(part)
        elif first > 0:
            # It is read again as the first value of a part.
            begin += first
        elif begin + len(part) < len(text) and _place_of(value) == len(part):
            # What is missing may come behind this part.
            size = 2 * len(part)
        else:
            too_deep += isinstance(value, RecursionError)
            at = begin + max(_place_of(value) - 1, 0)
            found = _BRACKET_LINE.search(text, at) if too_deep <= _MOST_TOO_DEEP else None
            stop = found.end() if found else len(text)
            yield begin, stop, value
            begin, size = stop, READ_AFTER_ERROR


def _place_of(error: json.JSONDecodeError | RecursionError) -> int:
    """Where in its text an error is; 0 if that is unknown."""
    return error.pos if isinstance(error, json.JSONDecodeError) else 0


def _values_until_failure(text: str) -> Iterator[tuple[int, int, Any]]:
    """Where each value begins and ends, and what it is; the last may be an error."""
    end = 0
    while found := _find_value(text, end):
        begin = found.start()
        try:
            value, end = _DECODER.raw_decode(text, begin)
        except _UNREADABLE as error:
            yield begin, len(text), error
            return
        yield begin, end, value
