"""Running the command line from tests: within this process for breadth, as a process of its own where that counts."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from metric_forwarder.cli.commands import forwarder
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator

ROOT = Path(__file__).parents[2]


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def printed(self) -> Any:
        """Standard output, which must be one JSON text."""
        return json.loads(self.out)


def run(*arguments: str, given: str | bytes = "", **settings: str) -> Finished:
    """Run a command in this process; settings are named without their ``MF_``."""
    environ = {f"MF_{name}": value for name, value in settings.items()}
    result = CliRunner().invoke(forwarder, list(arguments), input=given, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Finished(result.exit_code, result.stdout, result.stderr)


def execute(*arguments: str, given: str = "", streams: str = "", **settings: str) -> Finished:
    """Run ``python -m metric_forwarder`` as a process of its own; ``streams`` are redirections as a shell writes them."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *command(*arguments)],
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env=child_environ(**settings),
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def on_terminal(
    command: Sequence[str],
    environ: Mapping[str, str],
    folder: Path = ROOT,
    *,
    term: str = "dumb",
    columns: int = 120,
    both: bool = False,
) -> Finished:
    """Run a program whose standard output is a terminal; with ``both`` its errors go there too."""
    ours, theirs = pty.openpty()
    environ = {**environ, "TERM": term, "COLUMNS": str(columns)}
    # readline, which pytest loads, tells every process that is started how high the terminal is. No shell does.
    environ.pop("LINES", None)
    errors = theirs if both else subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdout=theirs, stderr=errors, encoding="utf-8"
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
        complaint = process.communicate(timeout=60)[1]
    os.close(ours)
    return Finished(process.returncode, shown.decode(errors="backslashreplace"), complaint or "")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that the other end has closed
        return b""


def command(*arguments: str) -> list[str]:
    """The command line as a program."""
    return [sys.executable, "-m", "metric_forwarder", *arguments]


def child_environ(**settings: str) -> dict[str, str]:
    """The environment of a process of the project's, and settings named without their ``MF_``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MF_", "DEPLOY_", "TENCENT_"))
    }
    named = {f"MF_{name}": value for name, value in settings.items()}
    return {**kept, **named, "PYTHONPATH": str(ROOT / "src")}


def settings_for(receiver: Emulator) -> dict[str, str]:
    """What a function needs to send to that receiver; names without their ``MF_``."""
    return {
        "RECEIVER_URL": receiver.url,
        "SECRET_ID": EXAMPLE_SECRET_ID,
        "SECRET_KEY": EXAMPLE_SECRET_KEY,
        "REGION": "gz",
    }


def point(value: Any = 1, **members: Any) -> dict[str, Any]:
    """A valid point unless told otherwise."""
    return {
        "namespace": "pc",
        "metricName": "load",
        "dimensions": {"ip": "10.0.0.1"},
        "value": value,
    } | members
