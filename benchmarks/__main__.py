"""Measure every budget, print the table, and write docs/benchmarks.md; the exit status is 1 if a budget does not hold.

The pages are written only if the machine was idle before: figures that are measured beside other work mean little.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
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
from benchmarks.rows import Row
from package import python_310

# Processes that run or wait to run, on average of the last minute.
_IDLE_LOAD = 0.5
_PARTS = (memory, latency, redis_dedupe, small_events, scale, instructions, formats)


def main() -> int:
    if not Path(PEERS).exists():
        sys.exit("The peers have their own environment, which `make bench` sets up: run that.")
    python = python_310()
    if python is None:
        sys.exit("The package is measured under Python 3.10, which was not found: put a python3.10 on PATH.")
    load, started = os.getloadavg()[0], time.monotonic()
    with _timed("package"), package.built() as built:
        rows = [*cold_start.rows(built.folder, python), *built.rows()]
    with _timed("cpu"):
        costs = cpu.measure()
        rows += cpu.rows(costs)
    with _timed("shapes"):
        by_shape = shapes.rows()
        rows += by_shape
    for part in _PARTS:
        with _timed(part.__name__.removeprefix("benchmarks.")):
            rows += part.rows()
    print(table(rows))
    if load < _IDLE_LOAD:
        plot(costs.curves, by_shape, ROOT / "docs" / "benchmarks.svg")
        _write_pages(rows)
    else:
        print(
            f"docs/benchmarks.md was not written: the load was {load:.1f} before the run. Wait until it is below {_IDLE_LOAD}."
        )
    over = [row.what for row in rows if not row.holds]
    print(f"{len(rows) - len(over)} of {len(rows)} budgets hold; {time.monotonic() - started:.0f} s")
    return 1 if over else 0


@contextmanager
def _timed(part: str) -> Iterator[None]:
    """Print how long a part of the run took."""
    started = time.monotonic()
    yield
    print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _write_pages(rows: list[Row]) -> None:
    today = datetime.now(timezone.utc).date()
    (ROOT / "docs" / "benchmarks.md").write_text(page(rows, today), encoding="utf-8")
    (ROOT / "docs" / "zh" / "benchmarks.md").write_text(page_in_chinese(rows, today), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
