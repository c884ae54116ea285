"""Message → payloads: JSON text becomes the members of its points, which are not validated here.

The four forms of a payload are in docs/payload.md. Nothing here raises because of what a producer wrote: what
cannot be read comes back as a ``Violation``.

There are two paths. ``read_payloads`` is the careful path: it reads one message, and can say what is wrong with it.
``decode_together`` is the fast path: it reads many messages at once, or none. Where it reads them, the result is the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

from metric_forwarder.formats.json_text import (
    NotJson,
    Violation,
    decode,
    holds_too_much,
    json_pointer,
    values_in_a_row,
)

_ENVELOPE = frozenset({"namespace", "dimensions", "points"})
# The other members of a receiver's request, besides Namespace and Data: they are not part of its points.
_REQUEST_BODY = frozenset(
    {"Namespace", "Data", "Action", "SecretId", "Region", "Timestamp", "Nonce", "Signature"}
)
# Violations of an envelope, at most; they are reported once, not for each of its points.
_MAX_VIOLATIONS = 100
# Dimensions that an envelope gives its points: about three times as many as a destination takes.
_MAX_INHERITED = 100
# Points of a message, at most: usually about 11 MB. All points of an event are held until its report is written.
MAX_POINTS = 100_000
# Bytes that an envelope adds to each point, times the number of points: they are written out for each, in memory and in a
# request. 100,000 points may share 160 bytes.
MAX_SHARED_BYTES = 16 * 2**20
# Stands between messages that are decoded together; a message that holds it is decoded alone.
_SEPARATING = "metric_forwarder: next message"
_SEPARATOR = f',"{_SEPARATING}",'


class Payload(NamedTuple):
    """The points of a message, as the producer wrote them, and where they stood.

    Attributes:
        points: decoded JSON values, without what an envelope gives to all of them.
        prefix: the JSON pointer of the list that held them; None when the payload is itself a point.
        violations: what is wrong with the payload around its points; then all of them are invalid.
        place: its place among several payloads of a message, such as ``line 3``; empty if it is the only one.
        text: its text; None if it is the whole message.
        envelope: what an envelope gives to all its points, as an envelope without points; one object shared by all of them.
        namespace_key: the name of its namespace in the envelope.
    """

    points: Sequence[Any]
    prefix: str | None = None
    violations: tuple[Violation, ...] = ()
    place: str = ""
    text: str | None = None
    envelope: Mapping[str, Any] | None = None
    namespace_key: str = ""

    @property
    def is_first(self) -> bool:
        """Whether it is the first payload of its message."""
        return self.place in ("", "line 1")

    def merged(self, start: int = 0, stop: int | None = None) -> Sequence[Any]:
        """Some points with what their envelope gives to all, merged when they are asked for: a million may share a hundred."""
        points = self.points[start:stop]
        if self.envelope is None:
            return points
        defaults = dict(self.envelope)
        dimensions = defaults.pop("dimensions", None)
        if dimensions is None:
            # As most envelopes are: this needs no call for each point.
            return [{**defaults, **point} if type(point) is dict else point for point in points]
        return [_merge(defaults, dimensions, point) for point in points]

    def pointer(self, index: int) -> str:
        """The place of the payload, then the JSON pointer of a point."""
        return self.place if self.prefix is None else f"{self.place}{self.prefix}/{index}"

    def pointers(self, start: int, points: int) -> Sequence[str]:
        """The pointers of some points, one after the other."""
        if self.prefix is None:
            return [self.place] * points
        return _pointers(f"{self.place}{self.prefix}", start, points)

    def locate(self, index: int, path: Sequence[Any]) -> str:
        """The JSON pointer of a member of a point, in the envelope if it was inherited from there."""
        match path if self.envelope is not None else ():
            case ["namespace"] if "namespace" not in self.points[index]:
                return f"{self.place}/{self.namespace_key}"
            case ["dimensions", name] if name not in self.points[index].get("dimensions", ()):
                return self.place + json_pointer(path)
        return self.pointer(index) + json_pointer(path)


# A producer writes one list like another, so that their points share these texts.
@lru_cache(maxsize=4)
def _pointers(place: str, start: int, points: int) -> Sequence[str]:
    return [f"{place}/{index}" for index in range(start, start + points)]


def decode_together(texts: Sequence[str]) -> list[Any] | None:
    """Decode many messages with one call of the decoder; None if anything about one of them is unusual.

    The result is the same as ``decode`` gives for each text that is not a string. Three checks ensure that:

    - Each text is one JSON value: no text holds the separator, and every second item of the decoded list is the separator.
    - There is no NaN or Infinity: the decoder raises.
    - No object has a name twice, where the decoder would keep only the last: the members are as many as the quotes before a
      colon in the text. Other differences (such a quote inside a string, an object where a point has none) only add quotes.
    """
    text = f"[{_SEPARATOR.join(texts)}]"
    if holds_too_much(text):
        return None
    # Looking for one character first takes a twentieth of the time.
    if " :" in text or any(space in text and f"{space}:" in text for space in "\t\n\r"):
        return None
    try:
        decoded, end = _FAST_DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    between = len(texts) - 1
    is_aligned = (
        end == len(text)
        and len(decoded) == 2 * between + 1
        and decoded[1::2].count(_SEPARATING) == between == text.count(_SEPARATOR)
    )
    if not is_aligned:
        return None
    bodies: list[Any] = decoded[::2]
    named = text.count('":')
    return bodies if _members_of_points(bodies) == named or _members(bodies) == named else None


def _members_of_points(points: Sequence[Any]) -> int:
    """The members of points and of their dimensions; -1 if one is not a point."""
    try:
        return sum(map(_size, points)) + sum(map(_size, map(_dimensions, points)))
    except (KeyError, TypeError):
        return -1


_size = dict.__len__
_dimensions = itemgetter("dimensions")


def _members(values: Iterable[Any]) -> int:
    """The members of objects where a payload may have them; those of an object elsewhere are left out."""
    members = 0
    for value in values:
        if type(value) is dict:
            dimensions = value.get("dimensions")
            members += len(value) + (len(dimensions) if type(dimensions) is dict else 0)
            if "points" in value or "Data" in value:
                points = value.get("points", value.get("Data"))
                members += _members([points]) if type(points) is list else 0
        elif type(value) is list:
            found = _members_of_points(value)
            members += found if found >= 0 else _members(value)
    return members


def read_payload(body: Any) -> Payload:
    """Decode a message's body that is one JSON value, and find its points."""
    return find_points(decode(body))


def read_payloads(body: Any) -> Iterator[Payload]:
    """Decode a message's body, and find its points.

    A body may hold several JSON values, each a payload: concatenated, one a line, or over several lines. A value that
    cannot be read is one violation; the others are read.
    """
    decoded = decode(body)
    count = 0
    values = values_in_a_row(body, decoded) if isinstance(decoded, Violation) else ()
    for count, value in enumerate(values, 1):
        if count > MAX_POINTS:
            yield _invalid("", _TOO_MANY)._replace(place=value.place, text="")
            return
        yield find_points(decode(value.decoded))._replace(place=value.place, text=value.text)
    if count == 0:
        yield find_points(decoded)


def is_our_own(decoded: Any) -> bool:
    """Whether decoded JSON is certainly a payload of this module, and not of another format."""
    if type(decoded) is list:
        return not decoded or (type(decoded[0]) is dict and "metricName" in decoded[0])
    return type(decoded) is dict and (holds_points(decoded) or "metricName" in decoded)


def is_lone_point(decoded: Any) -> bool:
    """Whether decoded JSON is a point by itself."""
    return type(decoded) is dict and "metricName" in decoded and not holds_points(decoded)


def holds_points(decoded: Mapping[str, Any]) -> bool:
    """Whether an object is an envelope rather than a point."""
    return "points" in decoded or "Data" in decoded


def find_points(decoded: Any) -> Payload:
    """Take a decoded body apart."""
    if isinstance(decoded, dict):
        if "points" in decoded:
            return _envelope(decoded, "points", "namespace", _ENVELOPE)
        if "Data" in decoded:
            return _envelope(decoded, "Data", "Namespace", _REQUEST_BODY)
    elif isinstance(decoded, list):
        return _invalid("", _TOO_MANY) if len(decoded) > MAX_POINTS else Payload(decoded, prefix="")
    elif isinstance(decoded, Violation):
        return Payload((None,), violations=(decoded,))
    elif isinstance(decoded, NotJson):
        return _invalid("", (decoded.rule, decoded.message))
    return Payload((decoded,))


def _invalid(pointer: str, wrong: tuple[str, str]) -> Payload:
    """A payload that is invalid as a whole, without looking at its points; it counts as one point."""
    return Payload((None,), violations=(Violation(pointer, *wrong),))


def _envelope(
    envelope: Mapping[str, Any], list_key: str, namespace_key: str, known: frozenset[str]
) -> Payload:
    raw = envelope[list_key]
    if not isinstance(raw, list):
        return _invalid(f"/{list_key}", ("type", "is not a list: it must be a list of points"))
    if len(raw) > MAX_POINTS:
        return _invalid(f"/{list_key}", _TOO_MANY)
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
        violations += (
            Violation("/dimensions", "type", "is not an object: it must be an object of names and values"),
        )
    elif len(dimensions) > _MAX_INHERITED:
        more = f"has {len(dimensions)} members, more than any destination takes: leave some out"
        violations += (Violation("/dimensions", "maxProperties", more),)
    elif _shared_bytes(envelope.get(namespace_key), dimensions) * len(raw) > MAX_SHARED_BYTES:
        violations += (Violation("", "size", _SHARES_TOO_MUCH),)
    if violations:
        # Even an empty list counts as one point: the producer's data is probably in the unknown member.
        return Payload(raw or (None,), f"/{list_key}", violations=violations)
    shared = {"namespace": envelope[namespace_key]} if namespace_key in envelope else {}
    if dimensions:
        shared["dimensions"] = dimensions
    return Payload(raw, f"/{list_key}", envelope=shared or None, namespace_key=namespace_key)


def _shared_bytes(namespace: Any, dimensions: Mapping[str, Any]) -> int:
    """How much an envelope adds to each of its points."""
    texts = [namespace, *dimensions, *dimensions.values()]
    # A request holds "\\u1234" for a character that is not ASCII.
    return sum(len(text) if text.isascii() else 6 * len(text) for text in texts if isinstance(text, str))


_SHARES_TOO_MUCH = (
    "gives its points more dimensions and namespace than fit into memory, since they are written out for each point: shorten "
    f"them, or split the points; length times points is at most {MAX_SHARED_BYTES // 2**20} MB"
)
_TOO_MANY = ("size", f"holds more than {MAX_POINTS} points: split it")


def _merge(defaults: Mapping[str, Any], dimensions: Mapping[str, Any], point: Any) -> Any:
    if not isinstance(point, dict):
        return point
    merged = {**defaults, **point}
    own = point.get("dimensions", {})
    if isinstance(own, dict):
        merged["dimensions"] = {**dimensions, **own}
    return merged


def _raise_for_constant(name: str) -> NoReturn:
    raise ValueError(name)


_FAST_DECODER = json.JSONDecoder(parse_constant=_raise_for_constant)
