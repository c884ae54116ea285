"""A row of the table: what was measured, what it may be, and whether that holds."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Row(NamedTuple):
    """One budget.

    Attributes:
        what: what was measured, against what.
        bound: what ``value`` may be at most.
        value: what was measured.
        unit: behind both: ``×``, ``MB`` and so on.
        runs: how many runs or turns it is the median of.
        detail: the figures behind it.
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


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of the turns: what slows the machine down meets both parties of a turn."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
