"""The forwarder's own metrics in Prometheus's text format, for ``serve``: those of all its instances together."""

from collections.abc import Iterable

from metric_forwarder.clock import Clock
from metric_forwarder.reporting.self_metrics import FAMILIES, Family, Labels, SelfMetrics

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

# Longer than a minute, Prometheus's usual scrape interval, so that every Prometheus sees the 0.
_ZERO_S = 90.0

_Series = tuple[str, Labels]


class Exposition:
    """What one server shows at ``/metrics``, from one scrape to the next.

    A counter is shown as 0 for some time before its value, since ``increase`` would not see the first value otherwise.

    Args:
        clock: tells how long a counter has been shown.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_shown: dict[_Series, float] = {}

    def text(self, instances: Iterable[SelfMetrics | None]) -> str:
        """Write the metrics as text; an instance that has not handled an event yet is None."""
        values = _together([instance for instance in instances if instance is not None])
        now = self._clock.monotonic()
        lines: list[str] = []
        for family in FAMILIES:
            if values[family]:
                lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
                lines += (self._line(family, series, value, now) for series, value in values[family].items())
        return "".join(f"{line}\n" for line in lines)

    def _line(self, family: Family, series: _Series, value: float, now: float) -> str:
        if family.kind != "gauge" and now - self._first_shown.setdefault(series, now) < _ZERO_S:
            value = 0
        name, labels = series
        named = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels)
        return f"{name}{{{named}}} {value!r}"


def _together(instances: Iterable[SelfMetrics]) -> dict[Family, dict[_Series, float]]:
    """Sum the counters of all instances, and take the highest of each gauge."""
    values: dict[Family, dict[_Series, float]] = {family: {} for family in FAMILIES}
    for instance in instances:
        for family, suffix, labels, value in instance.values():
            series = family.name + suffix, (*labels, *instance.function_labels)
            held = values[family].get(series, 0)
            values[family][series] = max(held, value) if family.kind == "gauge" else held + value
    return values
