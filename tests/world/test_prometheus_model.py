"""The world's model of a Prometheus answers what a real one answers, and holds samples of the same times."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import cramjam
import pytest

from metric_forwarder.clients.http import HttpReply, HttpRequest, HttpTransport
from support.prometheus_server import PrometheusServer
from support.remote_write_decoder import DecodedSeries, encode
from world.book import Book, Request
from world.faults import Faults
from world.receivers import Prometheus
from world.scheduler import World

_WINDOW_S = 600
_SEQUENCES = 400


@pytest.fixture(scope="module", params=[0, _WINDOW_S], ids=["no window", "a window of ten minutes"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusServer]:
    with PrometheusServer(tmp_path_factory.mktemp("prometheus"), out_of_order_s=request.param) as server:
        yield server


@pytest.mark.slow
def test_random_requests_are_answered_and_kept_as_by_a_real_prometheus(server: PrometheusServer) -> None:
    now_ms = round(time.time() * 1000)
    transport, answers = HttpTransport(), set()
    newest = [DecodedSeries((("__name__", "newest"),), ((now_ms, 1.0),))]
    transport.send(HttpRequest("POST", server.url, {}, _body(newest)), 10)
    for number in range(_SEQUENCES):
        chance, world = random.Random(number), World(number)
        model = Prometheus(world, Book(), Faults(world))
        model.window_ms = server.out_of_order_s * 1000
        model.store(newest, Request(1, None, "", 0.0))
        accepted = defaultdict(set)
        for _ in range(chance.randint(1, 8)):
            series = _series(chance, f"m{number}", now_ms)
            request = HttpRequest("POST", server.url, {}, _body(series))
            expected = model.answer(request, Request(1, None, "", 0.0))
            reply = transport.send(request, 10)
            assert isinstance(reply, HttpReply)
            assert (reply.status, reply.body) == (expected.status, expected.body), number
            answers.add((reply.status, reply.body.decode().strip()))
            if reply.status == 204:
                for each in series:
                    for at, value in each.samples:
                        accepted[each.labels, at].add(value)
        held = server.samples(f"m{number}", at_s=now_ms / 1000 + 60)
        shown = {(labels, at): float(value) for labels, values in held.items() for at, value in values}
        kept = {(labels, at) for labels, samples in model.samples.items() for at in samples}
        assert kept - {(newest[0].labels, now_ms)} == shown.keys(), number
        # Of two values at one past time, which a window allows, either may be shown.
        assert all(value in accepted[place] for place, value in shown.items()), number
    late = (
        {(500, "too old sample")}
        if server.out_of_order_s
        else {(400, "out of order sample"), (400, "out of bounds")}
    )
    assert answers == {(204, ""), (400, "duplicate sample for timestamp"), *late}


def _body(series: Sequence[DecodedSeries]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(encode(series)))


def _series(chance: random.Random, metric: str, now_ms: int) -> list[DecodedSeries]:
    """What the forwarder may send: each series once, its times in order; values meet others at the same time."""
    hosts = sorted(chance.sample("abc", chance.randint(1, 3)))
    return [
        DecodedSeries(
            (("__name__", metric), ("host", host)),
            tuple((now_ms - ago * 1000, float(chance.randint(1, 2))) for ago in _seconds_ago(chance)),
        )
        for host in hosts
    ]


def _seconds_ago(chance: random.Random) -> list[int]:
    """The oldest first: close together, or just within and beyond the window and the hour."""
    choices = (0, 1, 2, 3, 599, 600, 601, 602, 603, 604, 3599, 3600, 3601)
    return sorted(chance.sample(choices, chance.randint(1, 3)), reverse=True)
