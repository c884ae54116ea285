"""The account of one trigger event: every point received has a row, every row ends in exactly one outcome.

Nothing else counts anything: all figures of a report are derived from these rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metric_forwarder.model import Outcome, Point, Problem

MAX_PROBLEMS = 20
# Reasons for filtering that are listed one by one; all others are counted together.
MAX_FILTER_REASONS = 20


class AlreadySettled(RuntimeError):
    """A row was about to be settled twice: a defect of the forwarder."""


class Filtered(NamedTuple):
    """Points that were left out for one reason: the first of them, and their number (``times``).

    ``source`` and ``pointer`` name a point as in ``Problem``; ``rule`` is a word for the reason.
    """

    source: str
    pointer: str
    rule: str
    message: str
    times: int = 1


class Ledger:
    """Outcomes by row, the first problems in full, the number of the others, and why points were filtered."""

    def __init__(self, max_problems: int = MAX_PROBLEMS) -> None:
        self._rows: list[Outcome | None] = []
        self._max_problems = max_problems
        self.problems: list[Problem] = []
        self.problems_omitted = 0
        self._filtered: dict[tuple[str, str], Filtered] = {}
        self._spans: list[tuple[str, int, int]] = []

    def open(self, points: int = 1) -> int:
        """Receive points: return the number of the row of the first one."""
        self._rows += [None] * points
        return len(self._rows) - points

    @property
    def received(self) -> int:
        return len(self._rows)

    def note(self, problem: Problem) -> None:
        """Report a problem that belongs to no row."""
        self._note(lambda: problem)

    def outcome(self, number: int) -> Outcome | None:
        """The outcome of a row, if it has one yet."""
        return self._rows[number]

    def settle(self, number: int, outcome: Outcome, problems: Iterable[Problem] = ()) -> None:
        """Write the outcome of a row.

        Raises:
            AlreadySettled: it has one.
        """
        self._write(number, outcome)
        for problem in problems:
            self.note(problem)

    def receive_unexplained(self, outcome: Outcome) -> None:
        """Receive a point with this outcome; the report counts its problem and does not show it."""
        self._rows.append(outcome)
        self.problems_omitted += 1

    def receive_again(self, outcome: Outcome, count: int) -> None:
        """Receive points that were settled by an earlier delivery of their event; their problems were reported then."""
        self._rows.extend([outcome] * count)
        if outcome is Outcome.FILTERED:
            self._filtered[_FILTERED_BEFORE] = Filtered("event", "", *_FILTERED_BEFORE, count)
        elif outcome is not Outcome.DUPLICATE:
            self.problems_omitted += count

    def receive_filtered(self, source: str, pointer: str, rule: str, message: str) -> None:
        """Receive a point that is left out on purpose: this is not a problem, and each reason is reported once."""
        self._rows.append(Outcome.FILTERED)
        known = self._filtered.get((rule, message))
        if known is None and len(self._filtered) >= MAX_FILTER_REASONS:
            rule, message = _OTHER_REASONS
            known = self._filtered.get(_OTHER_REASONS)
        added = (
            Filtered(source, pointer, rule, message)
            if known is None
            else known._replace(times=known.times + 1)
        )
        self._filtered[rule, message] = added

    @property
    def filtered(self) -> Sequence[Filtered]:
        """Why points were filtered, in the order in which the reasons came; their ``times`` add up to all filtered points."""
        return tuple(self._filtered.values())

    def settle_all(
        self, points: Sequence[Point], outcome: Outcome, problem: Callable[[Point], Problem] | None = None
    ) -> None:
        """Write the same outcome for many points; ``problem`` is called only while the report has room."""
        rows = self._rows
        for point in points:
            number = point.number
            if rows[number] is not None:
                self._write(number, outcome)  # which raises
            rows[number] = outcome
            if problem is not None:
                self._note(lambda point=point: problem(point))  # type: ignore[misc]  # bound now, on purpose

    def note_format(self, name: str, first: int) -> None:
        """Note that the rows from ``first`` on were in messages of this format; rows without a note are our own JSON."""
        last = len(self._rows)
        if self._spans and self._spans[-1][0] == name and self._spans[-1][2] == first:
            first = self._spans.pop()[1]
        if last > first:
            self._spans.append((name, first, last))

    @property
    def spans(self) -> Sequence[tuple[str, int, int]]:
        """Formats, each with the first row that was in a message of it and the row after the last one."""
        return self._spans

    def with_outcome(self, points: Iterable[Point], outcome: Outcome) -> list[Point]:
        """Those of the points that have this outcome."""
        rows = self._rows
        return [point for point in points if rows[point.number] is outcome]

    def outcomes(self, first: int = 0, last: int | None = None) -> dict[Outcome, int]:
        """How many rows ended in each outcome; their sum is ``received`` once no row is open.

        Args:
            first: the first row that counts.
            last: the row after the last one that counts; None: all.
        """
        counts = Counter(self._rows[first:last] if first or last is not None else self._rows)
        return {outcome: counts[outcome] for outcome in Outcome}

    def close(self) -> int:
        """Settle what has no outcome yet as undelivered, the one outcome that cannot lose a point; return how many.

        Anything but 0 is a defect of the forwarder; even then the figures of the report must add up.
        """
        unsettled = [number for number, outcome in enumerate(self._rows) if outcome is None]
        for number in unsettled:
            self._rows[number] = Outcome.UNDELIVERED
        return len(unsettled)

    def _write(self, number: int, outcome: Outcome) -> None:
        if self._rows[number] is not None:
            raise AlreadySettled(f"row {number} is {self._rows[number]} and was to become {outcome}")
        self._rows[number] = outcome

    def _note(self, problem: Callable[[], Problem]) -> None:
        if len(self.problems) < self._max_problems:
            self.problems.append(problem())
        else:
            self.problems_omitted += 1


_FILTERED_BEFORE = (
    "before",
    "points were filtered by an earlier delivery of this event, which reported the reasons",
)
_OTHER_REASONS = ("other", "points of this event are filtered for further reasons, which are not listed")
