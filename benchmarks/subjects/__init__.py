"""The programs that are measured: each module is one that handles events on request.

For a line ``{"points": 10000, "turn": 3, "kind": "valid"}`` on its standard input it handles such an event, and writes a line
``{"cpuS": …, "wallS": …, "result": …}``. Its command line has the arguments of its ``make``, as a JSON object.
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
    """Make the subject from the program's arguments, then measure one event for each line of standard input."""
    handle = make(**json.loads(sys.argv[1]))
    # Printing is part of a handler's cost, but its output must not mix with the replies.
    replies = sys.stdout
    is_counted = COUNTED in os.environ
    with Path(os.devnull).open("w", encoding="utf-8") as sys.stdout:
        for line in sys.stdin:
            made = event(**json.loads(line))
            if len(made.get("Records", ())) >= _LARGE:
                gc.collect()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            result = count(lambda: handle(made)) if is_counted else handle(made)  # noqa: B023 - called now
            cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
            print(json.dumps({"cpuS": cpu_s, "wallS": wall_s, "result": result}), file=replies, flush=True)
