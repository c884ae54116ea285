"""The processes of a benchmark: receivers and subjects."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).parents[1]
OURS = sys.executable
# Made by ``make bench``: the peers' packages stay out of our own environment.
PEERS = str(ROOT / ".venv-peers" / "bin" / "python")


class Run(NamedTuple):
    """CPU and wall seconds of one event, and what the subject returned for it."""

    cpu_s: float
    wall_s: float
    result: Any


@contextmanager
def receiver(delay_s: float = 0.0) -> Iterator[str]:
    """Run a receiver whose replies take ``delay_s``, and yield its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", str(delay_s)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v2/index.php"
        finally:
            process.kill()


_Self = TypeVar("_Self", bound="Subject")


class Subject:
    """A running program of ``benchmarks.subjects``, which handles events on request.

    Args:
        program: the name of its module.
        python: the interpreter that runs it.
        arguments: the arguments of the module's ``make``.

    Attributes:
        turn: the number of the last event; no two events of a subject have the same points.
    """

    def __init__(self, program: str, python: str = OURS, **arguments: Any) -> None:
        self.turn = 0
        self._process = self._start(
            [python, "-m", f"benchmarks.subjects.{program}", json.dumps(arguments)], environment()
        )

    def _start(self, command: Sequence[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )

    def run(self, points: int, kind: str = "valid") -> Run:
        """Let the subject handle one event that it has not seen before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.turn += 1
        self._process.stdin.write(json.dumps({"points": points, "turn": self.turn, "kind": kind}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a subject ended with status {self._process.wait()}: see its output above")
        measured = json.loads(line)
        return Run(measured["cpuS"], measured["wallS"], measured["result"])

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 -- typing.Self came after Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def environment(settings: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a measured process: ours without the settings of the function, and with the path of the code.

    Installed packages have bytecode. Ours must have it too, so the first process may write it.
    """
    left_out = ("MF_", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**inherited, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), **settings}
