"""A real VictoriaMetrics for tests: a second implementation that owes Prometheus nothing but the protocol."""

import shutil
from pathlib import Path
from typing import Any

from metric_forwarder.cli.prometheus_server import RemoteWriteServer


def find_program() -> str | None:
    """The path of ``victoria-metrics``, if it is installed (Debian: the package ``victoria-metrics``)."""
    return shutil.which("victoria-metrics")


class VictoriaMetricsServer(RemoteWriteServer):
    """The server, as long as it is needed.

    Args:
        folder: for its data.
        merging: whether of samples of one series at one time only one is kept.
    """

    def __init__(self, folder: Path, *, merging: bool = True) -> None:
        program = find_program()
        assert program, (
            "victoria-metrics is needed: install it (Debian: apt-get install --no-install-recommends "
            "victoria-metrics), or run the tests with .ci/run, which does"
        )
        super().__init__(program, folder)
        self._merging = merging

    def __enter__(self) -> "VictoriaMetricsServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        super().__enter__()
        return self

    def samples(
        self, selector: str, *, at_s: float, range_s: int = 86400
    ) -> dict[tuple[Any, ...], list[Any]]:
        """What it holds; it shows what it took only a second later, unless it is told to."""
        self._get("/internal/force_flush", timeout_s=10)
        return super().samples(selector, at_s=at_s, range_s=range_s)

    def _command(self) -> list[str]:
        return [
            self._program,
            f"-httpListenAddr={self._address}",
            f"-storageDataPath={self._folder / 'data'}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-loggerLevel=ERROR",
            f"-dedup.minScrapeInterval={'1ms' if self._merging else '0s'}",
        ]
