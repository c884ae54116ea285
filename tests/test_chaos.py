"""Random faults on real sockets: outcomes add up, what is called delivered is there, nothing is lost.

Sleeps are shortened, since the order of things matters here and not their length.
"""

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

from harness import ckafka, environ, point, report_of
from metric_forwarder.bootstrap import Application
from metric_forwarder.clock import SystemClock
from receiver_emulator import Emulator, EmulatorOptions
from receiver_emulator.faults import Kind

SCHEDULES = 2000
GROUPS = 8
REDELIVERIES = 20
REPLAY = {"Type": "Timer", "TriggerName": "replay", "Time": "now", "Message": '{"replay": true}'}
# Faults after which nobody can know whether the request was taken.
AMBIGUOUS = {"reset", "hang", "truncate", "garbage"}


class HastyClock(SystemClock):
    """The machine's clock, with sleeps of a fiftieth."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 50)


def random_faults(chosen: random.Random, *, ambiguous: bool) -> list[dict[str, Any]]:
    kinds = [kind for kind in get_args(Kind) if ambiguous or kind not in AMBIGUOUS]
    return [random_fault(chosen, chosen.choice(kinds)) for _ in range(chosen.randint(1, 5))]


def random_fault(chosen: random.Random, kind: str) -> dict[str, Any]:
    fault: dict[str, Any] = {
        "kind": kind,
        "times": chosen.choice([1, 1, 2, 5]),
        "rate": chosen.choice([1.0, 0.5]),
    }
    if kind == "code":
        fault["value"] = chosen.randint(1000, 1021)
    elif kind == "status":
        # 502 and 504 answer nothing about the request, but here nothing was stored.
        fault["value"] = chosen.choice([204, 302, 400, 404, 408, 413, 429, 500, 502, 503, 504])
        fault["headers"] = chosen.choice(
            [{}, {"Retry-After": "1"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}]
        )
    elif kind in {"delay", "hang"}:
        fault["value"] = chosen.choice([0.01, 0.03]) if kind == "delay" else 0.2
    if kind in AMBIGUOUS:
        fault["when"] = chosen.choice(["before", "after"])
    return fault


def random_event(chosen: random.Random, schedule: int) -> tuple[dict[str, Any], set[tuple[str, int]]]:
    """An event of valid and invalid points, and what must arrive of it."""
    bodies: list[Any] = []
    expected = set()
    for number in range(chosen.randint(1, 25)):
        metric = f"m{chosen.randint(0, 4)}"
        if chosen.random() < 0.1:
            bodies.append(chosen.choice(["{", point("1"), {"metricName": metric}]))
        else:
            expected.add((metric, number))
            bodies.append(point(number, metric, dimensions={"schedule": str(schedule)}))
    return ckafka(*bodies, topic=f"chaos{schedule}"), expected


def test_no_schedule_of_faults_loses_a_point_or_lies_about_one(tmp_path: Path) -> None:
    # Most of the time is spent waiting for answers that do not come: groups run side by side.
    with ThreadPoolExecutor(GROUPS) as pool:
        assert sum(pool.map(lambda group: run_group(group, tmp_path), range(GROUPS))) >= SCHEDULES


def run_group(group: int, folder: Path) -> int:
    chosen = random.Random(group)
    count = -(-SCHEDULES // GROUPS)
    with Emulator(EmulatorOptions(seed=group)) as receiver:
        for schedule in range(count):
            run_schedule(receiver, chosen, group * count + schedule, folder / f"{group}-{schedule}")
    return count


def run_schedule(receiver: Emulator, chosen: random.Random, schedule: int, folder: Path) -> None:
    ambiguous = chosen.random() < 0.5
    faults = random_faults(chosen, ambiguous=ambiguous)
    spooling = chosen.random() < 0.5
    settings = {
        "RECEIVER_URL": receiver.url,
        # Without ambiguous faults a timeout would be one: on a busy machine a short one would strike by itself.
        "REQUEST_TIMEOUT_S": "0.1" if ambiguous else "5",
        "BATCH_MAX_POINTS": str(chosen.choice([1, 3, 30])),
        "CONCURRENCY": str(chosen.choice([1, 4])),
        "MAX_ATTEMPTS": str(chosen.choice([1, 3])),
        "UNCERTAIN": chosen.choice(["resend", "hold"]),
        **({"SPOOL": folder.as_uri()} if spooling else {}),
    }
    application = Application(environ(**settings), HastyClock())
    receiver.clear()
    for fault in faults:
        receiver.fault(**fault)
    event, expected = random_event(chosen, schedule)
    told = f"schedule {schedule}: {json.dumps(faults)} {settings}"

    first = report_of(application, event)
    held = arrived(receiver, schedule)
    assert len(held) >= first["outcomes"]["delivered"], told
    assert sum(held.values()) >= first["outcomes"]["delivered"], told
    assert not spooling or first["outcomes"]["undelivered"] == 0, told

    receiver.clear_faults()
    reports = [first]
    # The platform redelivers until nothing is undelivered, and a timer replays until nothing waits: on a busy machine
    # even a healthy receiver may miss the short time-out of these schedules.
    while reports[-1]["outcomes"]["undelivered"]:
        assert len(reports) < REDELIVERIES, told
        reports.append(report_of(application, event))
    if spooling:
        reports.append(report_of(application, REPLAY))
        while reports[-1]["outcomes"]["spooled"]:
            assert len(reports) < REDELIVERIES, told
            reports.append(report_of(application, REPLAY))
    held = arrived(receiver, schedule)
    lost = expected - held.keys()
    # What was refused for good, or held by wish, is no loss: it was reported as such.
    forgiven = sum(report["outcomes"]["rejected"] + report["outcomes"]["uncertain"] for report in reports)
    assert len(lost) <= forgiven, told
    assert held.keys() <= expected, told
    if not any(fault["kind"] in AMBIGUOUS | {"delay"} for fault in faults):
        assert set(held.values()) <= {1}, told


def arrived(receiver: Emulator, schedule: int) -> Counter[tuple[str, int]]:
    """What is stored of a schedule; a request that an earlier one gave up may still come in."""
    return Counter(
        (stored["metricName"], int(stored["value"]))
        for stored in receiver.points()
        if stored["dimensions"]["schedule"] == str(schedule)
    )
