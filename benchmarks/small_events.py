"""CPU time of small events, where the cost that every event has counts most: settings, pipeline, threads, report, log line."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks.processes import Subject, receiver
from benchmarks.rows import Pair, Row, compare
from benchmarks.workload import HTTP_TOKEN

BOUND = 1.15
TURNS = 9
_EVENTS = 40
# The kind of an event, its messages, and its words in the row.
_KINDS = (
    ("valid", 1, "1 message"),
    ("valid", 10, "10 messages"),
    ("valid", 100, "100 messages"),
    ("http", 1, "one HTTP request"),
)


def rows() -> list[Row]:
    with ExitStack() as stack:
        url = stack.enter_context(receiver())
        ours = stack.enter_context(Subject("forwarder", url=url, HTTP_TOKEN=HTTP_TOKEN))
        floor = stack.enter_context(Subject("floor", url=url, batch=30))
        pairs = [
            Pair(
                f"CPU of an event of {what}, against the floor",
                BOUND,
                partial(_ms, ours, kind, points),
                partial(_ms, floor, kind, points),
                _detail,
            )
            for kind, points, what in _KINDS
        ]
        return compare(pairs, TURNS)


def _ms(subject: Subject, kind: str, points: int) -> float:
    return sum(subject.run(points, kind).cpu_s for _ in range(_EVENTS)) / _EVENTS * 1000


def _detail(ours: Sequence[float], floor: Sequence[float]) -> str:
    return f"{median(ours):.2f} ms against {median(floor):.2f} ms"


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows()))
