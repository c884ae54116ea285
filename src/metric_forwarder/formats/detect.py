"""Detects the format of a message, if neither a setting nor its trigger names it.

The first character that is not white space distinguishes JSON from lines. A JSON format is recognised by its members, a
format of lines by the shape of a line. Nothing is guessed: a message that fits two formats, or almost fits one, is invalid.
"""

import re
from collections.abc import Callable, Mapping
from itertools import islice, product
from typing import Any, NamedTuple

from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import WIDE, NotJson, decode_text, is_wide
from metric_forwarder.formats.json_values import read_values
from metric_forwarder.formats.payload import is_our_own
from metric_forwarder.formats.samples import FormatHint, InvalidSample

# Lines of a message that are examined, comments aside; a few that fit no format may come first.
_LOOKED_AT = 100
# JSON values of a message, or items of a list, that are examined.
_VALUES_LOOKED_AT = 10
# Characters of a line that are examined, since a pattern is matched against them.
_LONGEST_LINE = 65_536
# Characters that show whether a message is JSON; no producer's number is longer.
_BEGINNING = 200
# White space that may come before a message, including the byte order mark.
_BLANK = " \t\r\n\ufeff"

_OWN_MEMBERS = frozenset({"metricName", "dimensions", "points", "Data", "namespace", "Namespace"})
_NUMBER = r"[+-]?(?:[0-9.][0-9.eE+-]*|[iI][nN][fF]|[nN][aA][nN])"
_TEXT = r'"[^"\\]*(?:\\(?s:.)[^"\\]*)*"'
# Neighbouring parts never match the same character, so that matching takes linear time.
_prometheus_line = re.compile(
    rf'(?:[a-zA-Z_:][a-zA-Z0-9_:]*(?:[ \t]+(?!\{{)|[ \t]*\{{[^"}}]*(?:{_TEXT}[^"}}]*)*\}}[ \t]*)'
    rf'|\{{[ \t]*{_TEXT}[^"}}]*(?:{_TEXT}[^"}}]*)*\}}[ \t]*){_NUMBER}(?:[ \t]+-?[0-9.]+)?(?:[ \t]*# .*)?',
).fullmatch
# The lines that are not blank, as the formats read them.
_lines = re.compile(r"[^ \t\r\n\ufeff][^\n]*").finditer
# The parts of a line of influx; each matches as much as it can, without backtracking. Only a text holds line breaks.
_head = re.compile(r"[^\\ #=\n][^\\ \n]*(?:\\ ?[^\\ \n]*)* +").match
_field = re.compile(rf"[^\\=, \n]*(?:\\[=, ]?[^\\=, \n]*)*=(?:{_TEXT}|[^\", \n]+)").match
_end = re.compile(r"(?: +-?[0-9]+)?[ \t\r]*(?:\n|$)").match
_almost_prometheus = re.compile(r"[ \t]*[a-zA-Z_:][a-zA-Z0-9_:]*[ \t]*(?:\{|[ \t][+-]?[0-9])").match
_almost_influx = re.compile(r"[^ =#,]+(?:,[^ ]*)? [^ ,=]+=").match
_metadata = re.compile(r"#[ \t]+(?:HELP|TYPE|UNIT)[ \t]|# EOF$").match
_quoted_metric = re.compile(rf"\{{[ \t]*{_TEXT}[ \t]*[,}}]").match
_is_binary = re.compile(rb"[\x00-\x08\x0e-\x1f]").search


def detect(body: Any, hint: FormatHint, *, has_mapping: bool = False) -> Format | InvalidSample:
    """Detect the format of a message.

    Args:
        body: text, bytes or decoded JSON.
        hint: what is known besides.
        has_mapping: whether ``MF_MAPPING`` reads JSON of an unknown format.
    """
    return detect_decoding(body, hint, has_mapping=has_mapping)[0]


def detect_decoding(
    body: Any, hint: FormatHint, *, has_mapping: bool = False
) -> tuple[Format | InvalidSample, Any]:
    """Detect the format as ``detect`` does; also return the body, decoded if it is one JSON value that had to be decoded."""
    by_type = _by_content_type(hint.content_type)
    if by_type is not None:
        return by_type, body
    if not isinstance(body, (str, bytes)):
        return _of_json(body, has_mapping=has_mapping), body
    if is_wide(body):
        return InvalidSample("", "encoding", WIDE, body), body
    if isinstance(body, bytes):
        if body.startswith(_COMPRESSED):
            return InvalidSample("", "format", _IS_COMPRESSED, body), body
        if _is_binary(body[:1000]):
            return InvalidSample("", "format", _BINARY, body), body
        # The beginning is enough for lines; JSON is read from all bytes.
        text = body[: _LONGEST_LINE * 4].decode("utf-8", "replace")
    else:
        text = body
    begin = text.lstrip(_BLANK)[:_BEGINNING]
    if begin.startswith(("{", "[", '"')) and not _quoted_metric(begin):
        return _of_values(body, has_mapping=has_mapping)
    if not begin or (len(begin) < _BEGINNING and _scalar(begin)):
        return Format.JSON, body
    return _of_lines(text, body), body


# JSON that is neither an object nor a list: the reader of our own JSON says so.
_scalar = re.compile(r"(?:null|true|false|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*").fullmatch


def _of_values(body: str | bytes, *, has_mapping: bool) -> tuple[Format | InvalidSample, Any]:
    """Detect the format of JSON values by the first one that fits one; otherwise say what is wrong with the first."""
    first: Format | InvalidSample | None = None
    for value in islice(read_values(body), _VALUES_LOOKED_AT):
        if isinstance(value, InvalidSample):
            continue
        found = _of_json(value.decoded, has_mapping=has_mapping)
        if not value.prefix:
            return found, value.decoded
        if not (isinstance(found, InvalidSample) or _fits_nothing(value.decoded, found)):
            return found, body
        # A dead letter keeps all values.
        first = first or (found._replace(raw=body) if isinstance(found, InvalidSample) else found)
    text = decode_text(body) if first is None else None
    if isinstance(text, str) and isinstance(lines := _of_lines(text, body), Format):
        # Lines that were JSON-encoded as one text.
        return lines, text
    # The reader of our own JSON explains best what is not JSON at all.
    return first or Format.JSON, body


# How gzip and zstd begin.
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_IS_COMPRESSED = (
    "is compressed, and nothing says so: send it as it is; over HTTP, compress it once and send its Content-Encoding; an object "
    "of COS may be gzip"
)
_BINARY = (
    "is binary, which may be otlp-protobuf, remote-write or prometheus-protobuf: set MF_FORMAT, or send it to the path of its "
    "protocol"
)
_FAMILIES = "application/vnd.google.protobuf"
_CONTENT_TYPES = {
    "application/openmetrics-text": Format.PROMETHEUS_TEXT,
    "application/vnd.influx.line-protocol": Format.INFLUX,
}


def _by_content_type(content_type: str) -> Format | None:
    kind, _, parameters = content_type.lower().partition(";")
    if kind.strip() == "text/plain" and "version=0.0.4" in parameters.replace(" ", ""):
        return Format.PROMETHEUS_TEXT
    if kind.strip() == _FAMILIES and "encoding=delimited" in parameters.replace(" ", ""):
        return Format.PROMETHEUS_PROTOBUF
    return _CONTENT_TYPES.get(kind.strip())


def _fits_nothing(decoded: Any, found: Format | InvalidSample) -> bool:
    """Whether an object was left to the reader of our own JSON, which will say what is wrong with it."""
    return found is Format.JSON and isinstance(decoded, dict) and not _OWN_MEMBERS & decoded.keys()


class _Shape(NamedTuple):
    """How a JSON format is recognised: ``fits`` checks an object, ``almost`` says what an object lacks; empty if nothing."""

    name: Format
    fits: Callable[[Mapping[str, Any]], bool]
    almost: Callable[[Mapping[str, Any]], str | None]


def _of_json(decoded: Any, *, has_mapping: bool) -> Format | InvalidSample:
    first = decoded[0] if isinstance(decoded, list) and decoded else decoded
    if not isinstance(first, dict):
        return Format.JSON
    fitting = _shapes_of(first)
    if not fitting and not has_mapping and isinstance(decoded, list) and not _OWN_MEMBERS & first.keys():
        # A bad one may come first.
        fitting = next(filter(None, map(_shapes_of, decoded[1:_VALUES_LOOKED_AT])), [])
    if has_mapping and not fitting and not is_our_own(decoded):
        # A mapping may be there for JSON that resembles another format.
        return Format.MAPPING
    if _OWN_MEMBERS & first.keys():
        if not fitting:
            return Format.JSON
        fitting.append(Format.JSON)
    if len(fitting) > 1:
        names = " or ".join(fitting)
        return InvalidSample("", "format", f"may be {names}: set MF_FORMAT to the right one", decoded)
    if fitting:
        return fitting[0]
    for shape in _SHAPES:
        missing = shape.almost(first)
        if missing is not None:
            return InvalidSample(
                "",
                "format",
                f"looks like {shape.name.value}, but {missing}: correct it, or set MF_FORMAT; JSON of another format needs "
                "MF_MAPPING",
                decoded,
            )
    return Format.JSON


def _shapes_of(value: Any) -> list[Format]:
    return [shape.name for shape in _SHAPES if shape.fits(value)] if isinstance(value, dict) else []


def _is_telegraf(metric: Any) -> bool:
    # The reader says what JSON does not allow in an object, such as a name twice.
    is_object = isinstance(metric, dict) and isinstance(metric.get("fields"), (dict, NotJson))
    return is_object and "name" in metric


def _fits_telegraf(first: Mapping[str, Any]) -> bool:
    batch = first.get("metrics")
    # An empty batch has no other member.
    return _is_telegraf(first) or (
        isinstance(batch, list)
        and (any(map(_is_telegraf, batch[:_VALUES_LOOKED_AT])) if batch else len(first) == 1)
    )


def _almost_telegraf(first: Mapping[str, Any]) -> str | None:
    if isinstance(first.get("metrics"), list):
        return 'none of its first "metrics" has a "name" and "fields"'
    if "fields" in first:
        return 'it has no "name"' if "name" not in first else 'its "fields" are not an object'
    return 'it has no "fields"' if {"name", "tags"} <= first.keys() else None


def _fits_adapter(first: Mapping[str, Any]) -> bool:
    labels = first.get("labels")
    if isinstance(labels, NotJson) and not isinstance(labels.raw, str):
        # It has a name twice, which the reader says.
        labels = dict(labels.raw)
    return isinstance(labels, dict) and "__name__" in labels and bool({"value", "__value"} & first.keys())


def _almost_adapter(first: Mapping[str, Any]) -> str | None:
    labels = first.get("labels")
    if not isinstance(labels, dict):
        return None
    if "__name__" in labels:
        return 'it has no "value"'
    return 'its "labels" have no "__name__"' if {"value", "__value"} & first.keys() else None


def _almost_otlp(first: Mapping[str, Any]) -> str | None:
    if "resource_metrics" in first:
        return 'its members are not in lowerCamelCase, as in "resourceMetrics"'
    if "resourceMetrics" in first:
        return 'its "resourceMetrics" are not a list'
    if {"resourceSpans", "resourceLogs"} & first.keys():
        return "it holds traces or logs, not metrics"
    return None


_SHAPES = (
    _Shape(
        Format.OTLP_JSON,
        lambda first: isinstance(first.get("resourceMetrics", ""), (list, type(None))),
        _almost_otlp,
    ),
    _Shape(Format.TELEGRAF_JSON, _fits_telegraf, _almost_telegraf),
    _Shape(Format.KAFKA_ADAPTER, _fits_adapter, _almost_adapter),
)


def _of_lines(text: str, body: Any) -> Format | InvalidSample:
    """Detect the format of lines by the first line that fits one; otherwise say which formats the first lines resemble."""
    resembled: set[Format] = set()
    is_commented = False
    text = text[: _LONGEST_LINE * 4]
    looked_at = 0
    for match in _lines(text):
        line = match[0].rstrip(_BLANK)[:_LONGEST_LINE]
        if line.startswith("#"):
            if _metadata(line):
                return Format.PROMETHEUS_TEXT
            is_commented = True
            continue
        looked_at += 1
        if looked_at > _LOOKED_AT:
            break
        fitting = _fitting(text, match.start(), line)
        if len(fitting) > 1:
            names = " or ".join(sorted(fitting))
            return InvalidSample("", "format", f"may be {names}: set MF_FORMAT to the right one", body)
        if fitting:
            return fitting.pop()
        resembled |= _resembled(line)
    if len(resembled) == 1:
        return resembled.pop()
    if not resembled and is_commented:
        return Format.PROMETHEUS_TEXT
    return InvalidSample("", "format", _UNKNOWN_LINES, body)


_UNKNOWN_LINES = "is not JSON, and none of its first lines is influx or Prometheus text: send one of these, or set MF_FORMAT if it is one"


def _fitting(text: str, begin: int, line: str) -> set[Format]:
    """The formats of a line, which begins there in the text; a line of influx goes on to the end of its last text."""
    found = {Format.PROMETHEUS_TEXT} if _prometheus_line(line) else set()
    return found | {Format.INFLUX} if _is_influx_line(text, begin) else found


def _is_influx_line(text: str, begin: int) -> bool:
    stop = begin + _LONGEST_LINE
    head = _head(text, begin, stop)
    position = head.end() if head else stop
    while (field := _field(text, position, stop)) is not None:
        position = field.end()
        if not text.startswith(",", position):
            return _end(text, position, stop) is not None
        position += 1
    return False


def _resembled(line: str) -> set[Format]:
    tests = ((Format.PROMETHEUS_TEXT, _almost_prometheus), (Format.INFLUX, _almost_influx))
    return {name for name, matches in tests if matches(line)}


# As the triggers name their messages: topic/0@37, bucket/key, topic#id, topic log 3, topic event id. The spool keeps this name
# alone, so the topic is read from it.
_split_off_topic = re.compile(r"/|#| log [0-9]+$| event ").split
_is_log = re.compile(r"(.*) log [0-9]+", re.DOTALL).fullmatch


class FormatRules(NamedTuple):
    """The formats of topics that ``MF_FORMAT`` names.

    Attributes:
        by_topic: topic (or bucket) → format; a name that ends with ``*`` stands for all names that begin so.
        otherwise: the format of all others; None: it is detected.
    """

    by_topic: tuple[tuple[str, Format | None], ...] = ()
    otherwise: Format | None = None

    def find(self, source: str) -> Format | None:
        """The format of a message by its source, such as ``demo-topic/0@37`` or ``demo-topic#5``; None: detect it."""
        log = _is_log(source)
        # The name of a topic of logs may have a slash, or be several words.
        topics = [*([log[1]] if log else []), _split_off_topic(source, 1)[0]]
        for topic, (name, chosen) in product(topics, self.by_topic):
            if topic == name or (name.endswith("*") and topic.startswith(name[:-1])):
                return chosen
        return self.otherwise

    def names(self, name: str) -> bool:
        """Whether a rule names this format."""
        return name in (self.otherwise, *(chosen for _, chosen in self.by_topic))


AUTO = "auto"


def read_rules(text: str) -> FormatRules:
    """Read ``MF_FORMAT``: ``auto``, one format, or ``topic=format,prefix*=format``, whose last item may be for all others.

    Raises:
        ValueError: with a message that says what would be right.
    """
    by_topic: list[tuple[str, Format | None]] = []
    *others, last = (part.strip() for part in text.split(","))
    if "=" not in last:
        otherwise = _named(last)
    else:
        otherwise, others = None, [*others, last]
    for part in others:
        topic, _, name = (piece.strip() for piece in part.rpartition("="))
        if not topic:
            raise ValueError(_RIGHT)
        if topic in dict(by_topic):
            raise ValueError("must be rules that name each topic once")
        by_topic.append((topic, _named(name)))
    return FormatRules(tuple(by_topic), otherwise)


def _named(name: str) -> Format | None:
    if name == AUTO:
        return None
    try:
        return Format(name)
    except ValueError:
        raise ValueError(_RIGHT) from None


_RIGHT = f"must be {AUTO}, {', '.join(Format)}, or topic=format,prefix*=format"
