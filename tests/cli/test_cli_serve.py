"""``serve``: the function behind an HTTP front, as a Function URL would call it."""

import asyncio
import gzip
import io
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from metric_forwarder.cli.http_server import HttpServer, make_response
from receiver_emulator import Emulator
from support.command_line import point, run, settings_for
from support.served import serving

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
        in_time = self.gate.wait(10)
        self.busy -= 1
        return {"done": in_time}


# More than there are threads for anything else on a machine of few processors.
@pytest.mark.parametrize("count", [1, 3, 64])
def test_an_instance_handles_one_request_at_a_time_and_all_of_them_work(count: int) -> None:
    arrivals = threading.Semaphore(0)
    instances = [Instance(arrivals) for _ in range(count)]
    requests = 2 * count

    async def ask() -> None:
        app = HttpServer(instances, lambda: {"request_id": "r"}).application()
        async with TestServer(app) as server, ClientSession() as client:
            urls = [server.make_url(f"/{i}?a=1&a=2&b=") for i in range(requests)]
            asked = [asyncio.create_task(client.get(url)) for url in urls]
            for _ in instances:
                assert await asyncio.to_thread(arrivals.acquire, timeout=10)
            for instance in instances:
                instance.gate.set()
            for answer in await asyncio.gather(*asked):
                assert (answer.status, await answer.json()) == (200, {"done": True})

    asyncio.run(ask())
    assert [instance.most for instance in instances] == [1] * count
    events = [event for instance in instances for event, _ in instance.events]
    assert {event["path"] for event in events} == {f"/{i}" for i in range(requests)}
    assert len(events) == requests
    assert events[0]["queryString"] == {"a": ["1", "2"], "b": ""}
    assert (events[0]["httpMethod"], events[0]["body"]) == ("GET", "")


def test_a_body_the_platform_would_not_take_never_reaches_the_function() -> None:
    instance = Instance(threading.Semaphore(0))

    async def ask() -> int:
        app = HttpServer([instance], dict).application()
        async with TestServer(app) as server, ClientSession() as client:
            return (await client.post(server.make_url("/"), data=io.BytesIO(bytes(7 * 2**20)))).status

    assert asyncio.run(ask()) == 413
    assert instance.events == []


def test_a_base64_reply_is_unpacked() -> None:
    reply = {"statusCode": 201, "headers": {"X-A": "b"}, "isBase64Encoded": True, "body": "AAE="}
    response = make_response(reply)
    assert (response.status, response.headers["X-A"], response.body) == (201, "b", b"\x00\x01")


SIGNATURE = "A9bbns9+qeUeU1"
NO_HTTP = {
    "version": f"GET /v2/index.php?Signature={SIGNATURE} HTTP/9.9x\r\nHost: a\r\n\r\n",
    "header": f"GET / HTTP/1.1\r\nHost: a\r\n{SIGNATURE}\r\n\r\n",
    "length": f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIGNATURE}\r\n\r\n",
    "chunk": f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{SIGNATURE}\r\n",
    "one too long": f"GET /{SIGNATURE * 100_000} HTTP/1.1\r\nHost: a\r\n\r\n",
}
BROKEN_OFF = {
    "closed": ("Content-Length: 100\r\n\r\nabc", 1),
    "reset": ("Content-Length: 100\r\n\r\nabc", 0),
    "in a chunk": ("Transfer-Encoding: chunked\r\n\r\n5\r\nabc", 0),
}


def test_what_is_no_http_or_breaks_off_leaves_nothing_of_itself_in_the_log(receiver: Emulator) -> None:
    with serving(unsaid=SIGNATURE, **settings_for(receiver), BRIDGE_ACCOUNTS="own") as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        for text in NO_HTTP.values():
            with socket.create_connection(address) as client:
                client.sendall(text.encode())
                assert client.recv(65_536).startswith(b"HTTP/1.0 400 ")
        for rest, is_kind in BROKEN_OFF.values():
            with socket.create_connection(address) as client:
                client.sendall(f"POST /v2/index.php HTTP/1.1\r\nHost: a\r\n{rest}".encode())
                if not is_kind:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The same server, and after all of that.
        assert send(f"{url}/v2/index.php", b"")[1]["code"] == 1004
