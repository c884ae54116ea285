"""``metric-forwarder serve`` as a process, for tests that speak HTTP to it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from command_line import child_environ


@contextmanager
def serving(*options: str, **settings: str) -> Iterator[str]:
    """Its base URL; it ends by an interrupt, and well."""
    command = [sys.executable, "-m", "metric_forwarder", "serve", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=child_environ(**settings)
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert first.startswith("The function listens on "), process.stderr.read()
        try:
            yield first.split()[4]
        finally:
            process.send_signal(signal.SIGINT)
            log = process.communicate(timeout=20)[1]
    assert process.returncode == 0, log
    assert "Traceback" not in log, log
