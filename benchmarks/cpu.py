"""CPU time of a point in a warm instance, compared with the floor, the peers, and events of other sizes."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from benchmarks.processes import PEERS, Subject, receiver
from benchmarks.rows import Row, ratio

TURNS = 4
POINTS = 10_000
SIZES = (1, 10, 100, 1000, 10_000)
_CURVE_TURNS = 3
# Their curves are only drawn; no row compares them.
_CURVE_TURNS_OF_OTHERS = 1
# These take milliseconds a point, so they are measured on fewer points.
_FEW = {"powertools, validate()": 100, "document's sample": 500}


class Costs(NamedTuple):
    """Microseconds of CPU a point.

    Attributes:
        turns: by subject, one figure for each turn.
        curves: by subject and size of the event.
        invalid: of the forwarder's invalid points, one figure for each turn.
        report_bytes: the size of the report of an event of invalid points.
    """

    turns: Mapping[str, list[float]]
    curves: Mapping[str, Mapping[int, float]]
    invalid: list[float]
    report_bytes: int


def measure() -> Costs:
    with ExitStack() as stack:
        url = stack.enter_context(receiver())
        subjects = {name: stack.enter_context(subject) for name, subject in _subjects(url).items()}
        turns: dict[str, list[float]] = {name: [] for name in subjects}
        invalid: list[float] = []
        report: object = None
        for turn in range(TURNS + 1):
            for name, subject in subjects.items():
                cost = _cost(subject, _FEW.get(name, POINTS))
                if turn:  # the first turn warms up
                    turns[name].append(cost)
            run = subjects["forwarder, 30"].run(POINTS, "invalid")
            report = run.result
            if turn:
                invalid.append(run.cpu_s / POINTS * 1e6)
        if not isinstance(report, dict) or report["outcomes"]["invalid"] != POINTS:
            raise RuntimeError("some of the invalid points were taken for valid ones")
        curves = {name: _curve(name, subject) for name, subject in subjects.items()}
    return Costs(turns, curves, invalid, _size(report))


def rows(costs: Costs) -> list[Row]:
    def against(what: str, ours: str, theirs: str, bound: float) -> Row:
        mine, other = costs.turns[ours], costs.turns[theirs]
        detail = f"{median(mine):.1f} µs against {median(other):.1f} µs"
        return Row(what, bound, ratio(mine, other), "×", TURNS, detail)

    small, large = costs.curves["forwarder, 30"][100], costs.curves["forwarder, 30"][POINTS]
    valid = costs.turns["forwarder, 30"]
    return [
        against("CPU a point, batches of 30, against the floor", "forwarder, 30", "floor, 30", 1.15),
        against("CPU a point, batches of 500, against the floor", "forwarder, 500", "floor, 500", 2.2),
        against(
            "CPU a point, against Powertools, schema compiled once",
            "forwarder, 30",
            "powertools, compiled",
            0.4,
        ),
        against(
            "CPU a point, against Powertools, `validate()` as documented",
            "forwarder, 30",
            "powertools, validate()",
            1 / 50,
        ),
        against(
            "CPU a point, against the document's sample, batches of 30",
            "forwarder, 30",
            "document's sample",
            1 / 9,
        ),
        against(
            "CPU a point, against the document's sample, batches of 500",
            "forwarder, 500",
            "document's sample",
            1 / 18,
        ),
        Row(
            "CPU a point, 10,000 points against 100",
            1.1,
            large / small,
            "×",
            _CURVE_TURNS,
            f"{large:.1f} µs against {small:.1f} µs",
        ),
        Row(
            "CPU of 10,000 invalid points against 10,000 valid ones",
            10,
            ratio(costs.invalid, valid),
            "×",
            TURNS,
            f"{median(costs.invalid):.1f} µs against {median(valid):.1f} µs a point",
        ),
        Row("report of 10,000 invalid points", 64, costs.report_bytes / 1024, "KB", 1, "as JSON"),
    ]


def _subjects(url: str) -> dict[str, Subject]:
    return {
        "forwarder, 30": Subject("forwarder", url=url, BATCH_MAX_POINTS="30"),
        "floor, 30": Subject("floor", url=url, batch=30),
        "forwarder, 500": Subject("forwarder", url=url, BATCH_MAX_POINTS="500"),
        "floor, 500": Subject("floor", url=url, batch=500),
        "powertools, compiled": Subject("powertools", PEERS, url=url, batch=30, validation="compiled"),
        "powertools, validate()": Subject("powertools", PEERS, url=url, batch=30, validation="documented"),
        "document's sample": Subject("sample", url=url),
    }


def _cost(subject: Subject, points: int) -> float:
    return subject.run(points).cpu_s / points * 1e6


def _curve(name: str, subject: Subject) -> dict[int, float]:
    """Measure the cost at each size of the event; small events are repeated, since one alone is too short to measure."""
    most = _FEW.get(name, POINTS)
    turns = _CURVE_TURNS if name.startswith("forwarder") else _CURVE_TURNS_OF_OTHERS
    return {
        size: median(
            sum(_cost(subject, size) for _ in range(events)) / events
            for events in [max(1, min(most, 300) // size)] * turns
        )
        for size in SIZES
        if size <= most
    }


def _size(report: object) -> int:
    return len(json.dumps(report).encode())
