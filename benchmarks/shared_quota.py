"""The tables and the plot of docs/scale.md: many instances that share one receiver's quota, in virtual time.

``PYTHONPATH=tests python -m benchmarks.shared_quota`` writes them again.
"""

import random
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from metric_forwarder.delivery.pacing import Pacer
from support.fakes import machine_of
from support.shared_quota import LIMITERS, Crowd, Limiter, VirtualClock, token_bucket

_QUOTA = 50
_SECONDS = 600
_INSTANCES = (1, 10, 100, 1000)
_SEEDS = (1, 2, 3)
# The figures of the earlier pacer, which never went below one request a second: used, refused, fairness.
_BEFORE = {
    "token bucket": [(0.967, 0.006, 1.0), (0.993, 0.102, 0.99), (0.992, 0.550, 0.98), (0.991, 0.906, 0.89)],
    "fixed window": [(0.942, 0.009, 1.0), (0.999, 0.109, 0.99), (1.0, 0.559, 0.99), (1.0, 0.897, 0.87)],
    "sliding window": [(0.919, 0.007, 1.0), (0.958, 0.106, 1.0), (0.984, 0.578, 0.99), (0.998, 0.902, 0.89)],
    "window that counts refused requests": [
        (0.911, 0.014, 1.0),
        (0.655, 0.323, 0.99),
        (0.172, 0.867, 0.88),
        (0.019, 0.997, 0.12),
    ],
}
IN_CHINESE = {
    "token bucket": "令牌桶",
    "fixed window": "固定窗口",
    "sliding window": "滑动窗口",
    "window that counts refused requests": "把拒绝也计入的窗口",
}
_MEASURES = {"share of the quota used": 1.0, "share of requests refused": 0.0, "fairness (Jain's index)": 1.0}


def crowd(instances: int, limiter: Limiter, *, seed: int = 1, backlog: int | None = None) -> Crowd:
    """Make a crowd of instances whose chance follows from the seed."""
    clock, chance = VirtualClock(), random.Random(1000 * seed + instances)
    machine = machine_of(clock, lambda ceiling: chance.uniform(0, ceiling))
    return Crowd([Pacer(machine) for _ in range(instances)], limiter, clock, seed=seed, backlog=backlog)


def measure(make_limiter: Callable[[int], Limiter]) -> list[list[float]]:
    """Return for each number of instances what is used, refused and fair: the middle of several runs."""
    outcomes = []
    for instances in _INSTANCES:
        runs = [crowd(instances, make_limiter(_QUOTA), seed=seed).run(_SECONDS, _QUOTA) for seed in _SEEDS]
        outcomes.append([median(values) for values in zip(*(run[:3] for run in runs), strict=True)])
    return outcomes


def measure_later(make_limiter: Callable[[int], Limiter]) -> list[list[float]]:
    """Return the same for the second ten minutes, in one run."""
    outcomes = []
    for instances in _INSTANCES:
        later = crowd(instances, make_limiter(_QUOTA))
        later.run(_SECONDS, _QUOTA)
        later.count_anew()
        outcomes.append(list(later.go_on(2 * _SECONDS, _QUOTA)[:3]))
    return outcomes


def plot(now: dict[str, list[list[float]]], file: Path) -> None:
    """Draw each measure by the number of instances, with the optimum (dashed) and the earlier pacer (dotted)."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    for place, (axes, (measured, best)) in enumerate(
        zip(figure.subplots(1, 3), _MEASURES.items(), strict=True)
    ):
        for number, (name, outcomes) in enumerate(now.items()):
            color = f"C{number}"
            axes.plot(
                _INSTANCES, [o[place] for o in outcomes], color=color, marker="o", markersize=4, label=name
            )
            axes.plot(_INSTANCES, [o[place] for o in _BEFORE[name]], color=color, linestyle=":", linewidth=1)
        axes.axhline(best, color="grey", linewidth=0.8, linestyle="--")
        axes.set(xscale="log", xlabel="instances", title=measured, ylim=(-0.03, 1.03))
        axes.grid(visible=True, alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(file, format="svg", metadata={"Date": None})


def drain_s(instances: int, rate: float, outage_s: float) -> float | None:
    """Return the seconds until the requests of an outage are sent; ``rate`` of them were due each second."""
    backlog = round(rate * outage_s / instances)
    return crowd(instances, token_bucket(_QUOTA), backlog=backlog).run(24 * 3600, _QUOTA).drained_s


def bytes_of_a_pacer() -> int:
    machine = machine_of(VirtualClock())
    tracemalloc.start()
    pacers = [Pacer(machine) for _ in range(1000)]
    for pacer in pacers:
        pacer.accept()
        pacer.refuse()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken // len(pacers)


def put_rows(page: Path, header: str, rows: list[list[str]]) -> None:
    """Replace the rows of the table whose header begins with ``header``."""
    lines = page.read_text("utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}")) + 2
    end = first + next(number for number, line in enumerate(lines[first:]) if not line.startswith("|"))
    lines[first:end] = [f"| {' | '.join(row)} |" for row in rows]
    page.write_text("\n".join([*lines, ""]), "utf-8")


def shown(used: float, refused: float, fairness: float) -> list[str]:
    return [f"{used:.0%}", f"{refused:.1%}", f"{fairness:.2f}"]


def main() -> int:
    docs = Path(__file__).parents[1] / "docs"
    now = {name: measure(make_limiter) for name, make_limiter in LIMITERS.items()}
    plot(now, docs / "scale.svg")
    flood = [
        [name, f"{instances:,}", *shown(*outcome), *shown(*before)]
        for name, outcomes in now.items()
        for instances, outcome, before in zip(_INSTANCES, outcomes, _BEFORE[name], strict=True)
    ]
    later = [
        [name, f"{instances:,}", *shown(*outcome)]
        for name, make_limiter in LIMITERS.items()
        for instances, outcome in zip(_INSTANCES, measure_later(make_limiter), strict=True)
    ]
    outage = [
        [str(rate), f"{(drain_s(100, rate, 3600) or 0) / 60:.0f}", f"{rate * 3600 / _QUOTA / 60:.0f}"]
        for rate in (10, 20, 40)
    ]
    put_rows(docs / "scale.md", "limiter |", flood)
    put_rows(docs / "zh" / "scale.md", "限流器 |", [[IN_CHINESE[row[0]], *row[1:]] for row in flood])
    put_rows(docs / "scale.md", "limiter in the second", later)
    put_rows(docs / "zh" / "scale.md", "第二个十分钟", [[IN_CHINESE[row[0]], *row[1:]] for row in later])
    put_rows(docs / "scale.md", "requests a second during", outage)
    put_rows(docs / "zh" / "scale.md", "故障期间", outage)
    print(f"{bytes_of_a_pacer()} bytes an instance")
    return 0


if __name__ == "__main__":
    sys.exit(main())
