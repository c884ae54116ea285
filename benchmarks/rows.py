"""A row of the table: what was measured, what it may be, and whether that holds."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

# What is further below its bound is not measured again.
_CLEARLY = 0.9


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


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the turns' ratios: whatever slows the machine down affects both parties of a turn."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def points_a_second(points: int, ours_s: Sequence[float], theirs_s: Sequence[float]) -> str:
    """Say how fast both parties handle so many points, from wall times."""
    ours, theirs = points / median(ours_s), points / median(theirs_s)
    return f"{ours:,.0f} against {theirs:,.0f} points a second: {1 / ratio(ours_s, theirs_s):.0%} in the median turn"


class Pair(NamedTuple):
    """Two parties that take turns.

    Attributes:
        what: the name of the row.
        bound: the most that the ratio may be.
        ours: measures our party once.
        theirs: measures the other party once.
        detail: makes the text behind the ratio from the figures of both.
        prepare: what comes before the turns; None: a turn that does not count.
    """

    what: str
    bound: float
    ours: Callable[[], float]
    theirs: Callable[[], float]
    detail: Callable[[Sequence[float], Sequence[float]], str]
    prepare: Callable[[], object] | None = None

    def warm_up(self) -> None:
        if self.prepare:
            self.prepare()
        else:
            self.ours()
            self.theirs()


class _Measured(NamedTuple):
    """A pair, and what each of its parties took in each turn."""

    pair: Pair
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        return ratio(self.ours, self.theirs)

    def row(self) -> Row:
        pair = self.pair
        detail = pair.detail(self.ours, self.theirs)
        return Row(pair.what, pair.bound, self.ratio, "×", len(self.ours), detail)


def compare(pairs: Sequence[Pair], turns: int) -> list[Row]:
    """Measure all pairs, and then once more, in twice as many turns, those that are not clearly below their bound.

    A few turns cannot tell on which side of a bound a ratio near it is. All turns count.
    """
    for pair in pairs:
        pair.warm_up()
    measured = [_Measured(pair, [], []) for pair in pairs]
    _take_turns(turns, measured)
    _take_turns(2 * turns, [each for each in measured if each.ratio > _CLEARLY * each.pair.bound])
    return [each.row() for each in measured]


def _take_turns(turns: int, measured: Sequence[_Measured]) -> None:
    """Measure one turn of all pairs after the other: other work on the machine, which lasts some seconds, spoils one turn of a pair."""
    for _ in range(turns):
        for pair, ours, theirs in measured:
            ours.append(pair.ours())
            theirs.append(pair.theirs())
