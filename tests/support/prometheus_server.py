"""A real Prometheus for tests."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from metric_forwarder.cli import prometheus_server as real


class PrometheusServer(real.PrometheusServer):
    """The server, as long as it is needed; see ``metric_forwarder.cli.prometheus_server``.

    Attributes:
        out_of_order_s: the out-of-order time window, seconds.
    """

    def __init__(self, folder: Path, *, out_of_order_s: int = 0) -> None:
        program = real.find_program()
        assert program, (
            "prometheus is needed: install it (Debian: apt-get install --no-install-recommends prometheus), "
            "or run the tests with .ci/run, which does"
        )
        super().__init__(program, folder, out_of_order_s=out_of_order_s)
        self.out_of_order_s = out_of_order_s

    def evaluate(self, query: str, at_s: float) -> list[dict[str, Any]]:
        """What a query says at a time: labels (``metric``) and the value of each series."""
        asked = urlencode({"query": query, "time": at_s})
        result: list[dict[str, Any]] = json.loads(self._get(f"/api/v1/query?{asked}", timeout_s=30))["data"][
            "result"
        ]
        return result

    def evaluate_range(self, query: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """What a query says at each of many times: labels (``metric``) and the ``values`` of each series."""
        asked = urlencode({"query": query, "start": start_s, "end": end_s, "step": step_s})
        path = f"/api/v1/query_range?{asked}"
        result: list[dict[str, Any]] = json.loads(self._get(path, timeout_s=30))["data"]["result"]
        return result

    def __enter__(self) -> "PrometheusServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        super().__enter__()
        return self
