"""The simulated world: no law is broken, everything expected occurs, and every schedule can be repeated."""

import pytest

from world.campaign import Figures, run_jobs, run_seed, run_tape
from world.situations import EXPECTED


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in range(20):
        assert run_seed(seed).trace_hash == run_seed(seed).trace_hash


def test_a_tape_repeats_the_schedule_of_its_seed() -> None:
    for seed in range(20):
        result = run_seed(seed)
        assert run_tape(result.tape, seed=seed).trace_hash == result.trace_hash


@pytest.mark.slow
def test_a_thousand_schedules_break_no_law_and_meet_every_situation() -> None:
    figures = Figures()
    for part in run_jobs(range(1000), jobs=2):
        figures.merge(part)

    assert figures.violations == []
    assert [name for name in EXPECTED if not figures.situations[name]] == []
