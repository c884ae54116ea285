"""Instances of the function that can be killed: forked from a process that has everything imported already.

Run as a program, it reads a line of JSON for each instance, forks, and says how the instance ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from metric_forwarder.bootstrap import Application
from support.harness import report_of


class Nursery:
    """Starts instances; each handles one event and may be killed before it has."""

    def __enter__(self) -> "Nursery":  # noqa: PYI034 -- typing.Self came after Python 3.10
        path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, settings: dict[str, str], event: Any, kill_after_s: float) -> bool:
        """Whether the instance got to its end before it was killed.

        Raises:
            RuntimeError: it ended badly by itself.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([settings, event, kill_after_s]) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        if status not in {0, -signal.SIGKILL}:
            raise RuntimeError(f"the instance ended with {status}")
        return status == 0


def _fork(settings: dict[str, str], event: Any, kill_after_s: float) -> int:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        report_of(Application(settings), event)
        os._exit(0)
    until = time.monotonic() + kill_after_s
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(f"{_fork(*json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
