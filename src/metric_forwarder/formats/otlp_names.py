"""The names and labels that Prometheus gives to the metrics and attributes of OpenTelemetry.

Source: OpenTelemetry, compatibility with Prometheus.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

from metric_forwarder.formats.names import LONGEST_KEPT

_FULL = 1e21
_INFINITE = float("inf")

_not_in_name = re.compile(r"[^a-zA-Z0-9:]+").sub
_not_in_label = re.compile(r"[^a-zA-Z0-9_]").sub
_underscores = re.compile(r"__+").sub

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tebibytes", "kBy": "kilobytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent", "$": "dollars",
}  # fmt: skip
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}


def prometheus_metric_name(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    """The name that Prometheus gives to a metric: with its unit in words, and ``_total`` after a counter."""
    make = _metric_name if len(name) + len(unit) <= LONGEST_KEPT else _metric_name.__wrapped__
    return make(name, unit, is_counter=is_counter, is_gauge=is_gauge)


@lru_cache(maxsize=1024)
def _metric_name(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    words = [word for word in _not_in_name("_", name).split("_") if word]
    if not words:
        return ""
    main, _, per = unit.partition("/")
    for prefix, text in (((), _unit_word(main, _UNITS)), (("per",), _unit_word(per, _PER_UNITS))):
        if text and text not in words:
            words += (*prefix, text)
    if is_counter:
        words = [*(word for word in words if word != "total"), "total"]
    elif is_gauge and unit == "1":
        words = [*(word for word in words if word != "ratio"), "ratio"]
    joined = "_".join(words)
    return f"_{joined}" if joined[0].isdigit() else joined


def _unit_word(unit: str, words: Mapping[str, str]) -> str:
    unit = unit.strip()
    # Text in braces is a comment.
    if "{" in unit or "}" in unit:
        return ""
    return _not_in_name("_", words.get(unit, unit)).replace(":", "_").strip("_")


def prometheus_labels(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes with Prometheus's names; if several names become the same, their values are joined in the order of names."""
    return join_labels(
        (key, label_name(key), attributes[key]) for key in sorted(attributes) if attributes[key]
    )


def join_labels(labels: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Make labels of (key, name, value), which come in the order of the keys: the values of one name are joined."""
    values: dict[str, list[str]] = {}
    for _, name, text in labels:
        if name:
            values.setdefault(name, []).append(text)
    return {name: ";".join(found) for name, found in values.items()}


def label_name(key: str) -> str:
    """The name of the label for an attribute's key."""
    return (_known_label_name if len(key) <= LONGEST_KEPT else _known_label_name.__wrapped__)(key)


@lru_cache(maxsize=1024)
def _known_label_name(key: str) -> str:
    name = _underscores("_", _not_in_label("_", key))
    return f"key_{name}" if name[:1].isdigit() else name


def number_text(value: float) -> str:
    """A number as Prometheus writes it in a label: ``0.005``, ``10``, ``+Inf``."""
    if value != value:  # noqa: PLR0124 - true only for NaN
        return "NaN"
    if value in (_INFINITE, -_INFINITE):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < _FULL:
        return str(int(value))
    return format(Decimal(repr(value)), "f")
