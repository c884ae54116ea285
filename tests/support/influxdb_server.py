"""A real InfluxDB 1 for tests: what its own line protocol means, to the nanosecond."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

_PATIENCE_S = 20.0
_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
index-version = "inmem"
query-log-enabled = false
max-series-per-database = 0
max-values-per-tag = 0
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{http}"
log-enabled = false
[subscriber]
enabled = false
[continuous_queries]
enabled = false
"""


class StoredField(NamedTuple):
    """A field of a series at a time: how the database names them."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    field: str
    time_ns: int


class InfluxDbServer:
    """The server with an empty database, as long as it is needed.

    Args:
        folder: for its data.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("influxd")
        assert program, (
            "influxd is needed: install it (Debian: apt-get install --no-install-recommends influxdb), "
            "or run the tests with .ci/run, which does"
        )
        with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as rpc:
            ports = {"http": http.getsockname()[1], "rpc": rpc.getsockname()[1]}
        self._folder = folder
        config = folder / "influxdb.conf"
        config.write_text(_CONFIG.format(folder=folder, **ports))
        self._command = [program, "-config", str(config)]
        self._url = f"http://127.0.0.1:{ports['http']}"

    def __enter__(self) -> "InfluxDbServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(URLError, ConnectionError):
                self._query("CREATE DATABASE tests WITH DURATION INF SHARD DURATION 5200w", method="POST")
                return self
            time.sleep(0.05)
        self._end()
        raise RuntimeError(f"influxd did not get ready: {(self._folder / 'log').read_text()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def write(self, lines: str, **parameters: str) -> str:
        """Write lines; returns why some were refused, empty if none was."""
        query = urlencode({"db": "tests", **parameters})
        try:
            with urlopen(Request(f"{self._url}/write?{query}", lines.encode(), method="POST"), timeout=60):
                return ""
        except HTTPError as error:
            with error:
                return str(json.loads(error.read())["error"])

    def fields(self) -> dict[StoredField, Any]:
        """Everything that it holds: booleans, numbers and texts."""
        found: dict[StoredField, Any] = {}
        for result in self._query("SELECT * FROM /.*/ GROUP BY *", db="tests", epoch="ns")["results"]:
            for series in result.get("series", ()):
                tags = tuple(sorted((name, value) for name, value in series["tags"].items() if value))
                for time_ns, *values in series["values"]:
                    for field, value in zip(series["columns"][1:], values, strict=True):
                        if value is not None:
                            found[StoredField(series["name"], tags, field, time_ns)] = value
        return found

    def _query(self, text: str, *, method: str = "GET", **parameters: str) -> Any:
        query = urlencode({"q": text, **parameters})
        with urlopen(Request(f"{self._url}/query?{query}", method=method), timeout=60) as reply:
            return json.loads(reply.read())

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
