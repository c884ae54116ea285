r"""Influx line protocol → samples: each line is ``measurement[,tag=value…] field=value[,field=value…] [time]``.

The first unescaped space ends the tags, the next one outside of quotes the fields. ``\`` escapes a comma, a space and,
except in a measurement, an equals sign; before any other character it is an ordinary character. Texts in double quotes
may hold line breaks. Each number or boolean is a sample. Source: InfluxData, line protocol reference, version 2.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from metric_forwarder.formats.lines import is_utf8, text_of
from metric_forwarder.formats.names import MAX_LABELS, joined_name, label_names
from metric_forwarder.formats.samples import (
    MAX_SAMPLES,
    NO_FLOAT,
    TOO_MANY,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    WrongSample,
)

# In nanoseconds; the units of one letter are those of version 1.
UNITS = {
    "ns": 1, "n": 1, "us": 1_000, "u": 1_000, "µ": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
    "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_INT64 = 2**63
_BOOLEANS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), 0),
}
# Characters of a message that are kept with its bad fields: the rest of their lines.
_MAX_KEPT = 2**22
# Characters of all metrics' names in a message, which repeat the measurement.
_MAX_NAMES = 2**25
# Of a line.
_MAX_FIELDS = 10_000

_number = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
# Leading zeros are allowed, up to the digits that ``int`` accepts.
_whole = re.compile(r"-?0{0,1000}[0-9]{1,20}").fullmatch
_digits = re.compile(r"-?[0-9]+").fullmatch
_control = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]").search
_head = re.compile(r"[^\\ \n]*(?:\\ ?[^\\ \n]*)*").match
_parts = re.compile(r"[^ ]+").finditer
_spaces = re.compile(r" *").match
_comma = re.compile(r"(?<!\\),").split
_equals = re.compile(r"(?<!\\)=").split
_key = re.compile(r"[^\\=, \n]*(?:\\[=, ]?[^\\=, \n]*)*").match
_bare = re.compile(r"[^, \n]*").match
_rest = re.compile(r"[^\n]*").match
_unescape = re.compile(r"\\([ ,=])").sub
_unescape_measurement = re.compile(r"\\([ ,])").sub


class _Head(NamedTuple):
    """What the fields of a line share; ``series`` is the number of its series in the message, ``apart`` as in ``Sample``."""

    measurement: str
    labels: dict[str, str]
    series: int
    apart: str


class _Field(NamedTuple):
    """A field of a line; ``value`` is None if it has no equals sign."""

    key: str
    value: str | None


class _Line(NamedTuple):
    """The parts of a line; ``end`` is where it ends in the text."""

    head: str
    fields: Sequence[_Field]
    time: str
    end: int


class _Wrong(WrongSample):
    """``reached`` is how far the line was read, if that may be beyond a line break."""

    def __init__(self, rule: str, message: str, reached: int = 0) -> None:
        super().__init__(rule, message)
        self.reached = reached


class _OpenText(Exception):
    """A quoted text without an end; ``reached`` is how far it was searched for."""

    def __init__(self, reached: int) -> None:
        super().__init__()
        self.reached = reached


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the samples of a batch of lines; see ``Decoder``.

    Of equal series and times the last value counts, as in InfluxDB, so a message is read to its end first.
    """
    text = text_of(body)
    if isinstance(text, InvalidSample):
        return iter((text,))
    unit = UNITS.get(hint.precision or "ns")
    if unit is None:
        known = ", ".join(UNITS)
        return iter(
            (InvalidSample("", "precision", f"has an unknown precision: it must be one of {known}", None),)
        )
    readings = _Reader(text, unit).read()
    if len(readings) > MAX_SAMPLES:
        # A line that is not read may replace one that was.
        return iter((InvalidSample("", "size", f"{TOO_MANY}: split it", body),))
    return _finished(readings)


# What is known of a sample until the message is read to its end: its line, field, head, value and time. It takes half of
# the memory of a ``Sample``.
_Found = tuple[int, str, _Head, float | int, int | None]


def _finished(readings: list[_Found | InvalidSample | FilteredSample]) -> Iterator[Reading]:
    """Make the samples one by one, and drop each from the list, so that its memory is freed."""
    superseded = _superseded(readings)
    count = len(readings)
    readings.reverse()
    while readings:
        found = readings.pop()
        if isinstance(found, (InvalidSample, FilteredSample)):
            yield found
            continue
        number, key, head, value, time_ns = found
        where = _place_of(number, key)
        if count - len(readings) - 1 in superseded:
            yield FilteredSample(where, "superseded", _SUPERSEDED)
        else:
            name, apart = joined_name(head.measurement, key)
            yield Sample(where, name, head.labels, value, time_ns, False, "", head.apart + apart)


def _superseded(readings: list[_Found | InvalidSample | FilteredSample]) -> set[int]:
    """The places of samples whose series and time come again later in the message."""
    samples = sum(type(found) is tuple for found in readings)
    if len({hash(_identity(found)) for found in readings if type(found) is tuple}) == samples:
        # The usual case, in a third of the memory.
        return set()
    seen: set[tuple[str, int | None, int]] = set()
    superseded: set[int] = set()
    for place in range(len(readings) - 1, -1, -1):
        if type(found := readings[place]) is tuple:
            identity = _identity(found)
            if identity in seen:
                superseded.add(place)
            seen.add(identity)
    return superseded


def _identity(found: Any) -> tuple[str, int | None, int]:
    """What samples with the same series and time have in common."""
    _, key, head, _, time_ns = found
    return key, time_ns, head.series


def _place_of(number: int, key: str) -> str:
    return f"line {number} field {key[:100]}"


_SUPERSEDED = "is given again for the same time later in the message, and the last one counts"


class _Reader:
    def __init__(self, text: str, unit: int) -> None:
        self._text = text
        self._unit = unit
        # Checked once for most texts, instead of for each line. A tab counts, except at the ends of a line.
        self._has_control = "\t" in text or _control(text.replace("\r\n", "\n")) is not None
        self._readings: list[_Found | InvalidSample | FilteredSample] = []
        # Characters that may be read twice because a text has no end.
        self._steps_left = 4 * len(text) + 1_000
        # Most lines begin like others: beginning → what was read of it, and series → its number.
        self._heads: dict[str, _Head] = {}
        self._series: dict[tuple[Any, ...], int] = {}
        self._names_left = _MAX_NAMES
        self._kept_left = _MAX_KEPT

    def read(self) -> list[_Found | InvalidSample | FilteredSample]:
        text, position, number = self._text, 0, 1
        # With more, the whole message is invalid.
        while position < len(text) and len(self._readings) <= MAX_SAMPLES:
            end = _end_of_line(text, position)
            line = text[position:end].strip(" \t\r")
            if line and line[0] != "#":
                logical_end = self._read_line(line, number, position, end)
                number += text.count("\n", end, logical_end)
                end = logical_end
            position, number = end + 1, number + 1
        return self._readings

    def _read_line(self, line: str, number: int, begin: int, end: int) -> int:
        """Read one line, and return where it ends: a quoted text may hold line breaks."""
        try:
            if "\\" in line or '"' in line:
                begin += len(self._text[begin:end]) - len(self._text[begin:end].lstrip(" \t\r"))
                split = _split(self._text, begin)
                line, end = self._text[begin : split.end].rstrip("\r"), split.end
            else:
                split = _split_plain(line, end)
            if not is_utf8(line):
                raise _Wrong("encoding", "is not UTF-8: encode it as UTF-8")  # noqa: TRY301
            if self._has_control:
                _check_control(split)
            head = self._heads.get(split.head) or self._read_head(split.head)
            time_ns = self._time(split.time)
        except _OpenText as open_text:
            self._steps_left -= open_text.reached - begin
            message = "has a text whose closing quote is missing, or not followed by a comma or a space: correct the quotes"
            self._readings.append(InvalidSample(f"line {number}", "syntax", message, line))
            # Usually the quote is a mistake of this line; but the text after it must not be read too often.
            return end if self._steps_left > 0 else max(end, open_text.reached)
        except _Wrong as wrong:
            self._readings.append(InvalidSample(f"line {number}", wrong.rule, str(wrong), line))
            return max(end, wrong.reached)
        for field in split.fields:
            self._read_field(field, head, time_ns, number, split)
        return end

    def _read_field(self, field: _Field, head: _Head, time_ns: int | None, number: int, split: _Line) -> None:
        key = _unescape(r"\1", field.key) if "\\" in field.key else field.key
        try:
            if not key or field.value is None:
                raise _Wrong("syntax", "is not a field: it must be name=value")  # noqa: TRY301
            if key.startswith("_"):
                raise _Wrong("name", _RESERVED)  # noqa: TRY301
            value = _read_value(field.value)
            self._count_name(head.measurement, key)
        except _Wrong as wrong:
            raw = _alone(field, split) if self._kept_left > 0 else field.key
            self._kept_left -= len(raw)
            self._readings.append(InvalidSample(_place_of(number, key), wrong.rule, str(wrong), raw))
            return
        if value is None:
            text = FilteredSample(_place_of(number, key), "text", "is a text, which no destination accepts")
            self._readings.append(text)
            return
        self._readings.append((number, key, head, value, time_ns))

    def _read_head(self, text: str) -> _Head:
        measurement, tags = _split_head(text)
        series = self._series.setdefault((measurement, *tags), len(self._series))
        labels, apart = label_names(tags)
        head = self._heads[text] = _Head(measurement, labels, series, apart)
        return head

    def _count_name(self, measurement: str, key: str) -> None:
        self._names_left -= len(measurement) + len(key)
        if self._names_left < 0:
            message = "repeats its measurement too often in one message: shorten it, or split the message"
            raise _Wrong("size", message)

    def _time(self, text: str) -> int | None:
        if not text:
            return None
        if _whole(text):
            time_ns = int(text) * self._unit
            if -_INT64 <= time_ns < _INT64:
                return time_ns
        raise _Wrong(
            "timestamp",
            "has a time that is not a whole number of 64 bits in its unit: correct it, or the precision",
        )


def _split_plain(line: str, end: int) -> _Line:
    """Split a line without escapes and quotes."""
    parts = line.split(" ", 3)
    if len(parts) > 3 or "" in parts:  # noqa: PLR2004 - head, fields, time
        parts = [match[0] for match in islice(_parts(line), 4)]
    if not 2 <= len(parts) <= 3:  # noqa: PLR2004 - likewise
        raise _Wrong("syntax", _SHAPE)
    fields = []
    if parts[1].count(",") > _MAX_FIELDS:
        raise _Wrong("size", _TOO_MANY_FIELDS)
    for field in parts[1].split(","):
        key, equals, value = field.partition("=")
        fields.append(_Field(key, value if equals else None))
    return _Line(parts[0], fields, parts[2] if len(parts) > 2 else "", end)  # noqa: PLR2004 - likewise


_TOO_MANY_FIELDS = f"has more than {_MAX_FIELDS} fields: split it"
_TOO_MANY_TAGS = f"has more than {MAX_LABELS} tags: leave some out"
_RESERVED = "begins with an underscore, which InfluxDB reserves for its own names: rename it"
_SHAPE = "is not a line of influx: it must be measurement,tag=value field=value [time]"


def _split(text: str, begin: int) -> _Line:
    """Split a line with escapes or quotes."""
    match = _head(text, begin)
    head = match[0] if match else ""
    position, fields = _skip_spaces(text, begin + len(head)), []
    while position < len(text) and text[position] not in "\r\n":
        field, position = _split_field(text, position)
        fields.append(field)
        if not text.startswith(",", position):
            break
        if len(fields) > _MAX_FIELDS:
            raise _Wrong("size", _TOO_MANY_FIELDS, _end_of_line(text, position))
        position += 1
        if position == len(text) or text[position] in "\r\n":
            fields.append(_Field("", None))
    rest = _rest(text, position)
    time = rest[0].strip(" \t\r") if rest else ""
    if not fields or " " in time:
        raise _Wrong("syntax", _SHAPE, rest.end() if rest else position)
    return _Line(head, fields, time, rest.end() if rest else position)


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _check_control(split: _Line) -> None:
    """Control characters are allowed only in texts."""
    parts = [split.head, *(field.key for field in split.fields)]
    parts += [field.value for field in split.fields if field.value and not field.value.startswith('"')]
    for part in parts:
        if "\t" in part or _control(part):
            raise _Wrong("syntax", "holds a control character outside of a text in quotes: remove it")


def _skip_spaces(text: str, position: int) -> int:
    match = _spaces(text, position)
    return match.end() if match else position


def _split_field(text: str, begin: int) -> tuple[_Field, int]:
    match = _key(text, begin)
    key = match[0] if match else ""
    position = begin + len(key)
    if not text.startswith("=", position):
        return _Field(key, None), position
    position += 1
    end = _end_of_text(text, position) if text.startswith('"', position) else position
    bare = _bare(text, end)
    behind = bare[0].rstrip("\r") if bare else ""
    if behind and end > position and "\n" in text[position:end]:
        raise _OpenText(end)
    return _Field(key, text[position:end] + behind), end + len(behind)


def _end_of_text(text: str, begin: int) -> int:
    """The place after the closing quote of a text."""
    position = begin
    while (position := text.find('"', position + 1)) >= 0:
        before = position
        while text[before - 1] == "\\":
            before -= 1
        if (position - before) % 2 == 0:
            return position + 1
    raise _OpenText(len(text))


def _split_head(head: str) -> tuple[str, list[tuple[str, str]]]:
    """The measurement and the tags, in the order of their names."""
    if head.count(",") - head.count("\\,") > MAX_LABELS:
        raise _Wrong("size", _TOO_MANY_TAGS)
    if "\\" in head:
        measurement, *tags = _comma(head)
        measurement = _unescape_measurement(r"\1", measurement)
        pairs = [[_unescape(r"\1", part) for part in _equals(tag)] for tag in tags]
    else:
        measurement, *tags = head.split(",")
        pairs = [tag.split("=") for tag in tags]
    if not measurement or measurement.startswith("_"):
        raise _Wrong("name", "has no measurement, or one that begins with an underscore: name one")
    labels: list[tuple[str, str]] = []
    for pair in pairs:
        if len(pair) != 2 or not pair[0] or not pair[1]:  # noqa: PLR2004 - a name and a value
            raise _Wrong("tag", "has a tag that is not name=value, or has no value: leave it out")
        if pair[0].startswith("_"):
            raise _Wrong("name", f"has a tag that {_RESERVED} (in Fluent Bit: Sequence_Tag)")
        labels.append((pair[0], pair[1]))
    labels.sort()
    if len(dict(labels)) != len(labels):
        raise _Wrong("tag", "names a tag twice: keep one")
    return measurement, labels


def _read_value(text: str) -> float | int | None:
    """The value of a field; None for a text."""
    if _number(text):
        value = float(text)
        if value - value == 0:
            return value
        raise _Wrong("value", NO_FLOAT)
    boolean = _BOOLEANS.get(text)
    if boolean is not None:
        return boolean
    kind, digits = text[-1:], text[:-1]
    if kind == "i" and _whole(digits) and -_INT64 <= int(digits) < _INT64:
        return int(digits)
    if kind == "u" and _whole(digits) and 0 <= int(digits) < 2 * _INT64:
        return int(digits)
    if kind == "u" and _digits(digits) and digits[0] == "-":
        raise _Wrong("value", "is an unsigned number below 0: write i instead of u")
    if kind in "iu" and _digits(digits):
        raise _Wrong(
            "value", "is a whole number of more than 64 bits: write it as a float, without the letter"
        )
    if len(text) > 1 and text[0] == '"' == text[-1] and _end_of_text(text, 0) == len(text):
        return None
    raise _Wrong(
        "value", 'is not a value: it must be a number, 1i, 1u, true, false or a text in quotes ("…")'
    )


def _alone(field: _Field, split: _Line) -> str:
    """A bad field as a line of its own, which can be sent again after a correction."""
    text = field.key if field.value is None else f"{field.key}={field.value}"
    return f"{split.head} {text} {split.time}".rstrip(" ")
