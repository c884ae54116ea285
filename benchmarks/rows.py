"""A row of the table: what was measured, what it may be, and whether that holds."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple


class Row(NamedTuple):
    """One budget.

    Attributes:
        what: the name of the row: what was measured, compared with what.
        bound: the most that ``value`` may be.
        value: the measured figure.
        unit: of both: ``×``, ``MB`` and so on.
        runs: the number of runs or turns of which ``value`` is the median.
        detail: the figures from which ``value`` was computed.
    """

    what: str
    bound: float
    value: float
    unit: str
    runs: int
    detail: str

    @property
    def holds(self) -> bool:
        return self.value <= self.bound


def in_turns(
    turns: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure two parties, one after the other in each turn; a turn before the first warms both up."""
    pairs = [(ours(), theirs()) for _ in range(turns + 1)][1:]
    return [one for one, _ in pairs], [other for _, other in pairs]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the turns' ratios: whatever slows the machine down affects both parties of a turn."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
