# ruff: noqa: T201 - a command line prints
"""``python -m world.bugbank``: put each old bug back, or make each mutant, and count the seeds until the world finds it."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from world.bugbank.bugs import BUGS, MISSES
from world.bugbank.edits import ROOT, Bug, DoesNotFit, edited
from world.bugbank.mutants import chosen_mutants
from world.bugbank.reach import Reaches
from world.bugbank.runner import Finding, Results, Target, run, state_of_code

# The share of old bugs that must be found.
_ENOUGH = 0.9


def main() -> int:
    """Run what the command line asks for; 1: too few of the old bugs were found."""
    parser = argparse.ArgumentParser(prog="python -m world.bugbank", description=__doc__)
    parser.add_argument("--only", default="*", help="names, with * and ?; separated by commas")
    parser.add_argument("--seeds", type=int, default=10_000, help="the most for each")
    parser.add_argument("--step", type=int, default=300, help="seeds for each before any gets more")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=1800.0, help="the most for each at a time")
    parser.add_argument(
        "--mutants", type=int, default=0, metavar="COUNT", help="so many mutants, and no old bugs"
    )
    parser.add_argument("--mutant-seed", type=int, default=1, help="which ones")
    parser.add_argument("--results", type=Path, help="the file that keeps the findings")
    parser.add_argument(
        "--keep", action="store_true", help="believe findings of an earlier state of the code"
    )
    parser.add_argument("--list", action="store_true", help="print the names, and try nothing")
    asked = parser.parse_args()
    patterns = asked.only.split(",")
    if asked.mutants:
        mutants = chosen_mutants(asked.mutants, asked.mutant_seed)
        reaches = Reaches(ROOT / "build" / "bugbank-reach.json", state_of_code())
        targets = [
            Target(mutant.name, mutant.texts(), plan=reaches.plan(mutant, asked.seeds)) for mutant in mutants
        ]
    else:
        targets = list(_fitting(BUGS))
    targets = [target for target in targets if any(fnmatch(target.name, pattern) for pattern in patterns)]
    if asked.list:
        print("\n".join(target.name for target in targets))
        return 0
    kept = "mutants" if asked.mutants else "bugs"
    file = asked.results or ROOT / "build" / f"bugbank-{kept}.json"
    results = Results(file, state_of_code(), keep=asked.keep)
    found = list(
        run(
            targets,
            results,
            seeds=asked.seeds,
            step=asked.step,
            jobs=asked.jobs,
            time_s=asked.seconds,
            tell=_tell,
        )
    )
    if asked.mutants:
        return _report_mutants(found)
    return _report_bugs({bug.name: bug for bug in BUGS}, found, is_whole=asked.only == "*")


def _fitting(bugs: Sequence[Bug]) -> Iterator[Target]:
    """Those that can be put back; a test asks that it is all of them."""
    for bug in bugs:
        try:
            yield Target(bug.name, edited(bug.edits), bug.needs)
        except DoesNotFit as error:
            print(f"{bug.name} is left out: {error}", file=sys.stderr)


def _tell(target: Target, finding: Finding) -> None:
    """One line for each try, while it goes on."""
    what = finding.law or "not found"
    print(f"{target.name}: {what} after {finding.tried} seeds  {finding.text[:150]}", file=sys.stderr)


def _report_bugs(bugs: dict[str, Bug], found: Sequence[tuple[Target, Finding]], *, is_whole: bool) -> int:
    print("| Old bug | Mended in | What went wrong | Found by the law | Seeds |")
    print("|---|---|---|---|---|")
    for target, finding in found:
        bug = bugs[target.name]
        law = finding.law or f"not found: {MISSES.get(bug.name, 'reason not known')}"
        print(f"| `{bug.name}` | {bug.commit} | {bug.wrong} | {law} | {finding.tried:,} |")
    count = sum(finding.law is not None for _, finding in found)
    print(f"\n{count} of {len(found)} old bugs found")
    return int(is_whole and count < _ENOUGH * len(found))


def _report_mutants(found: Sequence[tuple[Target, Finding]]) -> int:
    laws: Counter[str] = Counter()
    for target, finding in found:
        if finding.law is None:
            reached = sum(seed < finding.tried for seed in target.plan or ())
            seen = f"{reached} reach it, {finding.changed} change"
            print(f"not found in {finding.tried:,} seeds, {seen}: {target.name}")
        else:
            laws[finding.law] += 1
    for law, count in laws.most_common():
        print(f"{count:4} {law}")
    print(f"{sum(laws.values())} of {len(found)} mutants found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
