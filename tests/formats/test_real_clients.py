"""Clients of this field, changed in nothing but the host: every sample arrives once, also across an outage.

The stores are a real Prometheus and the emulated receiver; both are asked for what they hold.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from urllib.error import HTTPError

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.prometheus_server import RemoteWriteServer
from receiver_emulator import Emulator
from support.application_server import ApplicationServer
from support.faulty_gateway import FaultyGateway
from support.field_clients import (
    FieldClient,
    InfluxDb,
    Labels,
    OpenTelemetry,
    OpenTelemetryJson,
    PushgatewayClient,
    ScrapingPrometheus,
    Stored,
    VmAgent,
)
from support.harness import environ, remote_write_environ
from support.prometheus_server import PrometheusServer
from support.scrape_targets import Targets, serving_targets
from support.victoria_metrics_server import VictoriaMetricsServer

pytestmark = pytest.mark.slow

TOKEN = "sample-token-of-the-docs"
PATIENCE_S = 60.0
# Series → the times (None where the store keeps none of the producer's) and values that it holds of it.
Held = dict[Labels, list[tuple[int | None, float]]]


class Way(NamedTuple):
    """A forwarder before a store.

    Attributes:
        front: the forwarder, as clients see it.
        held: what the store holds.
        begin_outage: from now on the store answers 503.
        begin_partial_outage: the same, where the store can do that only to some points of a client.
        end_outage: from now on it takes everything again.
        keeps_times: whether it keeps the times of the producer.
    """

    front: ApplicationServer
    held: Callable[[], Held]
    begin_outage: Callable[[], None]
    begin_partial_outage: Callable[[], None]
    end_outage: Callable[[], None]
    keeps_times: bool


# One metric of each client that retries: the client's other points are delivered before it is answered with 503.
REFUSED_FOR_A_WHILE = ("queue_size", "cpu_cores", "node_load1")


def _refuse_some(receiver: Emulator) -> None:
    for metric in REFUSED_FOR_A_WHILE:
        receiver.fault("status", 503, times=None, match={"metricName": metric})


def _receivers(receiver: Emulator) -> Held:
    held: Held = {}
    for point in receiver.points():
        labels = {
            "__name__": point["metricName"],
            **{name: str(v) for name, v in point["dimensions"].items()},
        }
        held.setdefault(tuple(sorted(labels.items())), []).append((None, point["value"]))
    return held


def _of_prometheus(server: RemoteWriteServer) -> Held:
    return {
        labels: [(at, float(value)) for at, value in samples]
        for labels, samples in server.samples('{__name__!=""}', at_s=time.time() + 60).items()
    }


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    with ExitStack() as stack:
        receiver = stack.enter_context(Emulator())
        prometheus = stack.enter_context(PrometheusServer(tmp_path_factory.mktemp("store")))
        gateway = stack.enter_context(FaultyGateway(prometheus.url, seed=1))
        to_receiver = Application(
            environ(RECEIVER_URL=receiver.url, HTTP_TOKEN=TOKEN, BATCH_MAX_POINTS="2", MAX_ATTEMPTS="1")
        )
        to_prometheus = Application(
            remote_write_environ(
                REMOTE_WRITE_URL=gateway.url, HTTP_TOKEN=TOKEN, NAMESPACE="", MAX_ATTEMPTS="1"
            )
        )
        yield {
            "receiver": Way(
                stack.enter_context(ApplicationServer(to_receiver)),
                lambda: _receivers(receiver),
                lambda: receiver.fault("status", 503, times=None),
                lambda: _refuse_some(receiver),
                receiver.clear_faults,
                keeps_times=False,
            ),
            "prometheus": Way(
                stack.enter_context(ApplicationServer(to_prometheus)),
                lambda: _of_prometheus(prometheus),
                lambda: gateway.fault("status", 503, times=None),
                lambda: gateway.fault("status", 503, times=None),
                gateway.clear_faults,
                keeps_times=True,
            ),
        }


CLIENTS: dict[str, Callable[[str], FieldClient]] = {
    "OpenTelemetry": OpenTelemetry,
    "OpenTelemetry in JSON": OpenTelemetryJson,
    "InfluxDB": InfluxDb,
    "Pushgateway": PushgatewayClient,
}
WAYS = ("prometheus", "receiver")


def _assert_held(way: Way, expected: list[Stored], run: str) -> None:
    """Whether of one run there is everything, once, and nothing else."""
    held = {labels: samples for labels, samples in way.held().items() if run in dict(labels).values()}
    held = {labels: samples for labels, samples in held.items() if ("__name__", "target_info") not in labels}
    assert held.keys() == {each.labels for each in expected}
    for labels, value, time_ms in expected:
        ((at, held_value),) = held[labels]
        assert held_value == value
        assert not way.keeps_times or time_ms in (at, None)


@pytest.mark.parametrize("to", WAYS)
@pytest.mark.parametrize("name", CLIENTS)
def test_every_sample_of_a_client_is_held_exactly_once(ways: dict[str, Way], name: str, to: str) -> None:
    client = CLIENTS[name](run := f"{name} to {to}")
    client.send(ways[to].front.url, TOKEN)
    _assert_held(ways[to], client.stored(), run)


class Outage(NamedTuple):
    """What was seen of clients that sent while the store was down.

    Attributes:
        stored: what should be held of each client, by way and name.
        scraped: what each client that scrapes had got when the outage ended, by its name.
    """

    stored: dict[tuple[str, str], list[Stored]]
    scraped: dict[str, Held]


def _run_of(name: str, to: str) -> str:
    return f"{name} in an outage to {to}"


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def _wait_for_503(ways: dict[str, Way], paths: set[str]) -> None:
    _wait_until(
        lambda: all(503 in way.front.statuses(path) for way in ways.values() for path in paths),
        f"some client of {paths} was not answered with 503",
    )


# The one with the least patience comes last, since the outage ends as soon as it was answered: it gives up after ten seconds.
RETRYING: dict[str, Callable[[str], FieldClient]] = {"InfluxDB": InfluxDb, "OpenTelemetry": OpenTelemetry}


@pytest.fixture(scope="module")
def outage(ways: dict[str, Way], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """All clients send at once to forwarders whose stores are down, and go on by themselves until these are back."""
    clients = {(to, name): make(_run_of(name, to)) for to in WAYS for name, make in RETRYING.items()}
    writes = [ScrapingPrometheus.write_to(way.front.url, TOKEN) for way in ways.values()]
    pushes = [f"{way.front.url}{VmAgent.path}" for way in ways.values()]
    with (
        _targets_with_oddities() as targets,
        ThreadPoolExecutor(len(clients)) as threads,
        ScrapingPrometheus(tmp_path_factory.mktemp("source"), targets.host, writes) as source,
        VictoriaMetricsServer(tmp_path_factory.mktemp("straight")) as straight,
        VmAgent(tmp_path_factory.mktemp("vmagent"), targets.host, [straight.url, *pushes], TOKEN),
    ):
        for way in ways.values():
            way.begin_partial_outage()
        sending: list[Future[None]] = []
        try:
            # A Prometheus needs some seconds before it begins to write.
            _wait_for_503(ways, {ScrapingPrometheus.path, VmAgent.path})
            for name in RETRYING:
                sending += [threads.submit(clients[to, name].send, ways[to].front.url, TOKEN) for to in WAYS]
                _wait_for_503(ways, {clients[to, name].path for to in WAYS})
        finally:
            for way in ways.values():
                way.end_outage()
        ended_ms = time.time_ns() // 10**6
        for each in sending:
            each.result(PATIENCE_S)
        stored = {key: client.stored() for key, client in clients.items()}
        scraped = {}
        for name, store in (("Prometheus", source), ("vmagent", straight)):
            scraped[name] = held = _until(_of_prometheus(store), ended_ms)
            # One scrape more: what was scraped before it was sent before it.
            _wait_until_beyond(ways, held, name)
        yield Outage(stored, scraped)


@contextmanager
def _targets_with_oddities() -> Iterator[Targets]:
    """Targets with values that a Prometheus takes and the receiver cannot: a request that brings them is answered with 400."""
    with serving_targets() as targets:
        targets.text += "odd_nan NaN\nodd_infinity +Inf\n"
        yield targets


def _carried(way: Way, scraped: Held) -> Held:
    """What of it the store of a way can hold."""
    return {
        labels: samples
        for labels, samples in scraped.items()
        if way.keeps_times or all(math.isfinite(value) for _, value in samples)
    }


def _until(held: Held, time_ms: int) -> Held:
    return {
        labels: [(at, value) for at, value in samples if at is not None and at <= time_ms]
        for labels, samples in held.items()
    }


def _wait_until_beyond(ways: dict[str, Way], scraped: Held, name: str) -> None:
    def is_beyond(way: Way) -> bool:
        held = way.held()
        return all(
            len(held.get(labels, ())) > len(samples) for labels, samples in _carried(way, scraped).items()
        )

    _wait_until(
        lambda: all(is_beyond(way) for way in ways.values()), f"{name} does not go on after the outage"
    )


@pytest.mark.parametrize("to", WAYS)
@pytest.mark.parametrize("name", RETRYING)
def test_what_was_sent_in_an_outage_is_held_exactly_once(
    ways: dict[str, Way], outage: Outage, name: str, to: str
) -> None:
    _assert_held(ways[to], outage.stored[to, name], _run_of(name, to))


SCRAPING = {"Prometheus": ScrapingPrometheus.path, "vmagent": VmAgent.path}


@pytest.mark.parametrize("to", WAYS)
@pytest.mark.parametrize("name", SCRAPING)
def test_what_was_scraped_in_an_outage_is_held_exactly_once_and_in_order(
    ways: dict[str, Way], outage: Outage, name: str, to: str
) -> None:
    way = ways[to]
    held, scraped = way.held(), _carried(way, outage.scraped[name])
    names = {dict(labels)["__name__"] for labels in scraped}
    assert "http_request_seconds_bucket" in names
    assert ("odd_infinity" in names) is way.keeps_times
    assert (400 in way.front.statuses(SCRAPING[name])) is not way.keeps_times
    for labels, samples in scraped.items():
        first = held[labels][: len(samples)]
        # As text, in which NaN is NaN.
        assert [repr(value) for _, value in first] == [repr(value) for _, value in samples]
        assert not way.keeps_times or [at for at, _ in first] == [at for at, _ in samples]


@pytest.mark.parametrize("to", WAYS)
def test_a_push_in_an_outage_fails_and_the_next_run_of_the_job_is_held_exactly_once(
    ways: dict[str, Way], to: str
) -> None:
    way, run = ways[to], _run_of("Pushgateway", to)
    client = PushgatewayClient(run)
    way.begin_outage()
    try:
        with pytest.raises(HTTPError, match="503"):
            client.send(way.front.url, TOKEN)
    finally:
        way.end_outage()
    client.send(way.front.url, TOKEN)
    _assert_held(way, client.stored(), run)
