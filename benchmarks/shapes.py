"""CPU time of a point in each shape that producers write, compared with a floor that gets the same messages."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks.processes import Subject, receiver
from benchmarks.rows import Pair, Row, compare
from benchmarks.workload import HOSTS, MESSAGE_SHAPES, METRICS

POINTS = 10_000
TURNS = 3
_SERIES = METRICS * HOSTS
# It has processes of its own, since it leaves their memory in pieces, in which any other shape takes longer.
_FLOOD = "every point a new series"

# By shape: the bounds for batches of 30, batches of 500 and remote write; None where it is not measured.
_SENT = ("batches of 30", "batches of 500", "remote write")
BOUNDS: Mapping[str, tuple[float | None, float | None, float | None]] = {
    "no timestamp": (0.75, 1.5, 1.3),
    "timestamp in seconds": (0.85, 1.6, 1.4),
    "timestamp in ms": (0.85, 1.6, 1.4),
    "timestamp as a float": (0.85, 1.6, 1.4),
    "RFC 3339": (0.9, 1.7, 1.6),
    "id": (0.85, 1.6, 1.4),
    "envelope of 100": (0.75, 1.6, 1.3),
    "list of 100": (0.75, 1.6, 1.3),
    "pretty-printed": (0.9, 1.7, 1.5),
    "ten dimensions": (None, None, 1.2),
    _FLOOD: (1.2, 3.0, 3.6),
}


def rows(turns: int = TURNS, shapes: tuple[str, ...] = MESSAGE_SHAPES) -> list[Row]:
    with ExitStack() as stack:
        url = stack.enter_context(receiver())
        usual, others = _subjects(stack, url), _subjects(stack, url)
        pairs = [
            Pair(
                f"{shape}, {where}",
                bound,
                partial(_cost_us, ours, shape),
                partial(_cost_us, floor, shape),
                _detail,
                partial(_warm_up, ours, floor, shape),
            )
            for shape in shapes
            for where, bound, (ours, floor) in zip(
                _SENT, BOUNDS[shape], others if shape == _FLOOD else usual, strict=True
            )
            if bound is not None
        ]
        return compare(pairs, turns)


def _subjects(stack: ExitStack, url: str) -> list[tuple[Subject, Subject]]:
    """Start the forwarder and the floor, for each place to send to."""
    write = url.replace("/v2/index.php", "/api/v1/write")
    parties = (
        (Subject("forwarder", url=url, BATCH_MAX_POINTS="30"), Subject("floor", url=url, batch=30)),
        (Subject("forwarder", url=url, BATCH_MAX_POINTS="500"), Subject("floor", url=url, batch=500)),
        (
            Subject("forwarder", url=url, DESTINATION="remote-write", REMOTE_WRITE_URL=write),
            Subject("remote_write_floor", url=write, batch=500),
        ),
    )
    return [(stack.enter_context(ours), stack.enter_context(floor)) for ours, floor in parties]


def _warm_up(ours: Subject, floor: Subject, shape: str) -> None:
    """Let both handle each of their series once, in this shape."""
    for subject in (ours, floor):
        subject.run(_SERIES, shape)


def _cost_us(subject: Subject, shape: str) -> float:
    return subject.run(POINTS, shape).cpu_s / POINTS * 1e6


def _detail(ours: Sequence[float], floor: Sequence[float]) -> str:
    return f"{median(ours):.1f} µs against {median(floor):.1f} µs"


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows(3, tuple(sys.argv[1:]) or MESSAGE_SHAPES)))
