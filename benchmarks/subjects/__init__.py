"""What is measured: each module is a program that handles an event when it is told to.

Told ``{"points": 10000, "turn": 3, "kind": "valid"}`` on a line of its standard input, it writes
``{"cpuS": …, "wallS": …, "result": …}`` as a line. What it was started with stands in its arguments as JSON.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.callgrind import COUNTED, count
from benchmarks.workload import event

_LARGE = 1000

Handle = Callable[[dict[str, Any]], Any]


def serve(make: Callable[..., Handle]) -> None:
    """Make the subject from the program's arguments, then measure it once for each line that comes in."""
    handle = make(**json.loads(sys.argv[1]))
    # A handler's own prints are part of its cost, but not of this conversation.
    answers = sys.stdout
    is_counted = COUNTED in os.environ
    with Path(os.devnull).open("w", encoding="utf-8") as sys.stdout:
        for line in sys.stdin:
            asked = event(**json.loads(line))
            if len(asked.get("Records", ())) >= _LARGE:
                gc.collect()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            result = count(lambda: handle(asked)) if is_counted else handle(asked)  # noqa: B023 - called now
            cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
            print(json.dumps({"cpuS": cpu_s, "wallS": wall_s, "result": result}), file=answers, flush=True)
