# ruff: noqa: T201 - what it prints is read by the runner
"""``python -m world.bugbank.hunt FIRST LAST``: run schedules until a law is broken; for changed source on the path.

Prints one line of JSON: what was found by which seed, or how far it came.
"""

import gc
import json
import resource
import signal
import sys
import time
from types import FrameType

# A schedule takes some 20 ms of processor time. One that takes this long does not come to an end.
LONGEST_SCHEDULE_S = 40.0
_MOST_MEMORY = 2 * 2**30


class _Endless(BaseException):
    """One schedule took too long: code under test must not catch this."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _Endless


def main() -> int:
    first, last, time_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGVTALRM, _interrupt)
    seed = first
    try:
        from world.campaign import run_seed  # noqa: PLC0415 - changed code may fail at its import

        gc.disable()
        until = time.monotonic() + time_s
        while seed < last and time.monotonic() < until:
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SCHEDULE_S)
            result = run_seed(seed)
            seed += 1
            if result.violation is not None:
                return _say(seed, result.violation.law, str(result.violation))
            if seed % 50 == 0:
                gc.collect()
    except _Endless:
        return _say(seed + 1, "hang of the world", "a schedule did not come to an end")
    except Exception as error:  # noqa: BLE001 - whatever the changed code does to the world
        return _say(seed + 1, "crash of the world", repr(error)[:200])
    return _say(seed, None, "")


def _say(tried: int, law: str | None, text: str) -> int:
    print(json.dumps({"tried": tried, "law": law, "text": text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
