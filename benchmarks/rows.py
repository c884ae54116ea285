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
        warm_up: what comes before the turns; None: a turn that does not count.
    """

    what: str
    bound: float
    ours: Callable[[], float]
    theirs: Callable[[], float]
    detail: Callable[[Sequence[float], Sequence[float]], str]
    warm_up: Callable[[], object] | None = None


def compare(pairs: Sequence[Pair], turns: int) -> list[Row]:
    """Measure all pairs, and then once more, in twice as many turns, those that are not clearly below their bound.

    A few turns cannot tell on which side of a bound a ratio near it is. All turns count.
    """
    figures: list[_Figures] = [([], []) for _ in pairs]
    _take_turns(turns, pairs, figures)
    near = [
        (pair, found)
        for pair, found in zip(pairs, figures, strict=True)
        if ratio(*found) > _CLEARLY * pair.bound
    ]
    _take_turns(2 * turns, [pair for pair, _ in near], [found for _, found in near])
    return [
        Row(pair.what, pair.bound, ratio(ours, theirs), "×", len(ours), pair.detail(ours, theirs))
        for pair, (ours, theirs) in zip(pairs, figures, strict=True)
    ]


_Figures = tuple[list[float], list[float]]


def _take_turns(turns: int, pairs: Sequence[Pair], figures: Sequence[_Figures]) -> None:
    """Warm both parties of each pair up, and add what they take to their figures.

    Each turn is one of all pairs, so that other work on the machine, which lasts some seconds, spoils one turn of a pair and not
    all of them.
    """
    for pair in pairs:
        if pair.warm_up:
            pair.warm_up()
        else:
            pair.ours()
            pair.theirs()
    for _ in range(turns):
        for pair, (ours, theirs) in zip(pairs, figures, strict=True):
            ours.append(pair.ours())
            theirs.append(pair.theirs())
