"""A real Prometheus on a free loopback port that takes remote write, in a folder of its own."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen


def program() -> str:
    """The path of ``prometheus``."""
    found = shutil.which("prometheus")
    assert found, (
        "prometheus is needed: install it (Debian: apt-get install --no-install-recommends prometheus), "
        "or run the tests with .ci/run, which does"
    )
    return found


class PrometheusServer:
    """The server, as long as it is needed; it scrapes nothing and asks nobody.

    Args:
        folder: for its data.
        out_of_order_s: the out-of-order time window, seconds.
    """

    def __init__(self, folder: Path, *, out_of_order_s: int = 0) -> None:
        self._folder = folder
        self._out_of_order_s = out_of_order_s
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self._address}/api/v1/write"

    def __enter__(self) -> "PrometheusServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        window = {"storage": {"tsdb": {"out_of_order_time_window": f"{self._out_of_order_s}s"}}}
        config = self._folder / "prometheus.yml"
        # JSON is YAML.
        config.write_text(json.dumps(window if self._out_of_order_s else {}))
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                program(),
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={self._address}",
                "--web.enable-remote-write-receiver",
                "--log.level=error",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._await()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def samples(
        self, selector: str, *, at_s: float, range_s: int = 86400
    ) -> dict[tuple[Any, ...], list[Any]]:
        """What it holds: labels, sorted, without those of the server, → (Unix milliseconds, the value's text)."""
        query = urlencode({"query": f"{selector}[{range_s}s]", "time": at_s})
        with urlopen(f"http://{self._address}/api/v1/query?{query}", timeout=10) as response:
            result = json.load(response)["data"]["result"]
        return {
            tuple(sorted(series["metric"].items())): [
                (round(seconds * 1000), value) for seconds, value in series["values"]
            ]
            for series in result
        }

    def _await(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "prometheus does not get ready"
            with (
                contextlib.suppress(URLError, ConnectionError),
                urlopen(f"http://{self._address}/-/ready", timeout=1),
            ):
                return
            time.sleep(0.05)
