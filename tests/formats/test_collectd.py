"""A real collectd, changed in nothing but the address: every value arrives, by the mapping of docs/mappings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from receiver_emulator import Emulator
from support.application_server import ApplicationServer
from support.collectd_daemon import Collectd
from support.harness import ROOT, environ, remote_write_environ
from support.prometheus_server import PrometheusServer

pytestmark = pytest.mark.slow

TOKEN = "sample-token-of-the-docs"
MAPPING = (ROOT / "docs" / "mappings" / "collectd.json").read_text("utf-8")
PATIENCE_S = 20.0
GIVEN = (
    "PUTVAL web-1/load/load interval=10 {at}:0.5:0.25:0.125",
    "PUTVAL web-1/interface-eth0/if_octets interval=10 {at}:1027:64000",
    "PUTVAL web-1/cpu-0/percent-user interval=10 {at}:6.5",
    # No reading.
    "PUTVAL web-1/cpu-0/percent-idle interval=10 {at}:U",
)
EXPECTED = {
    ("load_load_shortterm", ("host", "web-1")): 0.5,
    ("load_load_midterm", ("host", "web-1")): 0.25,
    ("load_load_longterm", ("host", "web-1")): 0.125,
    ("interface_if_octets_rx", ("host", "web-1"), ("plugin_instance", "eth0")): 1027,
    ("interface_if_octets_tx", ("host", "web-1"), ("plugin_instance", "eth0")): 64000,
    ("cpu_percent", ("host", "web-1"), ("plugin_instance", "0"), ("type_instance", "user")): 6.5,
}


def _send(application: Application, folder: Path, at_ms: int, held: Callable[[], dict[Any, Any]]) -> None:
    """Give a collectd the values, and wait until something holds as many."""
    with ApplicationServer(application) as front, Collectd(folder, front.url, TOKEN) as collectd:
        for command in GIVEN:
            collectd.ask(command.format(at=f"{at_ms / 1000:.3f}"))
        deadline = time.monotonic() + PATIENCE_S
        while len(held()) < len(EXPECTED) and time.monotonic() < deadline:
            # What it is given passes through a queue of its own, and may come after this.
            collectd.ask("FLUSH plugin=write_http/function")
            time.sleep(0.1)


def test_every_value_is_held_by_the_receiver(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Emulator() as receiver:

        def held() -> dict[Any, Any]:
            points = receiver.points()
            found = {(p["metricName"], *sorted(p["dimensions"].items())): p["value"] for p in points}
            assert len(found) == len(points), "a value came twice"
            return found

        application = Application(environ(RECEIVER_URL=receiver.url, HTTP_TOKEN=TOKEN, MAPPING=MAPPING))
        _send(application, tmp_path_factory.mktemp("c"), round(time.time() * 1000), held)
        assert held() == EXPECTED


def test_every_value_is_held_by_a_prometheus_with_its_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    at_ms = round(time.time() * 1000)
    with PrometheusServer(tmp_path_factory.mktemp("p")) as server:

        def held() -> dict[Any, Any]:
            samples = server.samples('{host="web-1"}', at_s=at_ms / 1000 + 60)
            return {_named(labels): values for labels, values in samples.items()}

        settings = {"REMOTE_WRITE_URL": server.url, "HTTP_TOKEN": TOKEN, "MAPPING": MAPPING, "NAMESPACE": ""}
        _send(Application(remote_write_environ(**settings)), tmp_path_factory.mktemp("c"), at_ms, held)
        found = {series: [(at, float(value)) for at, value in values] for series, values in held().items()}
        assert found == {series: [(at_ms, value)] for series, value in EXPECTED.items()}


def _named(labels: tuple[Any, ...]) -> tuple[Any, ...]:
    name = dict(labels)["__name__"]
    return (name, *(label for label in labels if label[0] != "__name__"))
