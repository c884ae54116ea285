# ruff: noqa: T201 - what it prints is read by the runner
"""``python -m world.bugbank.hunt FIRST LAST SECONDS [NEED...]``: run schedules until a law is broken, for changed source.

Prints one line of JSON: what was found by which seed, or how far it came. A seed whose schedule has not what the changed
code needs to be reached (a destination, a store, a fault) is passed over, and counts like one in which nothing is found.
Standard input may have a plan: the seeds that are not passed over, each with the hash of its trace in today's code.
"""

import gc
import json
import resource
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

# A schedule takes some 20 ms of processor time. One that takes this long does not come to an end.
LONGEST_SCHEDULE_S = 40.0
_MOST_MEMORY = 2 * 2**30


class _Endless(BaseException):
    """One schedule took too long: code under test must not catch this."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _Endless


def main() -> int:
    first, last, time_s, needs = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGVTALRM, _interrupt)
    plan: dict[str, str] | None = json.loads(sys.stdin.read() or "null")
    seed, changed = first, 0
    try:
        from world.campaign import run_seed  # noqa: PLC0415 - changed code may fail at its import

        gc.disable()
        until = time.monotonic() + time_s
        while seed < last and time.monotonic() < until:
            if (plan is not None and str(seed) not in plan) or (needs and not _is_met(seed, needs)):
                seed += 1
                continue
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SCHEDULE_S)
            result = run_seed(seed)
            changed += plan is not None and plan[str(seed)] != result.trace_hash
            seed += 1
            if result.violation is not None:
                return _say(seed, result.violation.law, str(result.violation), changed)
            if seed % 50 == 0:
                gc.collect()
    except _Endless:
        return _say(seed + 1, "hang of the world", "a schedule did not come to an end")
    except Exception as error:  # noqa: BLE001 - whatever the changed code does to the world
        return _say(seed + 1, "crash of the world", repr(error)[:200])
    return _say(seed, None, "", changed)


def _is_met(seed: int, needs: Sequence[str]) -> bool:
    from world.schedule import Deployment, Schedule  # noqa: PLC0415 - as above
    from world.scheduler import World  # noqa: PLC0415

    schedule = Schedule(World(seed), Deployment())
    settings, kinds = schedule.settings, schedule.faults.kinds
    held = {
        "remote write": settings.get("MF_DESTINATION") == "remote-write",
        "receiver": settings.get("MF_DESTINATION") != "remote-write",
        "memory": settings["MF_DEDUPE"].startswith("memory"),
        "redis": settings["MF_DEDUPE"].startswith("redis"),
        "spool": bool(settings["MF_SPOOL"]),
        "spool in redis": settings["MF_SPOOL"].startswith("redis"),
        "spool in files": settings["MF_SPOOL"].startswith("file"),
        "short window": settings["MF_DEDUPE_WINDOW_S"] == "90",
        "hold": settings["MF_UNCERTAIN"] == "hold",
    }
    # A need may name several faults, one of which is enough.
    return all(held[need] if need in held else bool(set(need.split("|")) & set(kinds)) for need in needs)


def _say(tried: int, law: str | None, text: str, changed: int = 0) -> int:
    print(json.dumps({"tried": tried, "law": law, "text": text, "changed": changed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
