"""Measure everything, print the table, write docs/benchmarks.md; status 1 if a budget does not hold."""

import sys
import time
from pathlib import Path

from benchmarks import (
    cold_start,
    cpu,
    formats,
    instructions,
    latency,
    memory,
    package,
    redis_dedupe,
    scale,
    shapes,
    small_events,
)
from benchmarks.page import page, page_in_chinese, table
from benchmarks.plot import plot
from benchmarks.processes import PEERS, ROOT
from package import python_310


def main() -> int:
    if not Path(PEERS).exists():
        sys.exit("The peers have an environment of their own, which `make bench` sets up: run that.")
    python = python_310()
    if python is None:
        sys.exit("The package is measured under Python 3.10, which was not found: put a python3.10 on PATH.")
    started = time.monotonic()
    with package.built() as built:
        rows = [*cold_start.rows(built.folder, python), *built.rows()]
    rows += [*memory.rows(), *latency.rows(), *redis_dedupe.rows()]
    costs = cpu.measure()
    by_shape = shapes.rows()
    rows += [*cpu.rows(costs), *small_events.rows(), *scale.rows(), *by_shape]
    rows += [*instructions.rows(), *formats.rows()]
    plot(costs.curves, by_shape, ROOT / "docs" / "benchmarks.svg")
    (ROOT / "docs" / "benchmarks.md").write_text(page(rows), encoding="utf-8")
    (ROOT / "docs" / "zh" / "benchmarks.md").write_text(page_in_chinese(rows), encoding="utf-8")
    print(table(rows))
    over = [row.what for row in rows if not row.holds]
    print(f"{len(rows) - len(over)} of {len(rows)} budgets hold; {time.monotonic() - started:.0f} s")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
