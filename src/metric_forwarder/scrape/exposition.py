"""Prometheus text exposition → samples: the one home of ``prometheus_client``.

Source: Prometheus, exposition formats, text-based format 0.0.4.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

# The name of a line's metric: before its labels, or quoted among them where it is no classic name.
_NAME = re.compile(r'[ \t]*(?:([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*[{ \t]|\{[ \t]*"((?:[^"\\]|\\.)+)")')

# 32 labels of 2048 characters have room. The parser's time grows with the square of a line's labels, and the pattern's
# memory is a hundred times the text.
MAX_LINE = 65_536

Keep = Callable[[str], bool]


class Sample(NamedTuple):
    """One line; ``timestamp_s`` are Unix seconds, if the target gave a time."""

    name: str
    labels: Mapping[str, str]
    value: int | float
    timestamp_s: float | None


class NotExposition(Exception):
    """A text that is no exposition; ``line`` counts from 1."""

    def __init__(
        self, line: int, reason: str = "answered with what is no Prometheus text exposition"
    ) -> None:
        super().__init__(f"{reason}, at line {line}")
        self.line = line


def read_samples(lines: Iterable[str], keep: Keep) -> Iterator[Sample]:
    """Read the samples whose name is kept; what is not kept is only looked at as far as its name.

    Raises:
        NotExposition: a line is neither a sample nor a comment, or is too long for a sample; earlier samples were
            given out.
        ModuleNotFoundError: the package ``prometheus-client`` is not installed.
    """
    # Slow to import, and needed only where a timer scrapes.
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    for number, line in enumerate(lines, 1):
        name = _name(line, number)
        if name is None or not keep(name):
            continue
        try:
            families = list(text_string_to_metric_families(line))
        except (ValueError, ArithmeticError, LookupError, TypeError):
            raise NotExposition(number) from None
        for family in families:
            for sample in family.samples:
                yield Sample(sample.name, sample.labels, sample.value, _seconds(sample.timestamp))


def lines_of(text: str) -> Iterator[str]:
    """One after the other: a list of the shortest takes twenty times the text."""
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]


def _name(line: str, number: int) -> str | None:
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return None
    if len(line) > MAX_LINE:
        raise NotExposition(number, f"exposes a sample of more than {MAX_LINE} characters")
    match = _NAME.match(line)
    if match is None:
        raise NotExposition(number)
    return match[1] or match[2]


def _seconds(timestamp: object) -> float | None:
    return None if timestamp is None else float(timestamp)  # type: ignore[arg-type]  # a number, or its own class
