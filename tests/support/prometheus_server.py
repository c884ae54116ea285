"""A real Prometheus for tests."""

from pathlib import Path

from metric_forwarder.cli import prometheus_server as real


class PrometheusServer(real.PrometheusServer):
    """The server, as long as it is needed; see ``metric_forwarder.cli.prometheus_server``."""

    def __init__(self, folder: Path, *, out_of_order_s: int = 0) -> None:
        program = real.find_program()
        assert program, (
            "prometheus is needed: install it (Debian: apt-get install --no-install-recommends prometheus), "
            "or run the tests with .ci/run, which does"
        )
        super().__init__(program, folder, out_of_order_s=out_of_order_s)

    def __enter__(self) -> "PrometheusServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        super().__enter__()
        return self
