"""CPU time of small events, where the cost that every event has counts most: settings, pipeline, threads, report, log line."""

from contextlib import ExitStack

from benchmarks.processes import Subject, receiver
from benchmarks.rows import Row, in_turns, ratio
from benchmarks.workload import HTTP_TOKEN

BOUND = 1.15
TURNS = 15
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
        return [
            _row(f"CPU of an event of {what}, against the floor", kind, points, ours, floor)
            for kind, points, what in _KINDS
        ]


def _row(what: str, kind: str, points: int, ours: Subject, floor: Subject) -> Row:
    mine, least = in_turns(TURNS, lambda: _ms(ours, kind, points), lambda: _ms(floor, kind, points))
    detail = f"{min(mine):.2f} ms against {min(least):.2f} ms"
    return Row(what, BOUND, ratio(mine, least), "×", TURNS, detail)


def _ms(subject: Subject, kind: str, points: int) -> float:
    return sum(subject.run(points, kind).cpu_s for _ in range(_EVENTS)) / _EVENTS * 1000


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows()))
