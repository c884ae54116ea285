"""Runs a real Prometheus, or a similar program, that accepts remote write on a free loopback port."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

_PATIENCE_S = 20.0


def find_program() -> str | None:
    """The path of ``prometheus``, if it is installed (Debian: the package ``prometheus``)."""
    return shutil.which("prometheus")


class RemoteWriteServer(ABC):
    """A program that accepts remote write and answers Prometheus's queries.

    Args:
        program: its path.
        folder: for its data.

    Attributes:
        url: the URL for remote write.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self._address}/api/v1/write"

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that starts it; ``_folder`` is for its data."""

    def __enter__(self) -> "RemoteWriteServer":  # noqa: PYI034 - typing.Self came after Python 3.10
        command = self._command()
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)  # noqa: S603 - a program of this machine, no shell
        try:
            self._wait_until_ready()
        except RuntimeError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def samples(
        self, selector: str, *, at_s: float, range_s: int = 86400
    ) -> dict[tuple[Any, ...], list[Any]]:
        """Its samples: sorted labels → (Unix milliseconds, the value's text)."""
        query = urlencode({"query": f"{selector}[{range_s}s]", "time": at_s})
        result = json.loads(self._get(f"/api/v1/query?{query}", timeout_s=10))["data"]["result"]
        return {
            tuple(sorted(series["metric"].items())): [
                (round(seconds * 1000), value) for seconds, value in series["values"]
            ]
            for series in result
        }

    def _get(self, path: str, *, timeout_s: float) -> bytes:
        with urlopen(f"http://{self._address}{path}", timeout=timeout_s) as response:
            body: bytes = response.read()
        return body

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(URLError, ConnectionError):
                self._get("/-/ready", timeout_s=1)
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self._program} did not get ready: {(self._folder / 'log').read_text()[-2000:]}")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


class PrometheusServer(RemoteWriteServer):
    """Prometheus, which scrapes nothing.

    Args:
        program: the path of ``prometheus``.
        folder: for its data.
        out_of_order_s: the out-of-order time window, seconds.
    """

    def __init__(self, program: str, folder: Path, *, out_of_order_s: int = 0) -> None:
        super().__init__(program, folder)
        self._out_of_order_s = out_of_order_s

    def _command(self) -> list[str]:
        window = {"storage": {"tsdb": {"out_of_order_time_window": f"{self._out_of_order_s}s"}}}
        config = self._folder / "prometheus.yml"
        # JSON is YAML.
        config.write_text(json.dumps(window if self._out_of_order_s else {}))
        return [
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={self._address}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ]
