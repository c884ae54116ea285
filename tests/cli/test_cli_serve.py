"""``serve``: the function behind an HTTP server, as a Function URL would call it."""

import asyncio
import gzip
import io
import json
import re
import signal
import socket
import struct
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway
from prometheus_client.exposition import basic_auth_handler

from metric_forwarder.cli.http_server import (
    HttpServer,
    ServerLimits,
    Stop,
    listen,
    make_response,
    serve_until,
)
from metric_forwarder.cli.serve import TimedLog
from receiver_emulator import Emulator
from support.command_line import execute, point, run, settings_for
from support.served import serving, serving_process

TOKEN = "sample-token-of-the-docs"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def front(receiver: Emulator) -> Iterator[str]:
    with serving(**settings_for(receiver), HTTP_TOKEN=TOKEN, NAMESPACE="pc") as url:
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


def test_its_own_metrics_are_shown_to_a_prometheus_only_if_they_are_on(
    receiver: Emulator, front: str
) -> None:
    def shown(url: str) -> list[str]:
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as reply:
            assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return [line for line in reply.read().decode().splitlines() if "points_total{" in line]

    with pytest.raises(urllib.error.HTTPError, match="401"):
        shown(front)
    with serving(**settings_for(receiver), HTTP_TOKEN=TOKEN, SELF_METRICS="on") as url:
        assert shown(url) == []
        for value in range(3):
            send(url, json.dumps(point(value)).encode(), Authorization=f"Bearer {TOKEN}")
        labels = (
            'format="json",outcome="delivered",trigger="http",function="metric-forwarder",namespace="default"'
        )
        series = f"metric_forwarder_points_total{{{labels}}}"
        # Two Prometheus scrape it: each sees the 0 from which it counts.
        assert [shown(url), shown(url)] == [[f"{series} 0"]] * 2


def test_a_spool_is_replayed_by_the_command_while_serve_runs_which_says_that_it_is_needed(
    tmp_path: Path,
) -> None:
    with Emulator() as receiver:
        settings = {**settings_for(receiver), "SPOOL": tmp_path.as_uri(), "MAX_ATTEMPTS": "1"}
        with serving_process(**settings, HTTP_TOKEN=TOKEN) as (url, process):
            receiver.fault("code", 1008, times=1)
            _, report = send(url, json.dumps(point(1)).encode(), Authorization=f"Bearer {TOKEN}")
            assert report["outcomes"]["spooled"] == 1
            replayed = run("replay", "--quiet", **settings)
            assert (replayed.status, replayed.err) == (0, "")
            assert [each["value"] for each in receiver.points()] == [1]
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert "run metric-forwarder replay regularly" in process.stdout.read()


def test_statuses_and_headers_of_the_reply_come_through(receiver: Emulator, front: str) -> None:
    receiver.clear()
    assert send(front, json.dumps(point()).encode())[0] == 401
    assert send(front, b"{", Authorization=f"Bearer {TOKEN}")[0] == 400
    assert send(front, bytes(7 * 2**20), Authorization=f"Bearer {TOKEN}")[0] == 413
    assert receiver.requests() == []


def test_a_client_of_a_pushgateway_needs_only_another_host(receiver: Emulator, front: str) -> None:
    receiver.clear()
    registry = CollectorRegistry()
    Gauge("last_success", "When it succeeded", ["disk"], registry=registry).labels("sda").set(7)

    def with_token(**request: Any) -> Any:
        return basic_auth_handler(**request, username="any", password=TOKEN)

    host = front.removeprefix("http://")
    for instance in ("a/b", "a%41"):
        push_to_gateway(
            host, job="backup", grouping_key={"instance": instance}, registry=registry, handler=with_token
        )
    assert [(p["metricName"], p["dimensions"], p["value"]) for p in receiver.points()] == [
        ("last_success", {"disk": "sda", "instance": "a/b", "job": "backup"}, 7),
        ("last_success", {"disk": "sda", "instance": "a%41", "job": "backup"}, 7),
    ]


def test_settings_that_cannot_work_end_it_before_it_listens() -> None:
    done = run("serve", "--port", "0", SECRET_ID="x")
    assert (done.status, done.out) == (2, "")
    assert "MF_SECRET_KEY is empty" in done.err


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"RELABEL": '[{"action":"nope"}]'}, id="rules"),
        pytest.param({"MAPPING": "{}"}, id="a mapping"),
        pytest.param({"SCHEMA": "/nonexistent.json"}, id="a schema"),
        pytest.param({"RELABEL": "{", "MAPPING": "[]", "CONCURRENCY": "0"}, id="all at once"),
    ],
)
def test_settings_that_every_event_would_refuse_end_it_before_it_listens(
    receiver: Emulator, bad: dict[str, str]
) -> None:
    done = execute("serve", "--port", "0", **settings_for(receiver), **bad)
    assert (done.status, done.out) == (2, "")
    assert all(f"MF_{name}" in done.err for name in bad)
    assert "Traceback" not in done.err


@pytest.mark.parametrize("bridge", [{}, {"BRIDGE_ACCOUNTS": "own"}], ids=["closed", "open"])
def test_clients_that_only_a_platform_could_authenticate_are_not_let_in(
    receiver: Emulator, bridge: dict[str, str]
) -> None:
    done = execute("serve", "--port", "0", **settings_for(receiver), **bridge, HTTP_AUTH="cam", MAX_RPS="x")
    assert (done.status, done.out) == (2, "")
    assert "MF_HTTP_AUTH is cam" in done.err
    assert "set MF_HTTP_TOKEN" in done.err
    assert "MF_MAX_RPS" in done.err


def test_a_port_in_use_is_reported_with_a_remedy(receiver: Emulator) -> None:
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
        in_time = self.gate.wait(30)
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
                assert await asyncio.to_thread(arrivals.acquire, timeout=30)
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


@pytest.mark.slow
def test_nothing_of_a_broken_request_appears_in_the_log(receiver: Emulator) -> None:
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


@pytest.mark.slow
def test_a_client_that_leaves_too_early_leaves_no_traceback(receiver: Emulator) -> None:
    with serving(**settings_for(receiver), BRIDGE_ACCOUNTS="own") as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        head = b"POST /v2/index.php HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        for how in (socket.SHUT_WR, socket.SHUT_RDWR):
            with socket.create_connection(address) as client:
                client.sendall(head)
                client.shutdown(how)
        for _ in range(20):
            # Without the token it is answered at once, and leaves in the middle of its body.
            with socket.create_connection(address) as client:
                client.sendall(HEAD.format(path="/", length=2**20).encode() + bytes(2**18))
        with socket.create_connection(address) as client:
            client.sendall(head)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(head)
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"[1,2,3,4]")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def test_each_line_of_the_log_has_its_time_and_stays_json() -> None:
    stream = io.StringIO()
    log = TimedLog(stream)
    log.write('{"level":"INFO","event":"report"}\n')
    log.write("Traceback\n")
    first, second = stream.getvalue().splitlines()
    members = json.loads(first)
    assert list(members) == ["time", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", members["time"])
    assert second.endswith("Z Traceback")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_name_that_holds_a_separator_of_unicode_keeps_its_line_of_the_log_json(separator: str) -> None:
    stream = io.StringIO()
    message = f'the topic a{separator}{{"b'
    TimedLog(stream).write(f"{json.dumps({'level': 'WARN', 'message': message}, ensure_ascii=False)}\n")
    assert json.loads(stream.getvalue())["message"] == message


# --- what clients can hold --------------------------------------------------------------------------------------


def echo(event: Any, _context: Any) -> Any:
    return {"bytes": len(event["body"])}


@asynccontextmanager
async def served(
    handler: Any = echo,
    check_head: Any = lambda _event: None,
    time_limit_s: float = 10,
    **limits: Any,
) -> AsyncIterator[int]:
    """The port of a server in this event loop."""
    server = HttpServer([handler], dict, check_head, ServerLimits(**limits))
    listener, stop = listen("127.0.0.1", 0), Stop()
    port: int = listener.getsockname()[1]
    running = asyncio.create_task(serve_until(stop, server, listener, time_limit_s))
    try:
        yield port
    finally:
        stop.ask(0)
        await asyncio.wait_for(running, 20)


async def ask(port: int, path: str = "/", body: bytes = b"[]") -> tuple[int, Any]:
    async with ClientSession() as client, client.post(f"http://127.0.0.1:{port}{path}", data=body) as reply:
        return reply.status, json.loads(await reply.text() or "null")


HEAD = "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
# The server sends the first line of the reply once it reads the body, so the client knows that its request has begun.
EXPECTING = HEAD.replace("Host: a", "Host: a\r\nExpect: 100-continue")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def address_of(url: str) -> tuple[str, int]:
    return "127.0.0.1", int(url.rpartition(":")[2])


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


async def begin(port: int, text: str | bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode() if isinstance(text, str) else text)
    return reader, writer


@pytest.mark.slow
def test_a_client_that_is_not_let_in_is_answered_before_it_has_sent_its_body() -> None:
    asked: list[Any] = []

    def refuse(event: Any) -> Any:
        asked.append(event)
        return {"statusCode": 401, "headers": {}, "body": "{}"}

    async def scenario() -> bytes:
        async with served(check_head=refuse) as port:
            reader, writer = await begin(port, HEAD.format(path="/", length=6 * 2**20))
            reply = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return reply

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 401 Unauthorized")
    assert "body" not in asked[0]


@pytest.mark.slow
def test_unfinished_bodies_take_a_bounded_memory_and_hold_up_no_other_client() -> None:
    block = bytes(2**20)

    async def scenario() -> int:
        async with served(large_bodies=4, place_timeout_s=60, body_timeout_s=60) as port:
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(60)
                ]
                for client in clients:
                    client.sendall(HEAD.format(path="/", length=6 * 2**20).encode())
                    client.setblocking(False)
                assert await ask(port) == (200, {"bytes": 2})
                tracemalloc.start()
                stack.callback(tracemalloc.stop)
                left = dict.fromkeys(clients, 5 * 2**20)
                for _ in range(20):
                    for client in clients:
                        # The server need not take it.
                        with suppress(BlockingIOError):
                            left[client] -= client.send(block[: left[client]])
                    assert await ask(port) == (200, {"bytes": 2})
                return tracemalloc.get_traced_memory()[0]

    assert asyncio.run(scenario()) < 4 * 6 * 2**20 + 60 * 3 * 2**16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "timeouts", "status"),
    [
        ("", {"head_timeout_s": 0.2}, b""),
        ("POST / HT", {"head_timeout_s": 0.2}, b""),
        (HEAD.format(path="/", length=9) + "[", {"body_timeout_s": 0.2}, b"HTTP/1.1 408"),
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_client_that_stops_sending_is_disconnected(
    text: str, timeouts: dict[str, float], status: bytes
) -> None:
    async def scenario() -> bytes:
        async with served(**timeouts) as port:
            reader, writer = await begin(port, text)
            reply = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return reply

    assert asyncio.run(scenario())[:12] == status


def test_the_oldest_connection_without_a_request_makes_room_for_a_new_one() -> None:
    async def scenario() -> None:
        async with served(connections=20) as port:
            idle = [await begin(port, "") for _ in range(20)]
            assert await ask(port) == (200, {"bytes": 2})
            assert await asyncio.wait_for(idle[0][0].read(), 30) == b""
            idle[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await asyncio.wait_for(idle[-1][0].read(15), 30)) == b"HTTP/1.1 200 OK"
            for _, writer in idle:
                writer.close()

    asyncio.run(scenario())


def test_the_largest_unfinished_head_is_given_up_if_all_of_them_are_too_large() -> None:
    async def scenario() -> None:
        async with served(head_bytes=400_000) as port:
            small, small_writer = await begin(port, "GET /healthz?" + "a" * 20_000)
            large = [await begin(port, "GET /?" + "a" * size) for size in (150_000, 250_000)]
            # The kernel hands it over piece by piece.
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(large[1][0].read(), 30) == b""
            small_writer.write(b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await asyncio.wait_for(small.read(15), 30) == b"HTTP/1.1 200 OK"
            for _, writer in (*large, (small, small_writer)):
                writer.close()

    asyncio.run(scenario())


def test_large_bodies_wait_for_their_turn_and_are_then_answered_with_503() -> None:
    async def scenario() -> None:
        async with served(large_bodies=1, place_timeout_s=0.2) as port:
            reader, writer = await begin(port, HEAD.format(path="/", length=100_000))
            assert (await ask(port, body=bytes(100_000)))[0] == 503
            writer.write(bytes(100_000))
            assert await reader.read(12) == b"HTTP/1.1 200"
            assert (await ask(port, body=bytes(90_000))) == (200, {"bytes": 90_000})
            writer.close()

    asyncio.run(scenario())


def test_a_client_that_has_left_holds_no_memory_and_its_request_is_not_handled() -> None:
    arrivals = threading.Semaphore(0)
    instance = Instance(arrivals)
    clients, body = 100, bytes(60_000)

    async def scenario() -> int:
        async with served(instance) as port:
            first = asyncio.create_task(ask(port, "/first"))
            assert await asyncio.to_thread(arrivals.acquire, timeout=30)
            tracemalloc.start()
            try:
                for _ in range(clients):
                    reader, writer = await begin(port, EXPECTING.format(path="/left", length=len(body)))
                    assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
                    writer.write(body)
                    writer.close()
                    await writer.wait_closed()
                # When it reads the body of another client, it has seen that they have left.
                reader, writer = await begin(port, EXPECTING.format(path="/last", length=2))
                assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
                held = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
                instance.gate.set()
            writer.write(b"[]")
            assert (await reader.read(12), await first) == (b"HTTP/1.1 200", (200, {"done": True}))
            writer.close()
            return held

    assert asyncio.run(scenario()) < clients * len(body) / 4
    assert [event["path"] for event, _ in instance.events] == ["/first", "/last"]


def test_a_request_under_way_is_answered_when_the_server_stops() -> None:
    arrivals = threading.Semaphore(0)
    instance = Instance(arrivals)

    async def scenario() -> tuple[int, Any]:
        async with served(instance) as port:
            asked = asyncio.create_task(ask(port))
            assert await asyncio.to_thread(arrivals.acquire, timeout=30)
            asyncio.get_running_loop().call_later(0.1, instance.gate.set)
        return await asked

    assert asyncio.run(scenario()) == (200, {"done": True})


def test_a_request_that_waits_for_an_instance_is_refused_at_once_when_the_server_stops() -> None:
    arrivals = threading.Semaphore(0)
    instance = Instance(arrivals)

    async def scenario() -> tuple[bytes, tuple[int, Any]]:
        async with served(instance) as port:
            asked = asyncio.create_task(ask(port))
            assert await asyncio.to_thread(arrivals.acquire, timeout=30)
            reader, writer = await begin(port, EXPECTING.format(path="/", length=2))
            assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
            writer.write(b"[]")
            asyncio.get_running_loop().call_later(0.1, instance.gate.set)
        reply = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return reply, await asked

    reply, asked = asyncio.run(scenario())
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in reply
    assert asked == (200, {"done": True})
    assert len(instance.events) == 1


def test_a_request_that_takes_too_long_is_given_up_when_the_server_stops() -> None:
    async def scenario() -> bytes:
        async with served(time_limit_s=0.1, body_timeout_s=3600) as port:
            reader, writer = await begin(port, EXPECTING.format(path="/", length=9))
            assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
        reply = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return reply

    assert asyncio.run(scenario()) == b""


def status_of(url: str, **request: Any) -> tuple[int, str | None]:
    """The status, and the header Retry-After."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **request), timeout=20) as reply:
            return reply.status, reply.headers["Retry-After"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]


def await_refusal(address: tuple[str, int]) -> None:
    """Return once connections are refused."""
    with suppress(ConnectionError):
        for _ in range(3000):
            socket.create_connection(address, timeout=20).close()
            time.sleep(0.01)
        pytest.fail("it still accepts connections")


def test_after_sigterm_it_says_so_refuses_new_points_and_completes_the_requests_that_have_begun(
    receiver: Emulator,
) -> None:
    receiver.clear()
    body = json.dumps(point()).encode()
    token = {"Authorization": f"Bearer {TOKEN}"}
    head = EXPECTING.format(path="/", length=len(body)).replace(
        "Host: a", f"Host: a\r\nAuthorization: Bearer {TOKEN}"
    )
    with (
        serving_process("--drain", "300", **settings_for(receiver), HTTP_TOKEN=TOKEN) as (url, process),
        socket.create_connection(address := address_of(url), timeout=60) as begun,
    ):
        begun.sendall(head.encode())
        assert begun.recv(len(CONTINUE), socket.MSG_WAITALL) == CONTINUE
        begun.sendall(body[:9])
        process.send_signal(signal.SIGTERM)
        while status_of(f"{url}/readyz")[0] == 200:
            time.sleep(0.01)
        assert status_of(f"{url}/readyz")[0] == 503
        assert status_of(f"{url}/healthz")[0] == 200
        assert status_of(url, data=body, headers=token) == (503, "1")
        with socket.create_connection(address, timeout=60) as kept:
            # A second signal ends the time for load balancers.
            process.send_signal(signal.SIGTERM)
            await_refusal(address)
            kept.sendall(HEAD.format(path="/", length=0).encode())
            assert read_all(kept).startswith(b"HTTP/1.1 503 ")
        begun.sendall(body[9:])
        reply = read_all(begun)
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in reply
        assert process.wait(60) == 0
    assert len(receiver.points()) == 1


def test_after_an_interrupt_it_waits_for_no_load_balancer(receiver: Emulator) -> None:
    with serving_process("--drain", "300", **settings_for(receiver)) as (url, process):
        # It has begun to take signals.
        assert status_of(f"{url}/healthz")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_health_and_readiness_do_not_invoke_the_function() -> None:
    instance = Instance(threading.Semaphore(0))

    async def scenario() -> list[int]:
        async with served(instance) as port, ClientSession() as client:
            urls = [f"http://127.0.0.1:{port}/{name}" for name in ("healthz", "readyz")]
            return [(await client.get(url)).status for url in urls]

    assert (asyncio.run(scenario()), instance.events) == ([200, 200], [])
