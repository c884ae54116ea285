"""Processes that are killed just before one of their calls of a file system, each before another one.

It forks, and watches all calls of its process for good: use it in a process of its own.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CALLS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}
_MOST = 500


class Killed(NamedTuple):
    """One process.

    Attributes:
        folder: its folder.
        status: its exit status: the negative number of the signal, or 0 if it came to its end.
        done: what it told before that.
    """

    folder: Path
    status: int
    done: list[Any]


def kill_before_each_call(
    base: Path, prepare: Callable[[Path], None], work: Callable[[Path, Callable[[Any], None]], None]
) -> Iterator[Killed]:
    """Do some work in process after process, each killed one call later, until one comes to its end.

    Args:
        base: each process gets a folder in it.
        prepare: fills the folder of a process.
        work: is given that folder, and what tells what it has done.
    """
    for number in range(1, _MOST):
        folder = base / str(number)
        prepare(folder)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _kill_before(number, folder)
            with os.fdopen(writing, "w", buffering=1) as told:
                work(folder, lambda done: print(json.dumps(done), file=told))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as said:
            done = [json.loads(line) for line in said]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        yield Killed(folder, status, done)
        if status == 0:
            return


def _kill_before(number: int, folder: Path) -> None:
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _CALLS and str(folder) in str(arguments[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
