"""The simulated world: no law is broken, everything expected occurs, and every schedule can be repeated."""

import json
from pathlib import Path

import pytest

from world.campaign import Figures, run_jobs, run_seed, run_tape
from world.situations import EXPECTED

some_seeds = pytest.mark.parametrize(
    "seeds", [range(5), pytest.param(range(5, 20), marks=pytest.mark.slow)], ids=str
)


@some_seeds
def test_the_same_seed_gives_the_same_trace(seeds: range) -> None:
    for seed in seeds:
        assert run_seed(seed).trace_hash == run_seed(seed).trace_hash


@some_seeds
def test_a_tape_repeats_the_schedule_of_its_seed(seeds: range) -> None:
    for seed in seeds:
        result = run_seed(seed)
        assert run_tape(result.tape, seed=seed).trace_hash == result.trace_hash


TAPES = sorted(Path(__file__).parent.glob("tapes/*.json"))


@pytest.mark.parametrize("tape", TAPES, ids=lambda tape: tape.stem)
def test_what_the_world_once_found_stays_mended(tape: Path) -> None:
    kept = json.loads(tape.read_text())
    result = run_tape(kept["tape"])
    assert result.violation is None
    assert set(kept["met"]) <= set(result.situations), (
        "the world draws otherwise by now: record the tape again"
    )


@pytest.mark.slow
def test_a_thousand_schedules_break_no_law_and_meet_every_situation() -> None:
    figures = Figures()
    for part in run_jobs(range(1000), jobs=2):
        figures.merge(part)

    assert figures.violations == []
    assert [name for name in EXPECTED if not figures.situations[name]] == []
