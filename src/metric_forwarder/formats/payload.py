"""Message → payload: JSON text becomes the members of its points, before anyone judges them.

The four forms of a payload are in docs/payload.md. Nothing here raises because of what a producer wrote: what
cannot be read comes back as a ``Violation``.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

_ENVELOPE = frozenset({"namespace", "dimensions", "points"})
# What a client of the receiver sends beside Namespace and Data belongs to its request, not to its points.
_REQUEST_BODY = frozenset(
    {"Namespace", "Data", "Action", "SecretId", "Region", "Timestamp", "Nonce", "Signature"}
)
# Of an envelope; what is wrong with it is told once, however many points it holds.
_MAX_VIOLATIONS = 100
# Dimensions that an envelope gives its points: about three times as many as a destination takes.
_MAX_INHERITED = 100

# Of a message: about 11 MB of points as they usually are. All points of an event are held until its report is written.
MAX_POINTS = 100_000
# Commas and opening brackets of a message, outside of its texts; each stands for a value, which takes up to 120 bytes once it
# is decoded. 8 MB of points have 440,000, and 8 KB of gzip may hold millions.
MAX_VALUES = 500_000
# Too short a text to hold enough of them to matter.
_UNCOUNTED = 250_000

# Longer texts are not split: what is around a value is kept for each series.
_LONGEST_SPLIT = 1000
_VALUE = '"value":'
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class Violation(NamedTuple):
    """One thing that is wrong, and where: a JSON pointer into the payload, the rule, what would be right."""

    pointer: str
    rule: str
    message: str


class NotJson:
    """Stands where the text said something JSON does not allow, so that only the point holding it is refused.

    It is no JSON type, so no schema accepts it.

    Attributes:
        raw: what stood there: a literal, or the members of an object, in their order.
    """

    __slots__ = ("message", "raw", "rule")

    def __init__(self, rule: str, message: str, raw: str | Sequence[tuple[str, Any]] = "null") -> None:
        self.rule = rule
        self.message = message
        self.raw = raw

    def __repr__(self) -> str:
        return f"<{self.rule}>"


class Payload(NamedTuple):
    """The points of a message, as the producer wrote them, and where they stood.

    Attributes:
        points: decoded JSON values, defaults of an envelope merged in.
        prefix: the JSON pointer of the list that held them; None when the payload is itself a point.
        inherited: tells whether a member of a point came from its envelope: (index, path) → the pointer there.
        violations: what is wrong with the payload around its points; then none of them can be trusted.
    """

    points: Sequence[Any]
    prefix: str | None = None
    inherited: Callable[[int, Sequence[Any]], str | None] | None = None
    violations: tuple[Violation, ...] = ()

    def own(self, index: int) -> Any:
        """A point without what its envelope gives to all its points."""
        return self.points.own(index) if isinstance(self.points, _Merged) else self.points[index]

    @property
    def envelope(self) -> Mapping[str, Any] | None:
        """What the envelope gives to all its points, as an envelope without points; one object for all of them."""
        return self.points.envelope if isinstance(self.points, _Merged) else None

    def pointer(self, index: int) -> str:
        """The JSON pointer of a point."""
        return "" if self.prefix is None else f"{self.prefix}/{index}"

    def locate(self, index: int, path: Sequence[Any]) -> str:
        """The JSON pointer of a member of a point, in the envelope if it was inherited from there."""
        return (self.inherited and self.inherited(index, path)) or self.pointer(index) + json_pointer(path)


def json_pointer(path: Sequence[Any]) -> str:
    """Write a path as an RFC 6901 pointer, each step shortened to 100 characters."""
    return "".join("/" + str(step)[:100].replace("~", "~0").replace("/", "~1") for step in path)


def read_payload(body: Any) -> Payload:
    """Decode a message's body, and find its points."""
    return find_points(decode(body))


def holds_too_much(text: str | bytes) -> bool:
    """Whether decoding JSON text would take more memory than a small function has, whatever it says."""
    if len(text) <= _UNCOUNTED:
        return False
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    marks = _marks(content)
    # To tell apart what stands inside of texts takes ten times as long.
    return (
        marks > MAX_VALUES and marks - sum(_marks(text[0]) for text in _TEXT.finditer(content)) > MAX_VALUES
    )


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + text.count(b"[")


def decode(body: Any) -> Any:
    """Decode a message's body: JSON text, that text JSON-encoded once more, UTF-8 bytes, or decoded JSON.

    What cannot be decoded, or holds more than ``MAX_VALUES``, comes back as a ``Violation``.
    """
    if type(body) is str and len(body) <= _UNCOUNTED:
        try:
            decoded, end = _DECODER.raw_decode(body)
            if end == len(body) and type(decoded) is not str:
                return decoded
        except (ValueError, RecursionError):
            pass
    try:
        decoded = _decode(body) if isinstance(body, (str, bytes)) else body
        return _decode(decoded) if isinstance(decoded, str) else decoded
    except _Undecodable as undecodable:
        return undecodable.violation


def split_at_value(body: Any) -> tuple[tuple[str, str], Any] | None:
    """Take a message apart into the text around the value of a point, and that value; None if it is none or a long text.

    JSON says nothing about a text by the digits of a number in it, so texts that are the same around it differ in it
    alone. Whether it was the point's value, and the text JSON at all, is for whoever has decoded one of them to know.
    """
    if type(body) is not str or len(body) > _LONGEST_SPLIT:
        return None
    name = body.find(_VALUE)
    if name < 0:
        return None
    start = name + len(_VALUE)
    try:
        value, end = _DECODER.raw_decode(body, start + body.startswith(" ", start))
    except (ValueError, RecursionError):
        return None
    return (body[:start], body[end:]), value


def find_points(decoded: Any) -> Payload:
    """Take a decoded body apart."""
    if isinstance(decoded, dict):
        if "points" in decoded:
            return _envelope(decoded, "points", "namespace", _ENVELOPE)
        if "Data" in decoded:
            return _envelope(decoded, "Data", "Namespace", _REQUEST_BODY)
    elif isinstance(decoded, list):
        return _refused("", _TOO_MANY) if len(decoded) > MAX_POINTS else Payload(decoded, prefix="")
    elif isinstance(decoded, Violation):
        return Payload((None,), violations=(decoded,))
    elif isinstance(decoded, NotJson):
        return _refused("", (decoded.rule, decoded.message))
    return Payload((decoded,))


def _refused(pointer: str, wrong: tuple[str, str]) -> Payload:
    """A payload of which no point is looked at; it counts as one."""
    return Payload((None,), violations=(Violation(pointer, *wrong),))


def _envelope(
    envelope: Mapping[str, Any], list_key: str, namespace_key: str, known: frozenset[str]
) -> Payload:
    raw = envelope[list_key]
    if not isinstance(raw, list):
        return _refused(f"/{list_key}", ("type", "is not a list of points"))
    if len(raw) > MAX_POINTS:
        return _refused(f"/{list_key}", _TOO_MANY)
    violations = tuple(
        Violation(
            json_pointer([key]),
            "additionalProperties",
            f"is no member of this form of payload: it may have {', '.join(sorted(known))}",
        )
        for key in islice((key for key in envelope if key not in known), _MAX_VIOLATIONS)
    )
    dimensions = envelope.get("dimensions", {})
    if not isinstance(dimensions, dict):
        violations += (Violation("/dimensions", "type", "is not an object of names and values"),)
    elif len(dimensions) > _MAX_INHERITED:
        more = f"has {len(dimensions)} members, more than any destination takes: leave some out"
        violations += (Violation("/dimensions", "maxProperties", more),)
    if violations:
        # Even an empty list counts then: whatever the producer meant to send stands in the unknown member.
        return Payload(raw or (None,), f"/{list_key}", violations=violations)
    defaults = {"namespace": envelope[namespace_key]} if namespace_key in envelope else {}
    if not defaults and not dimensions:
        return Payload(raw, f"/{list_key}")

    def inherited(index: int, path: Sequence[Any]) -> str | None:
        own = raw[index]
        if list(path) == ["namespace"] and "namespace" not in own:
            return f"/{namespace_key}"
        if len(path) == 2 and path[0] == "dimensions" and path[1] not in own.get("dimensions", ()):  # noqa: PLR2004
            return json_pointer(path)
        return None

    return Payload(_Merged(raw, defaults, dimensions), f"/{list_key}", inherited)


_TOO_MANY = ("size", f"holds more than {MAX_POINTS} points: split it")


class _Merged(Sequence[Any]):
    """The points of an envelope with its defaults, each merged when it is asked for: a million may share a hundred."""

    def __init__(
        self, points: Sequence[Any], defaults: Mapping[str, Any], dimensions: Mapping[str, Any]
    ) -> None:
        self._points = points
        self._defaults = defaults
        self._dimensions = dimensions
        self.envelope = {**defaults, "dimensions": dimensions} if dimensions else defaults

    def own(self, index: int) -> Any:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: Any) -> Any:
        return _merge(self._defaults, self._dimensions, self._points[index])


def _merge(defaults: Mapping[str, Any], dimensions: Mapping[str, Any], point: Any) -> Any:
    if isinstance(point, NotJson):
        # Nothing can be merged into it: whoever mends it needs what stood around it.
        around = [*defaults.items(), ("dimensions", dimensions), ("points", [point])]
        return NotJson(point.rule, point.message, around)
    if not isinstance(point, dict):
        return point
    merged = {**defaults, **point}
    own = point.get("dimensions", {})
    if dimensions and isinstance(own, dict):
        merged["dimensions"] = {**dimensions, **own}
    return merged


class _Undecodable(Exception):
    """Never leaves this module."""

    def __init__(self, rule: str, message: str) -> None:
        self.violation = Violation("", rule, message)


def _decode(text: str | bytes) -> Any:
    """Decode what may have white space or a byte order mark around it, and say what is wrong with it."""
    if holds_too_much(text):
        raise _Undecodable("size", f"holds more than {MAX_VALUES} values: split it")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return _DECODER.decode(decoded.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise _Undecodable(
            "encoding", f"is not UTF-8 at byte {error.start}: encode the payload as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _Undecodable("json", f"is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise _Undecodable("depth", "is nested too deeply: a payload has at most a few levels") from None
    except ValueError:
        # An integer literal of more digits than Python converts.
        raise _Undecodable("json", "holds a number with too many digits: write it as a float") from None


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """Refuse what ``json`` lets pass: of two equal names it would keep the last, in silence."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return NotJson("duplicate-key", f'holds the name "{twice[:60]}" twice: keep one', pairs)


def _constant(name: str) -> NotJson:
    return NotJson("not-finite", f"{name} is no JSON number: send a finite number, or no point", name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
