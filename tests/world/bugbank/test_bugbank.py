"""The bank holds together: each old bug can be put back, the easy ones are found, and the mutants are always the same."""

import ast
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from world.bugbank.bugs import BUGS, MISSES
from world.bugbank.edits import Bug, edited
from world.bugbank.mutants import WINGS, all_mutants, by_wing, chosen_mutants
from world.bugbank.reach import Reaches, statement_of
from world.bugbank.runner import Finding, Results, Target, hunt
from world.campaign import run_seed
from world.oracles import LAWS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_old_bug_can_be_put_back_into_the_code_of_today(bug: Bug) -> None:
    for path, text in edited(bug.edits).items():
        compile(text, path, "exec")
    assert bug.law in LAWS


def test_each_old_bug_has_a_name_of_its_own_and_the_commit_that_mended_it() -> None:
    assert [name for name, count in Counter(bug.name for bug in BUGS).items() if count > 1] == []
    assert all(len(bug.commit) >= 7 and int(bug.commit, 16) for bug in BUGS)
    assert set(MISSES) <= {bug.name for bug in BUGS}


def test_a_seed_always_chooses_the_same_mutants_of_every_wing() -> None:
    chosen = chosen_mutants(200, seed=1)

    assert chosen == chosen_mutants(200, seed=1)
    assert len(set(chosen)) == 200
    assert all(by_wing(chosen)[wing] >= 20 for wing in WINGS)


@pytest.mark.slow
def test_each_mutant_is_another_program_that_can_be_compiled() -> None:
    for mutant in all_mutants()[::7]:
        ((path, text),) = mutant.texts().items()
        assert ast.parse(text, path)
        assert mutant.old != mutant.new


def test_findings_are_kept_for_one_state_of_the_code(tmp_path: Path) -> None:
    target, file = Target("a", {"x.py": "1"}), tmp_path / "found.json"
    Results(file, "state").put(target, Finding(7, "a law", "facts"))

    assert Results(file, "state").get(target) == Finding(7, "a law", "facts")
    assert Results(file, "another").get(target) is None
    assert Results(file, "another", keep=True).get(target) == Finding(7, "a law", "facts")
    assert Results(file, "state").get(Target("a", {"x.py": "2"})) is None


@pytest.mark.slow
def test_marks_of_the_code_change_no_schedule_and_seeds_that_do_not_reach_a_mutant_are_passed_over(
    tmp_path: Path,
) -> None:
    reaches, seeds = Reaches(tmp_path / "reach.json", "state"), range(6)
    mutants = chosen_mutants(40, seed=1)
    plans = [reaches.plan(mutant, len(seeds)) for mutant in mutants]

    traces = {seed: run_seed(seed).trace_hash for seed in seeds}
    assert all(plan.items() <= traces.items() for plan in plans)
    assert {len(plan) for plan in plans} >= {0, len(seeds)}
    assert Reaches(tmp_path / "reach.json", "state").plan(mutants[0], 6) == plans[0]


def test_a_mutant_that_no_seed_reaches_is_not_run() -> None:
    target = Target("a", {"no/such/file.py": ""}, plan={900: "trace"})

    assert hunt(target, 0, 300, 1.0) == Finding(300, None, "")


@pytest.mark.slow
def test_the_innermost_statement_of_a_function_is_what_a_mutant_changes() -> None:
    lines = {mutant.line: statement_of(mutant) for mutant in all_mutants() if mutant.kind == "removed"}

    assert lines
    assert all(statement is None or statement.endswith(f":{line}") for line, statement in lines.items())


# Found within some dozens of seeds each.
_EASY = (
    "a-dead-letter-comes-again",
    "a-line-that-cannot-be-written",
    "a-message-makes-it-fetch",
    "basic-is-not-asked-for",
    "code-beside-other-text-unread",
    "no-thread-to-send-raises",
    "the-id-alone-is-the-identity",
    "undelivered-is-only-a-warning",
)


@pytest.mark.slow
def test_easy_old_bugs_are_found_within_a_few_hundred_seeds() -> None:
    easy = [Target(bug.name, edited(bug.edits)) for bug in BUGS if bug.name in _EASY]
    with ThreadPoolExecutor(2) as pool:
        findings = list(pool.map(lambda target: hunt(target, 0, 400, 300.0), easy))

    assert len(findings) == len(_EASY)
    assert [finding for finding in findings if finding.law is None] == []
