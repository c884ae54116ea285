# ruff: noqa: T201 - a command line prints
"""``python -m world --seeds 0:1000``: run schedules from seeds, and print what was seen; with ``tests`` on the path."""

import argparse
import json
import sys
import time
from pathlib import Path

from world.campaign import Figures, Result, run_jobs, run_seed, run_tape, shrink
from world.situations import EXPECTED


def main() -> int:
    """Run what the command line asks for; 1: a law was broken, or an expected situation did not occur."""
    parser = argparse.ArgumentParser(prog="python -m world", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="FIRST:LAST, the last one excluded")
    parser.add_argument("--seed", type=int, help="one seed: print its trace")
    parser.add_argument("--tape", type=Path, help="a file with choices: repeat them and print the trace")
    parser.add_argument("--shrink", type=Path, help="with --seed: write the smallest tape found to this file")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    asked = parser.parse_args()
    if asked.tape is not None:
        kept = json.loads(asked.tape.read_text())
        return _show(run_tape(kept["tape"]))
    if asked.seed is not None:
        result = run_seed(asked.seed)
        if asked.shrink is not None and result.violation is not None:
            tape = shrink(result.tape, result.violation.law)
            shrunk = run_tape(tape)
            met = sorted(shrunk.situations)
            kept = {"law": result.violation.law, "seed": asked.seed, "met": met, "tape": tape}
            asked.shrink.write_text(json.dumps(kept) + "\n")
            return _show(shrunk)
        return _show(result)
    first, _, last = asked.seeds.partition(":")
    return _campaign(range(int(first), int(last)), asked.jobs)


def _show(result: Result) -> int:
    for line in result.trace:
        print(line)
    print(result.violation or "no law was broken")
    return int(result.violation is not None)


def _campaign(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    figures = Figures()
    for part in run_jobs(seeds, jobs):
        figures.merge(part)
        for seed, _, text in part.violations:
            print(f"seed {seed}: {text}", file=sys.stderr)
        took_s = time.monotonic() - began
        print(f"{figures.seeds} seeds, {figures.seeds / took_s:.0f} a second", file=sys.stderr)
    for name, count in sorted(figures.situations.items()):
        print(f"{count:9} {name}")
    missed = [name for name in EXPECTED if not figures.situations[name]]
    for name in missed:
        print(f"  never    {name}")
    print(
        f"{figures.seeds} seeds, {len(figures.situations)} situations, {len(figures.violations)} violations"
    )
    return int(bool(figures.violations or missed))


if __name__ == "__main__":
    sys.exit(main())
