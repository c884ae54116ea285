"""The way off the legacy receiver, to a real Prometheus: old clients unchanged, and exporters scraped."""

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError
from metric_forwarder.settings.settings import Settings
from support.harness import outcomes, remote_write_environ, report_of
from support.old_clients import OldClient
from support.prometheus_server import PrometheusServer
from support.scrape_targets import serving_targets
from support.served import serving

KEY = ("AKIDclients", "a-key-of-the-clients")
DATA = [{"dimensions": {"ip": "10.0.0.1"}, "metricName": "cpuload", "value": 0.5}]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with PrometheusServer(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="module")
def front(prometheus: PrometheusServer) -> Iterator[str]:
    settings = remote_write_environ(REMOTE_WRITE_URL=prometheus.url, BRIDGE_ACCOUNTS=":".join(KEY))
    with serving(**{name.removeprefix("MF_"): value for name, value in settings.items()}) as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_points_of_an_old_client_are_in_prometheus_once_it_has_its_reply(
    prometheus: PrometheusServer, front: str, method: str
) -> None:
    client = OldClient(*KEY, method=method)
    before_ms = round(time.time() * 1000)
    assert client.send(front, f"old_{method}", DATA) == (200, {"code": 0, "message": "OK"})
    held = prometheus.samples(f"old_{method}_cpuload", at_s=time.time() + 1)
    ((labels, ((at_ms, value),)),) = held.items()
    assert dict(labels) == {"__name__": f"old_{method}_cpuload", "ip": "10.0.0.1"}
    assert before_ms - 1 <= at_ms <= time.time() * 1000 + 1, "stamped on arrival"
    assert float(value) == 0.5


def test_a_wrong_signature_gets_nothing_into_prometheus(prometheus: PrometheusServer, front: str) -> None:
    status, answer = OldClient(KEY[0], "another").send(front, "forged", DATA)
    assert (status, answer["code"]) == (200, 1011)
    assert prometheus.samples("forged_cpuload", at_s=time.time() + 1) == {}


@pytest.mark.slow
def test_a_name_that_is_illegal_in_prometheus_gets_the_receivers_return_code(front: str) -> None:
    data = [{**DATA[0], "metricName": "5xx"}]
    assert OldClient(*KEY).send(front, "5xx", data)[1]["code"] == 1016
    assert OldClient(*KEY).send(front, "web", [{**DATA[0], "dimensions": {"5xx": "a"}}])[1]["code"] == 1017


def test_scraped_samples_are_in_prometheus_as_if_it_had_scraped_them_itself(
    prometheus: PrometheusServer,
) -> None:
    own_ms = round(time.time() * 1000) - 20_000
    firing = datetime.now(timezone.utc).replace(microsecond=0)
    with serving_targets() as targets:
        targets.text += f"node_own_time 7 {own_ms}\n"
        app = Application(
            remote_write_environ(REMOTE_WRITE_URL=prometheus.url, SCRAPE_HOSTS=targets.host, NAMESPACE="")
        )
        job = {"scrape": [targets.url()], "keep": ["node_*", "http_request_seconds_bucket"], "job": "node"}
        event = {
            "Type": "Timer",
            "TriggerName": "t",
            "Time": firing.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Message": json.dumps(job),
        }
        assert outcomes(report_of(app, event)) == {"delivered": 6}
        own = {"job": "node", "instance": targets.host}
    held = {
        tuple(sorted(dict(labels).items())): values
        for name in ("node_load1", "node_cpu_seconds_total", "node_own_time", "http_request_seconds_bucket")
        for labels, values in prometheus.samples(name, at_s=time.time() + 1).items()
    }
    at_ms = round(firing.timestamp() * 1000)
    expected = [
        ({"__name__": "node_load1"}, at_ms, "0.21"),
        ({"__name__": "node_cpu_seconds_total", "cpu": "0", "mode": "idle"}, at_ms, "362812.78"),
        ({"__name__": "node_cpu_seconds_total", "cpu": "1", "mode": "idle"}, at_ms, "150000"),
        ({"__name__": "http_request_seconds_bucket", "le": "0.1"}, at_ms, "7"),
        ({"__name__": "http_request_seconds_bucket", "le": "+Inf"}, at_ms, "9"),
        ({"__name__": "node_own_time"}, own_ms, "7"),
    ]
    assert held == {tuple(sorted({**labels, **own}.items())): [(at, value)] for labels, at, value in expected}


def test_only_a_bridge_for_the_forwarders_own_key_needs_one_beside_prometheus() -> None:
    url = "http://10.0.0.5:9090/api/v1/write"
    Settings.read(remote_write_environ(REMOTE_WRITE_URL=url, BRIDGE_ACCOUNTS="a:b"))
    with pytest.raises(ConfigError, match="MF_SECRET_ID is empty"):
        Settings.read(remote_write_environ(REMOTE_WRITE_URL=url, BRIDGE_ACCOUNTS="own"))
    with pytest.raises(ConfigError, match="MF_REGION is empty"):
        Settings.read(remote_write_environ(REMOTE_WRITE_URL=url, BRIDGE_ACCOUNTS="own", SECRET_NAME="s"))
    held = Settings.read(
        remote_write_environ(REMOTE_WRITE_URL=url, BRIDGE_ACCOUNTS="own", SECRET_NAME="s"),
        platform_region="gz",
    )
    assert (held.region, held.secret_name) == ("gz", "s")
