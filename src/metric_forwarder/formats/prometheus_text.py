"""Prometheus text exposition 0.0.4 and OpenMetrics 1.0 → samples.

Each line is a sample: ``name{label="value"} value [time]``. In the text format a time is whole milliseconds, and anything
after it is an error of that line. OpenMetrics, which ends with ``# EOF``, has seconds with a fraction and may have an
exemplar after ``#``. Sources: Prometheus, exposition formats; OpenMetrics 1.0.
"""

import re
from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.lines import is_utf8, numbered_lines, text_of
from metric_forwarder.formats.names import MAX_LABELS, label_names, metric_name
from metric_forwarder.formats.samples import (
    NO_FLOAT,
    FilteredSample,
    FormatHint,
    InvalidSample,
    Reading,
    Sample,
    WrongSample,
)
from metric_forwarder.times import NS_PER_MS, NS_PER_S

# Enough for 32 labels of 2048 characters.
MAX_LINE = 65_536
# Names and values of its labels may have 128 characters, and each may be an escape.
_LONGEST_EXEMPLAR = 1_024
_INT64 = 2**63

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
_DECIMAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# In all patterns, neighbouring parts never match the same character, so that matching takes linear time.
_LABELS = r'\{[^"}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"}]*)*\}'
_line = re.compile(
    rf"[ \t]*(?:([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*)?(?:({_LABELS})[ \t]*)?(?<=[ \t}}])({_NUMBER})(?:[ \t]+([^ \t#]+))?[ \t]*(#.*)?",
    re.DOTALL,
).fullmatch
_usual_labels = re.compile(r'(?:([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"(?:,(?!$)|,?$))+').fullmatch
_usual_label = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"').findall
_label = re.compile(
    r'[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*)|"([^"\\]*(?:\\.[^"\\]*)*)")[ \t]*(?:=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*)?(?:,|$)',
    re.DOTALL,
).match
_escape = re.compile(r'\\([\\"n])').sub
_whole = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_seconds = re.compile(r"([+-]?)([0-9]{1,11})(?:\.([0-9]*))?").fullmatch
# OpenMetrics has one space between the parts of a line, and no other.
_open_metrics_line = re.compile(
    rf"(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?(?:{_LABELS})? {_NUMBER}(?: [^ #]+)?(?: # ({_LABELS}) {_NUMBER}(?: {_DECIMAL})?)?",
    re.DOTALL,
).fullmatch
_OPEN_METRICS = "application/openmetrics-text"
_EOF = "# EOF"
AFTER_END = "comes after # EOF, which ends the text: put it before, or into a message of its own"


def is_open_metrics(text: str, content_type: str = "") -> bool:
    """Whether a text is OpenMetrics rather than Prometheus's own format."""
    return content_type.startswith(_OPEN_METRICS) or text[-100:].rstrip().endswith(f"\n{_EOF}")


def decode(body: Any, hint: FormatHint) -> Iterator[Reading]:
    """Read the samples of an exposition; see ``Decoder``."""
    text = text_of(body)
    if isinstance(text, InvalidSample):
        yield text
        return
    open_metrics = is_open_metrics(text, hint.content_type)
    ended, number = False, 0
    for number, line in numbered_lines(text):
        if line.startswith("#") or not line or line.isspace():
            ended = ended or line == _EOF
            continue
        if ended and open_metrics:
            yield InvalidSample(f"line {number}", "eof", AFTER_END, _alone(line, open_metrics=True))
            continue
        yield from read_line(number, line, hint, open_metrics=open_metrics)
    if open_metrics and not ended:
        yield InvalidSample(
            f"line {number}",
            "eof",
            "ends without # EOF, so it was cut off; the lines before are used: end it with # EOF",
            None,
        )


def read_line(number: int, line: str, hint: FormatHint, *, open_metrics: bool) -> Iterator[Reading]:
    """Read a line that is neither empty nor a comment."""
    where = f"line {number}"
    match = _line(line) if len(line) <= MAX_LINE else None
    if match is None:
        if not line.lstrip(" \t").startswith("#"):
            yield _misfit(where, line, _alone(line, open_metrics=open_metrics))
        return
    name, braces, value_text, time_text, rest = match.groups()
    try:
        labels, apart, quoted_name = _read_labels(braces) if braces else ({}, "", None)
        if (name is None) is (quoted_name is None) or quoted_name == "":
            raise WrongSample("name", _ONE_NAME)  # noqa: TRY301
        if not is_utf8(line):
            raise WrongSample("encoding", "is not UTF-8: encode it as UTF-8")  # noqa: TRY301
        value = float(value_text)
        if value in (_INFINITE, -_INFINITE) and value_text[-1].isdigit():
            raise WrongSample("value", NO_FLOAT)  # noqa: TRY301
        time_ns = None if time_text is None else _time(time_text, open_metrics=open_metrics)
        if open_metrics:
            _check_open_metrics(line, braces)
        elif rest is not None:
            raise WrongSample("syntax", _TRAILING)  # noqa: TRY301
    except WrongSample as wrong:
        yield InvalidSample(where, wrong.rule, str(wrong), _alone(line, open_metrics=open_metrics))
        return
    if hint.labels:
        labels = {**labels, **hint.labels}
    metric, of_name = (name, "") if name else metric_name(quoted_name or "")
    yield Sample(where, metric, labels, value, time_ns, apart=of_name + apart)
    if rest is not None:
        yield FilteredSample(f"{where} exemplar", "exemplar", "is an exemplar, which no destination accepts")


_INFINITE = float("inf")
_ONE_NAME = "has no metric name, or two: it must have one, before the braces or in them"
_TRAILING = (
    "has more than a value and a time after the name: only OpenMetrics, which ends with # EOF, has exemplars; "
    "leave it out"
)


def _check_open_metrics(line: str, braces: str | None) -> None:
    """Check a sample of OpenMetrics, and its exemplar, by the stricter syntax of that format."""
    match = _open_metrics_line(line)
    if match is None or (braces and braces[-2:] == ",}"):
        raise WrongSample("syntax", _SPACES)
    if match[1] and len(match[1]) > _LONGEST_EXEMPLAR:
        raise WrongSample(
            "size", "has an exemplar whose labels are too long: OpenMetrics allows 128 characters"
        )
    if match[1] and _read_labels(match[1])[2] is not None:
        raise WrongSample("syntax", "has an exemplar with the name of a metric: leave the name out")


_SPACES = (
    'is not a sample of OpenMetrics: it must be name{label="value"} value [time] [# {label="value"} value [time]], with one '
    "space between its parts and none elsewhere"
)


def _alone(line: str, *, open_metrics: bool) -> str:
    """A bad line as a text of its own, in which its time has the same unit."""
    return f"{line}\n{_EOF}" if open_metrics else line


def _misfit(where: str, line: str, alone: str) -> InvalidSample:
    """What is wrong with a line that is not a sample."""
    if len(line) > MAX_LINE:
        return InvalidSample(where, "size", f"has more than {MAX_LINE} characters: split it", alone)
    return InvalidSample(
        where, "syntax", 'is not a sample: it must be name{label="value"} value [time]', alone
    )


def _read_labels(braces: str) -> tuple[dict[str, str], str, str | None]:
    """The labels between braces, their ``Sample.apart``, and the name of the metric if it is quoted among them."""
    inside = braces[1:-1]
    if _usual_labels(inside):
        found = _usual_label(inside)
        labels = dict(found)
        if len(labels) != len(found):
            raise WrongSample("duplicate-label", "names a label twice: keep one")
        if "" in labels.values():
            # For Prometheus an empty label does not exist.
            labels = {name: value for name, value in labels.items() if value}
        _check_count(labels)
        return labels, "", None
    return _read_unusual_labels(inside)


def _read_unusual_labels(inside: str) -> tuple[dict[str, str], str, str | None]:
    labels: dict[str, str] = {}
    metric: str | None = None
    position, end = 0, len(inside.rstrip(" \t"))
    while position < end:
        match = _label(inside, position, end)
        if match is None:
            raise WrongSample(
                "syntax", 'has labels that cannot be read: write {name="value",…}, and \\" in a value'
            )
        position = match.end()
        plain, quoted, value = match.groups()
        if value is None:
            if quoted is None or metric is not None:
                raise WrongSample("syntax", 'has a label without a value: write name="value"')
            metric = _unescape(quoted)
            continue
        name = plain or _unescape(quoted)
        if not name:
            raise WrongSample("name", "has a label whose name is empty: name it")
        if name in labels:
            raise WrongSample("duplicate-label", "names a label twice: keep one")
        labels[name] = _unescape(value)
        _check_count(labels)
    return *label_names(labels.items()), metric


def _check_count(labels: dict[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise WrongSample("size", f"has more than {MAX_LABELS} labels: leave some out")


def _unescape(text: str) -> str:
    return _escape(lambda match: "\n" if match[1] == "n" else match[1], text) if "\\" in text else text


def _time(text: str, *, open_metrics: bool) -> int:
    if open_metrics:
        return _from_seconds(text)
    if not _whole(text) or not -_INT64 <= int(text) < _INT64:
        raise WrongSample(
            "timestamp", "has a time that is not a whole number: it must be milliseconds since 1970"
        )
    return int(text) * NS_PER_MS


def _from_seconds(text: str) -> int:
    match = _seconds(text)
    if match is not None:
        sign, whole, fraction = match.groups()
        time_ns = int(whole) * NS_PER_S + int((fraction or "0")[:9].ljust(9, "0"))
        return -time_ns if sign == "-" else time_ns
    try:
        return round(float(text if re.fullmatch(_NUMBER, text) else "nan") * NS_PER_S)
    except (ValueError, OverflowError):
        raise WrongSample(
            "timestamp", "has a time that is not a number: it must be seconds since 1970"
        ) from None
