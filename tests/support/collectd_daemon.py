"""A real collectd for tests, which sends with its plugin write_http what it is given over a socket."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

_PATIENCE_S = 20.0
_CONFIG = """\
Hostname "web-1"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/pid"
TypesDB "/usr/share/collectd/types.db"
Interval 3600
LoadPlugin unixsock
LoadPlugin write_http
<Plugin unixsock>
  SocketFile "{folder}/sock"
</Plugin>
<Plugin write_http>
  <Node "function">
    URL "{url}/"
    User "any"
    Password "{token}"
    Format "JSON"
  </Node>
</Plugin>
"""


class Collectd:
    """The daemon, as long as it is needed.

    Args:
        folder: for its socket; its path must be short.
        url: of the function.
        token: of the function.
    """

    def __init__(self, folder: Path, url: str, token: str) -> None:
        program = shutil.which("collectd", path="/usr/sbin:/usr/bin")
        assert program, (
            "collectd is needed: install it (Debian: apt-get install --no-install-recommends collectd-core libyajl2 "
            "libcurl3-gnutls), or run the tests with .ci/run, which does"
        )
        self._folder = folder
        config = folder / "collectd.conf"
        config.write_text(_CONFIG.format(folder=folder, url=url, token=token))
        self._command = [program, "-f", "-C", str(config)]

    def __enter__(self) -> "Collectd":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + _PATIENCE_S
        while not (self._folder / "sock").exists():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self._end()
                raise RuntimeError(
                    f"collectd did not get ready: {(self._folder / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, command: str) -> None:
        """Give it a command, such as ``PUTVAL web-1/load/load N:1:2:3`` or ``FLUSH``."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE_S)
            client.connect(str(self._folder / "sock"))
            with client.makefile("rw") as stream:
                stream.write(f"{command}\n")
                stream.flush()
                status = stream.readline()
        assert status.startswith("0 "), status

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()
