"""An HTTP server that calls the function as a Function URL would: HTTP → event and context → reply → HTTP.

It limits what all clients can use together: connections, the time for a request's head and for its body, and the bodies
that are in memory at once. A client whose head is refused is answered before its body is read.
"""

import asyncio
import base64
import json
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, cast

from aiohttp import hdrs, web

from metric_forwarder.cli.local_function import Handler
from receiver_emulator.server_log import server_log

# The platform's limit for a synchronous event.
MAX_BODY_BYTES = 6 * 2**20
# A GET of the receiver's protocol has its points in the first line.
_LONGEST_LINE = 2**20
# Up to twice as much of a body is buffered before it is read.
_BUFFER_BYTES = 2**15
# The longest time to write the last replies, once everything else is done or given up.
_LAST_REPLIES_S = 1.0
# A refused client may go on sending for this long, so that it reads the reply.
_LINGER_S = 1.0
_LONGEST_LOGGED_PATH = 200
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Of Prometheus.
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

MakeContext = Callable[[], Mapping[str, Any]]
CheckHead = Callable[[Mapping[str, Any]], Any]


class Access(NamedTuple):
    """A finished request, without what may be secret: its query, headers and body."""

    client: str
    method: str
    path: str
    status: int
    request_bytes: int | None
    ms: float


OnAccess = Callable[[Access], None]


class ServerLimits(NamedTuple):
    """The most that all clients together can use, unless an attribute says otherwise.

    Attributes:
        connections: open at once.
        head_timeout_s: of each request, from the connection or the last reply until its head is complete.
        head_bytes: of requests whose head is not complete.
        body_timeout_s: of each request, to receive its body.
        small_body_bytes: a larger body needs one of ``large_bodies`` places in memory.
        large_bodies: the number of these places.
        place_timeout_s: how long a large body waits for a place.
    """

    connections: int = 512
    head_timeout_s: float = 10.0
    head_bytes: int = 16 * 2**20
    body_timeout_s: float = 20.0
    small_body_bytes: int = 65_536
    large_bodies: int = 8
    place_timeout_s: float = 5.0


DEFAULT_LIMITS = ServerLimits()


class HttpServer:
    """The function's instances, each of which handles one event at a time, as the platform's do.

    Args:
        handlers: one for each instance.
        make_context: makes the context of an invocation.
        check_head: gets the event of a request without its body; returns the reply if the request is refused, otherwise
            None.
        limits: what clients can hold.
        on_access: called for each finished request, except those of load balancers; may be None.
    """

    def __init__(
        self,
        handlers: Sequence[Handler],
        make_context: MakeContext,
        check_head: CheckHead = lambda _event: None,
        limits: ServerLimits = DEFAULT_LIMITS,
        on_access: OnAccess | None = None,
        own_metrics: Callable[[], str] | None = None,
    ) -> None:
        self._own_metrics = own_metrics
        self._on_access = on_access
        self.limits = limits
        self._make_context = make_context
        self._check_head = check_head
        self._idle = deque(handlers)
        # Requests that wait for an instance, by connection, in the order of their arrival.
        self._turns: dict[object, asyncio.Future[Handler | None]] = {}
        self._large_bodies = asyncio.Semaphore(limits.large_bodies)
        # In the order of their arrival.
        self._connections: dict[object, Connection] = {}
        self._is_stopping = False
        # Requests whose head is complete and whose reply is not.
        self._begun = 0
        self._nothing_begun = asyncio.Event()
        self._nothing_begun.set()
        # The event loop's own pool has too few threads: the number of processors plus four.
        self._threads = ThreadPoolExecutor(len(handlers), thread_name_prefix="instance")

    def application(self) -> web.Application:
        """Make the application that ``aiohttp`` serves."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        if self._own_metrics is not None:
            app.router.add_get("/metrics", self._metrics)
        app.router.add_route("*", "/{rest:.*}", self._answer, expect_handler=_expect)
        app.on_cleanup.append(self._end)
        return app

    def connect(self, connection: "Connection", protocol: object) -> None:
        """Add a connection; if there are too many, close the oldest that waits for a request."""
        self._connections[protocol] = connection
        if len(self._connections) > self.limits.connections:
            (self._waiting()[:1] or [connection])[0].abort()

    def disconnect(self, protocol: object) -> None:
        """Remove a connection that has ended, and its request if that still waits for an instance."""
        self._connections.pop(protocol, None)
        if protocol in self._turns:
            self._turns.pop(protocol).set_result(None)

    def bound_heads(self) -> None:
        """Abort the connection with the largest unfinished head if all of them together are too large."""
        waiting = self._waiting()
        if sum(connection.head_bytes for connection in waiting) > self.limits.head_bytes:
            max(waiting, key=lambda connection: connection.head_bytes).abort()

    def stop(self) -> None:
        """Refuse further requests, and say so at /readyz; those that have begun go on, also with their bodies.

        Those that wait for an instance are refused: what is left of the time limit may be too short for them.
        """
        self._is_stopping = True
        while self._turns:
            self._turns.popitem()[1].set_result(None)

    async def wait_for_begun(self, timeout_s: float) -> None:
        """Wait until every request that has begun is answered, for so long at most."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._nothing_begun.wait(), timeout_s)

    def _waiting(self) -> list["Connection"]:
        return [connection for connection in self._connections.values() if connection.is_waiting]

    async def _end(self, _app: web.Application) -> None:
        self._threads.shutdown(wait=False)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = self._own_metrics() if self._own_metrics else ""
        return web.Response(body=text.encode(), headers={"Content-Type": _TEXT_FORMAT})

    async def _readiness(self, _request: web.Request) -> web.Response:
        if self._is_stopping:
            return web.json_response({"status": "stopping"}, status=503)
        return web.json_response({"status": "ready"})

    async def _answer(self, request: web.Request) -> web.Response:
        connection = self._connections.get(request.protocol)
        if connection is not None:
            connection.begin_request()
        self._begun += 1
        self._nothing_begun.clear()
        started = time.monotonic()
        try:
            response = await self._answer_in_bounds(request)
        except (web.RequestPayloadError, ConnectionError):
            # The body broke off, or its framing is wrong, so the client does not wait for a full reply.
            response = web.Response(status=400)
        finally:
            if connection is not None:
                connection.end_request()
            self._begun -= 1
            if not self._begun:
                self._nothing_begun.set()
        if self._is_stopping:
            # The client's next request must go to another server.
            response.force_close()
        if self._on_access:
            self._on_access(_access(request, response, (time.monotonic() - started) * 1000))
        return response

    async def _answer_in_bounds(self, request: web.Request) -> web.Response:
        if self._is_stopping:
            return await _answer_early(request, _come_back())
        event = _make_head(request)
        refusal = self._check_head(event)
        if refusal is not None:
            return await _answer_early(request, make_response(refusal))
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return await _answer_early(request, web.Response(status=413))
        async with self._place_for_body(request) as is_given:
            if not is_given:
                return await _answer_early(request, _come_back())
            try:
                body = await asyncio.wait_for(_read_body(request), self.limits.body_timeout_s)
            except asyncio.TimeoutError:
                return await _answer_early(request, web.Response(status=408))
            return await self._invoke(request, _with_body(event, body))

    @asynccontextmanager
    async def _place_for_body(self, request: web.Request) -> AsyncIterator[bool]:
        """Hold a place for the body of a request until the reply is sent."""
        length = request.content_length
        is_small = not request.body_exists or (length is not None and length <= self.limits.small_body_bytes)
        if is_small:
            yield True
            return
        try:
            await asyncio.wait_for(self._large_bodies.acquire(), self.limits.place_timeout_s)
        except asyncio.TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            self._large_bodies.release()

    async def _invoke(self, request: web.Request, event: Mapping[str, Any]) -> web.Response:
        handler = self._idle.popleft() if self._idle else await self._next_idle(request)
        if handler is None:
            return _come_back()
        try:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._threads, handler, event, self._make_context())
        finally:
            self._release(handler)
        return make_response(reply)

    async def _next_idle(self, request: web.Request) -> Handler | None:
        """Wait for an instance; None if the client leaves, or the server stops, before one is idle."""
        if self._is_stopping or request.transport is None:
            return None
        turn: asyncio.Future[Handler | None] = asyncio.get_running_loop().create_future()
        self._turns[request.protocol] = turn
        return await turn

    def _release(self, handler: Handler) -> None:
        if self._turns:
            self._turns.pop(next(iter(self._turns))).set_result(handler)
        else:
            self._idle.append(handler)


class Connection(asyncio.Protocol):
    """A client's connection: passes everything on to ``aiohttp``, and knows whether a request is being answered.

    Attributes:
        is_waiting: whether none of its requests is being answered.
        head_bytes: received while it waits.
    """

    def __init__(self, server: HttpServer, protocol: asyncio.Protocol) -> None:
        self._server = server
        self._protocol = protocol
        self._transport: asyncio.BaseTransport | None = None
        self.is_waiting = True
        self.head_bytes = 0

    def abort(self) -> None:
        """Close it at once, without sending the rest."""
        self.is_waiting = False
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    def begin_request(self) -> None:
        self.is_waiting, self.head_bytes = False, 0

    def end_request(self) -> None:
        self.is_waiting = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)
        self._server.connect(self, self._protocol)

    def data_received(self, data: bytes) -> None:
        if self.is_waiting:
            self.head_bytes += len(data)
            if self.head_bytes > _BUFFER_BYTES:
                self._server.bound_heads()
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.disconnect(self._protocol)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def _make_head(request: web.Request) -> dict[str, Any]:
    """Make the event of a Function URL, without its body."""
    return {
        "httpMethod": request.method,
        # As it was sent: a Pushgateway's path is decoded label by label.
        "path": request.rel_url.raw_path,
        "queryString": _members(request.query.items()),
        "headers": _members((name.lower(), value) for name, value in request.headers.items()),
    }


def _with_body(event: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Add the body: one that is not text is base64, as from API Gateway."""
    try:
        return {**event, "body": body.decode()}
    except UnicodeDecodeError:
        return {**event, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _members(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return names with their values; a repeated name has a list of all its values."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _access(request: web.Request, response: web.StreamResponse, ms: float) -> Access:
    path = request.path[:_LONGEST_LOGGED_PATH]
    return Access(
        request.remote or "", request.method, path, response.status, request.content_length, round(ms, 1)
    )


def make_response(reply: Any) -> web.Response:
    """Make the HTTP response; a reply without a ``statusCode`` is a success, as on the platform."""
    if not isinstance(reply, dict) or "statusCode" not in reply:
        return web.Response(body=json.dumps(reply).encode(), content_type="application/json")
    body = reply.get("body", "")
    data = base64.b64decode(body) if reply.get("isBase64Encoded") else str(body).encode()
    return web.Response(status=int(reply["statusCode"]), headers=reply.get("headers", {}), body=data)


def _come_back() -> web.Response:
    return web.Response(status=503, headers={"Retry-After": "1"})


async def _answer_early(request: web.Request, response: web.Response) -> web.Response:
    """Send the response without reading the request's body, and close the connection.

    A client that is still sending would not get the response if the connection were closed at once.
    """
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    # aiohttp raises these for a connection that has ended meanwhile.
    gone = (web.RequestPayloadError, ConnectionError, RuntimeError)
    with suppress(asyncio.TimeoutError, *gone):
        await asyncio.wait_for(_discard(request), _LINGER_S)
    return response


async def _discard(request: web.Request) -> None:
    while not request.content.at_eof():
        await request.content.readany()


async def _expect(request: web.Request) -> None:
    """Accept ``Expect: 100-continue``; 100 is sent only when the body is read."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def _read_body(request: web.Request) -> bytes:
    if hdrs.EXPECT in request.headers and request.transport is not None:
        request.transport.write(_CONTINUE)
    return await request.read()


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; raises ``OSError`` if that is not possible."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


Site = tuple[socket.socket, web.Application]
"""Another application, which is served on its own address as long as the server runs."""


class Stop:
    """How the server ends, in two steps: first it takes no more points, then it takes no more connections.

    Between the steps a load balancer can read at /readyz that it must send its clients elsewhere.

    Attributes:
        is_asked: set for the first step.
        is_due: set for the second step.
    """

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.is_due = asyncio.Event()

    def ask(self, drain_s: float) -> None:
        """Take the first step, and the second one ``drain_s`` seconds later; asked again, take the second one at once."""
        if self.is_asked.is_set() or not drain_s:
            self.is_due.set()
        else:
            asyncio.get_running_loop().call_later(drain_s, self.is_due.set)
        self.is_asked.set()


def run(
    server: HttpServer, listener: socket.socket, drain_s: float, time_limit_s: float, page: Site | None = None
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        server: answers the requests.
        listener: where it listens.
        drain_s: how long after SIGTERM it listens on, to refuse requests. After SIGINT, which is a person's Ctrl-C, or a
            second signal it does not.
        time_limit_s: from the signal on, for the requests that have begun.
        page: another application to serve meanwhile.
    """
    asyncio.run(_run(server, listener, drain_s, time_limit_s, page))


async def _run(
    server: HttpServer, listener: socket.socket, drain_s: float, time_limit_s: float, page: Site | None
) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.ask, drain_s)
    loop.add_signal_handler(signal.SIGINT, stop.ask, 0.0)
    if page is None:
        await serve_until(stop, server, listener, time_limit_s)
        return
    runner = web.AppRunner(
        page[1], access_log=None, shutdown_timeout=0, logger=server_log("metric_forwarder.page")
    )
    await runner.setup()
    await web.SockSite(runner, page[0]).start()
    try:
        await serve_until(stop, server, listener, time_limit_s)
    finally:
        await runner.cleanup()


async def serve_until(stop: Stop, server: HttpServer, listener: socket.socket, time_limit_s: float) -> None:
    """Serve until ``stop``, then answer the requests that have begun, within the time limit."""
    runner = web.AppRunner(
        server.application(),
        access_log=None,
        shutdown_timeout=_LAST_REPLIES_S,
        logger=server_log("metric_forwarder.http"),
        max_line_size=_LONGEST_LINE,
        # It counts from the connection or the last reply until the head of the next request is complete.
        keepalive_timeout=server.limits.head_timeout_s,
        lingering_time=0,
        read_bufsize=_BUFFER_BYTES,
        # The function itself inflates a compressed body, within its limits.
        auto_decompress=False,
    )
    await runner.setup()
    make_protocol = cast("web.Server", runner.server)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Connection(server, make_protocol()), sock=listener, backlog=1024
    )
    await stop.is_asked.wait()
    given_up_at = loop.time() + time_limit_s
    server.stop()
    await stop.is_due.wait()
    listening.close()
    # Not left to the cleanup, which reads nothing more from any connection: bodies under way would never be complete.
    await server.wait_for_begun(given_up_at - loop.time())
    await runner.cleanup()
