"""The forwarder's own metrics in Prometheus's text format, for ``serve``: those of all its instances together."""

from collections.abc import Iterable

from metric_forwarder.reporting.self_metrics import FAMILIES, Family, Labels, SelfMetrics

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_Series = tuple[str, Labels]


class Exposition:
    """What one server shows at ``/metrics``, from one scrape to the next.

    A counter is shown as 0 once before its value, since ``increase`` would not see the first value otherwise.
    """

    def __init__(self) -> None:
        self._shown: set[_Series] = set()

    def text(self, instances: Iterable[SelfMetrics | None]) -> str:
        """Write the metrics as text; an instance that has not handled an event yet is None."""
        values = _together([instance for instance in instances if instance is not None])
        lines: list[str] = []
        for family in FAMILIES:
            if values[family]:
                lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
                lines += (self._line(family, series, value) for series, value in values[family].items())
        return "".join(f"{line}\n" for line in lines)

    def _line(self, family: Family, series: _Series, value: float) -> str:
        if series not in self._shown:
            self._shown.add(series)
            value = value if family.kind == "gauge" else 0
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
