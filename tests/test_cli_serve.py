"""``serve``: the function behind an HTTP front, as a Function URL would call it."""

import asyncio
import gzip
import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from command_line import point, run, settings_for
from metric_forwarder.cli.front import Front, make_response
from receiver_emulator import Emulator
from served import serving

TOKEN = "sample-token-of-the-docs"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def front(receiver: Emulator) -> Iterator[str]:
    with serving(**settings_for(receiver), HTTP_TOKEN=TOKEN) as url:
        yield url


def send(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("packed", [False, True], ids=["text", "gzip"])
def test_a_payload_arrives_as_through_a_function_url(receiver: Emulator, front: str, packed: bool) -> None:  # noqa: FBT001 - a parameter
    receiver.clear()
    body = json.dumps(point()).encode()
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({"Content_Encoding": "gzip"} if packed else {})
    status, report = send(f"{front}/any/path?x=1", gzip.compress(body) if packed else body, **headers)
    assert (status, report["status"], report["trigger"]) == (200, "ok", "http")
    assert len(receiver.points()) == 1


def test_statuses_and_headers_of_the_reply_come_through(receiver: Emulator, front: str) -> None:
    receiver.clear()
    assert send(front, json.dumps(point()).encode())[0] == 401
    assert send(front, b"{", Authorization=f"Bearer {TOKEN}")[0] == 400
    assert send(front, bytes(7 * 2**20), Authorization=f"Bearer {TOKEN}")[0] == 413
    assert receiver.requests() == []


def test_settings_that_cannot_work_end_it_before_it_listens() -> None:
    done = run("serve", "--port", "0", SECRET_ID="x")
    assert (done.status, done.out) == (2, "")
    assert "MF_SECRET_KEY is empty" in done.err


def test_a_port_that_is_taken_is_told_with_a_remedy(receiver: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]), **settings_for(receiver))
    assert done.status == 2
    assert "--port 0" in done.err


class Instance:
    """A handler that notes how many of its events are under way at once."""

    def __init__(self, arrivals: threading.Semaphore) -> None:
        self.arrivals = arrivals
        self.busy = 0
        self.most = 0
        self.events: list[Any] = []
        self.gate = threading.Event()

    def __call__(self, event: Any, context: Any) -> Any:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.events.append((event, context))
        self.arrivals.release()
        self.gate.wait(10)
        self.busy -= 1
        return {"done": True}


@pytest.mark.parametrize("count", [1, 3])
def test_an_instance_handles_one_request_at_a_time_and_all_of_them_work(count: int) -> None:
    arrivals = threading.Semaphore(0)
    instances = [Instance(arrivals) for _ in range(count)]

    async def ask() -> None:
        app = Front(instances, lambda: {"request_id": "r"}).application()
        async with TestServer(app) as server, ClientSession() as client:
            asked = [asyncio.create_task(client.get(server.make_url(f"/{i}?a=1&a=2&b="))) for i in range(6)]
            for _ in instances:
                assert await asyncio.to_thread(arrivals.acquire, timeout=10)
            for instance in instances:
                instance.gate.set()
            for answer in await asyncio.gather(*asked):
                assert (answer.status, await answer.json()) == (200, {"done": True})

    asyncio.run(ask())
    assert [instance.most for instance in instances] == [1] * count
    events = [event for instance in instances for event, _ in instance.events]
    assert sorted(event["path"] for event in events) == [f"/{i}" for i in range(6)]
    assert events[0]["queryString"] == {"a": ["1", "2"], "b": ""}
    assert (events[0]["httpMethod"], events[0]["body"]) == ("GET", "")


def test_a_body_the_platform_would_not_take_never_reaches_the_function() -> None:
    instance = Instance(threading.Semaphore(0))

    async def ask() -> int:
        app = Front([instance], dict).application()
        async with TestServer(app) as server, ClientSession() as client:
            return (await client.post(server.make_url("/"), data=io.BytesIO(bytes(7 * 2**20)))).status

    assert asyncio.run(ask()) == 413
    assert instance.events == []


def test_a_base64_reply_is_unpacked() -> None:
    reply = {"statusCode": 201, "headers": {"X-A": "b"}, "isBase64Encoded": True, "body": "AAE="}
    response = make_response(reply)
    assert (response.status, response.headers["X-A"], response.body) == (201, "b", b"\x00\x01")
