"""``metric-forwarder serve`` as a process, for tests that speak HTTP to it."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from support.command_line import child_environ


@contextmanager
def serving(*options: str, unsaid: str = "Traceback", **settings: str) -> Iterator[str]:
    """Its base URL; it ends by an interrupt, and well, and its log holds no traceback nor what is to be ``unsaid``."""
    with serving_process(*options, unsaid=unsaid, **settings) as (url, _):
        yield url


@contextmanager
def serving_process(
    *options: str, unsaid: str = "Traceback", **settings: str
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """As ``serving``, with the process, which the test may end."""
    command = [sys.executable, "-m", "metric_forwarder", "serve", "--port", "0", *options]
    environ = child_environ(**settings)
    # A file, since nobody reads a pipe meanwhile: once it were full, the server would wait for ever.
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, encoding="utf-8", env=environ
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        try:
            assert first.startswith("The function listens on "), _written(log)
            yield first.split()[4], process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
        assert process.returncode == 0, _written(log)
        for text in ("Traceback", unsaid):
            assert text not in _written(log), _written(log)


def _written(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode()
