"""Schedules from seeds: each is run and judged, and a failing one can be repeated from its tape."""

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from world import oracles
from world.schedule import Deployment, Schedule
from world.scheduler import Violation, World


@dataclass
class Result:
    """What became of one schedule.

    Attributes:
        tape: its choices; ``run_tape`` repeats them.
        trace: what happened, a line each.
    """

    seed: int
    violation: Violation | None
    situations: Counter[str]
    trace_hash: str
    tape: list[int]
    trace: list[str] = field(repr=False)


def run_seed(seed: int, deployment: Deployment | None = None) -> Result:
    """Run the schedule of a seed."""
    return _run(World(seed), deployment or Deployment())


def run_tape(tape: Sequence[int], deployment: Deployment | None = None, seed: int = 0) -> Result:
    """Repeat a schedule; choices beyond the end of its tape are 0."""
    return _run(World(seed, tape), deployment or Deployment())


def _run(world: World, deployment: Deployment) -> Result:
    violation: Violation | None = None
    schedule = Schedule(world, deployment)
    # When objects are deleted must not depend on what ran before.
    was_enabled = gc.isenabled()
    gc.disable()
    with _output_of(schedule):
        try:
            world.run(schedule.run)
        except Violation as found:
            violation = found
        except Exception as error:  # noqa: BLE001 - whatever a thread ended with
            violation = Violation(oracles.SOUND, error=repr(error), place=_place(error))
            violation.__cause__ = error
    if was_enabled:
        gc.enable()
    return Result(world.seed, violation, world.situations, world.trace_hash(), world.tape, world.trace)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


@contextlib.contextmanager
def _output_of(schedule: Schedule) -> Iterator[None]:
    """Take what is written to standard output."""
    with contextlib.redirect_stdout(schedule):
        yield


def run_seeds(first: int, last: int) -> Iterator[Result]:
    """Run the seeds from ``first`` to below ``last``."""
    gc.disable()
    # What is there now stays, so looking for garbage need not look at it.
    gc.freeze()
    try:
        for seed in range(first, last):
            yield run_seed(seed)
            if seed % 50 == 0:
                gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()


def shrink(
    tape: Sequence[int], law: str, deployment: Deployment | None = None, tries: int = 600
) -> list[int]:
    """Make a tape smaller that breaks a law: delete parts of it, and write zeros, as long as the law stays broken."""
    best = list(tape)
    left = [tries]

    def breaks(candidate: Sequence[int]) -> bool:
        left[0] -= 1
        found = run_tape(candidate, deployment).violation
        return found is not None and found.law == law

    size = max(1, len(best) // 2)
    while left[0] > 0:
        best = _without_parts(best, size, breaks, left)
        if size == 1:
            break
        size //= 2
    for place in range(len(best)):
        if best[place] and left[0] > 0:
            candidate = [*best[:place], 0, *best[place + 1 :]]
            best = candidate if breaks(candidate) else best
    while best and best[-1] == 0:
        best.pop()
    return best


def _without_parts(
    tape: list[int], size: int, breaks: Callable[[Sequence[int]], bool], left: list[int]
) -> list[int]:
    """Return the tape without those parts of this size that the violation does not need."""
    place = 0
    while place < len(tape) and left[0] > 0:
        shorter = tape[:place] + tape[place + size :]
        zeros = [*tape[:place], *([0] * min(size, len(tape) - place)), *tape[place + size :]]
        if breaks(shorter):
            tape = shorter
        elif any(tape[place : place + size]) and breaks(zeros):
            tape = zeros
            place += size
        else:
            place += size
    return tape


class Figures:
    """What a campaign of many seeds has seen."""

    def __init__(self) -> None:
        self.seeds = 0
        self.situations: Counter[str] = Counter()
        self.violations: list[tuple[int, str, str]] = []

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.situations.update(result.situations)
        if result.violation is not None:
            self.violations.append((result.seed, result.violation.law, str(result.violation)))

    def merge(self, other: "Figures") -> None:
        self.seeds += other.seeds
        self.situations.update(other.situations)
        self.violations += other.violations


def run_range(seeds: range) -> Figures:
    """Run many seeds."""
    figures = Figures()
    for result in run_seeds(seeds.start, seeds.stop):
        figures.add(result)
    return figures


def run_jobs(seeds: range, jobs: int) -> Iterator[Figures]:
    """Run many seeds in several processes; yields the figures of each part of them."""
    step = 250
    parts = [range(start, min(start + step, seeds.stop)) for start in range(seeds.start, seeds.stop, step)]
    if jobs == 1:
        yield from map(run_range, parts)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(run_range, parts)
