"""The receiver on HTTP: the protocol's paths, the faults that befall them, and its own interface under ``/-/``.

The two paths of the protocol, and every other path that is not the receiver's own, answer HTTP 200 with a JSON
``code`` and ``message`` as ``application/octet-stream``. The receiver's own interface speaks plain HTTP:

| request | answer |
|---|---|
| ``GET /`` | a page for people: what arrived, as a live chart, and what was refused |
| ``GET /-/points`` (``?last=n``: the newest n) | list of ``store.StoredPoint``, oldest first |
| ``GET /-/requests`` (likewise) | list of ``store.RequestRecord``, oldest first; never a signature |
| ``GET /-/faults`` | the faults still to come, as they were described |
| ``POST /-/faults`` | adds one fault or a list (see ``faults``), answers what is still to come |
| ``DELETE /-/faults`` | forgets the faults still to come |
| ``DELETE /-/points`` | forgets points and requests |

A web page that someone has open on this machine can send requests here, too, and a name server of its own can lead its
name to this address. So this interface and the page refuse a ``Host`` that such a page could have, and every change that
a page of another origin asks for.
"""

import asyncio
import ipaddress
import json
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib import resources
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    PATHS,
    PutRequest,
    Rejection,
    authenticate,
    check_points,
    encode_reply,
    parse_request,
    reject,
)
from receiver_emulator.faults import Fault, FaultError, FaultKind, FaultPlan, parse_faults
from receiver_emulator.limits import Usage
from receiver_emulator.options import EmulatorOptions
from receiver_emulator.server_log import server_log
from receiver_emulator.store import Arrival, RequestRecord, Store

# A guard of this process's memory, not a limit of the protocol.
_LARGEST_BODY = 64 * 1024 * 1024
# aiohttp's default of 8 KB would refuse a GET of 30 points with its own status 400.
_LONGEST_LINE = 4 * 1024 * 1024
_DISCONNECT_POLL_S = 0.02
_SHUTDOWN_S = 0.2
_TURNS_OF_A_TRANSPORT = 5
_BODILESS_STATUSES = (204, 304)
_SAFE_METHODS = ("GET", "HEAD")
_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)


class Client(Protocol):
    """A request, as far as it tells whether its client is still there: if not, ``transport`` is None."""

    @property
    def transport(self) -> object | None: ...


@dataclass
class Exchange:
    """One request on its way through the receiver."""

    request: web.Request
    parsed: PutRequest | Rejection
    record: RequestRecord


@dataclass
class EmulatedReceiver:
    """The receiver's parts, and the decision about a request. ``stopping`` frees whatever waits."""

    options: EmulatorOptions
    store: Store
    plan: FaultPlan
    usage: Usage
    stopping: asyncio.Event
    connections: "WeakKeyDictionary[object, int]" = field(default_factory=WeakKeyDictionary)
    connection_count: int = 0

    def now(self) -> float:
        return time.time() + self.options.clock_offset_s

    def connection_number(self, request: web.Request) -> int:
        """Return the number of the request's TCP connection, from 1; 0 when it has already gone."""
        if request.transport is None:
            return 0
        number = self.connections.get(request.transport)
        if number is None:
            self.connection_count += 1
            number = self.connections[request.transport] = self.connection_count
        return number

    def put(self, exchange: Exchange) -> Rejection | None:
        """Process a request: keep its points, or say why not."""
        request = exchange.parsed
        if isinstance(request, Rejection):
            return request
        now = self.now()
        rejection = self._check(request, now)
        if rejection is None:
            self.usage.count_points(request, now)
            self.store.keep(exchange.record, request, now)
        return rejection

    def _check(self, request: PutRequest, now: float) -> Rejection | None:
        options = self.options
        return (
            authenticate(request, options.accounts, now, tolerance_s=options.clock_tolerance_s)
            or self.usage.admit(request, now)
            or check_points(request, options.request_limits, options.catalogue)
            or self.usage.check_period(request, now)
        )

    async def wait(self, seconds: float | None, request: Client | None = None) -> None:
        """Wait for some seconds (None: without end), until the receiver stops, or until the client of ``request`` leaves."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.stopping.is_set() and not (request is not None and request.transport is None):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            # aiohttp could cancel a handler whose client leaves. But a slow receiver does process requests whose
            # clients have left.
            polls = [] if request is None else [_DISCONNECT_POLL_S]
            pauses = polls + ([] if left is None else [left])
            await _wait_for(self.stopping, min(pauses, default=None))


async def _wait_for(event: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return


_RECEIVER: web.AppKey[EmulatedReceiver] = web.AppKey("receiver", EmulatedReceiver)
_PAGE: web.AppKey[bytes] = web.AppKey("page", bytes)


def build_receiver(options: EmulatorOptions, store: Store, plan: FaultPlan) -> EmulatedReceiver:
    """Return the receiver; to be called where its event loop runs."""
    return EmulatedReceiver(options, store, plan, Usage(options), asyncio.Event())


def build_plan(options: EmulatorOptions) -> FaultPlan:
    return FaultPlan(random.Random(options.seed))


@dataclass(frozen=True)
class Listening:
    """A receiver that accepts connections."""

    port: int
    _runner: web.AppRunner
    _socket: socket.socket

    async def close(self) -> None:
        """Stop listening and close every connection, those included that are being accepted just now."""
        # A connection that asyncio is accepting while its server closes would never be closed.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(self._socket)
        await _settle_transports()
        await self._runner.cleanup()
        await _settle_transports()


async def listen(receiver: EmulatedReceiver, port: int) -> Listening:
    """Accept connections on the options' host; raises ``OSError`` where that is not possible."""
    runner = web.AppRunner(
        _application(receiver),
        access_log=None,
        logger=server_log("receiver_emulator.http"),
        shutdown_timeout=_SHUTDOWN_S,
        max_line_size=_LONGEST_LINE,
        auto_decompress=False,
    )
    host = receiver.options.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return Listening(listener.getsockname()[1], runner, listener)


async def _settle_transports() -> None:
    # asyncio accepts and closes a connection in a few turns of its loop, of which aiohttp awaits none; a loop
    # that ends before them leaves sockets to the garbage collector.
    for _ in range(_TURNS_OF_A_TRANSPORT):
        await asyncio.sleep(0)


def _application(receiver: EmulatedReceiver) -> web.Application:
    app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_refuse_other_origins])
    app[_RECEIVER] = receiver
    app[_PAGE] = _page_with_meanings()
    for path in PATHS:
        app.router.add_route("*", path, _protocol, expect_handler=_expect)
    app.router.add_get("/", _page, allow_head=False)
    app.router.add_get("/-/points", _get_points, allow_head=False)
    app.router.add_delete("/-/points", _delete_points)
    app.router.add_get("/-/requests", _get_requests, allow_head=False)
    app.router.add_get("/-/faults", _get_faults, allow_head=False)
    app.router.add_post("/-/faults", _post_faults)
    app.router.add_delete("/-/faults", _delete_faults)
    app.router.add_route("*", "/-/{rest:.*}", _unknown_control)
    app.router.add_route("*", "/{rest:.*}", _protocol, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> None:
    """Tell a client to continue, if it is still there."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _page_with_meanings() -> bytes:
    page = resources.files("receiver_emulator").joinpath("page.html").read_text("utf-8")
    meanings = json.dumps({int(code): code.meaning for code in ReturnCode})
    return page.replace("const MEANINGS = {};", f"const MEANINGS = {meanings};").encode()


# --- the protocol's paths ----------------------------------------------------------------------------------


async def _protocol(request: web.Request) -> web.StreamResponse:
    receiver = request.app[_RECEIVER]
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _answer(receiver, _arrived(receiver, request, None))
    except (web.RequestPayloadError, ConnectionError):
        # The body broke off or its framing is wrong: there is no request to answer in the protocol's terms.
        return web.Response(status=400, headers=_headers(receiver, "text/plain"))
    if receiver.options.latency_s:
        await receiver.wait(receiver.options.latency_s)
    exchange, fault = _meet(receiver, request, body)
    if fault is None:
        return _answer(receiver, exchange)
    outcome = receiver.put(exchange) if fault.when == "after" else None
    return await _ENACT[fault.kind](receiver, exchange, fault, outcome)


def _meet(receiver: EmulatedReceiver, request: web.Request, body: bytes) -> tuple[Exchange, Fault | None]:
    path, query = _target(request)
    parsed = parse_request(request.method, path, query, body)
    fault = receiver.plan.take(parsed) if path in PATHS else None
    return _arrived(receiver, request, body, parsed, fault), fault


def _arrived(
    receiver: EmulatedReceiver,
    request: web.Request,
    body: bytes | None,
    parsed: PutRequest | Rejection | None = None,
    fault: Fault | None = None,
) -> Exchange:
    path, query = _target(request)
    parsed = parsed or reject(ReturnCode.DATA_TOO_LONG, f"more than {_LARGEST_BODY} bytes")
    size = request.content_length or 0 if body is None else len(body or query)
    arrival = Arrival(receiver.now(), request.method, path, size, receiver.connection_number(request), parsed)
    return Exchange(request, parsed, receiver.store.record(arrival, None if fault is None else fault.kind))


def _target(request: web.Request) -> tuple[str, str]:
    # As requested, since the path is signed as requested; through a proxy it comes with scheme and host.
    target = request.raw_path if request.raw_path.startswith("/") else str(request.rel_url)
    path, _, query = target.partition("?")
    return path, query


def _answer(receiver: EmulatedReceiver, exchange: Exchange) -> web.Response:
    return _reply(receiver, exchange, receiver.put(exchange))


def _reply(receiver: EmulatedReceiver, exchange: Exchange, rejection: Rejection | None) -> web.Response:
    code = 0 if rejection is None else int(rejection.code)
    receiver.store.settle(exchange.record, code=code, status=200)
    return web.Response(body=encode_reply(rejection), headers=_headers(receiver))


def _headers(receiver: EmulatedReceiver, content_type: str = "application/octet-stream") -> dict[str, str]:
    return {"Content-Type": content_type, "Date": formatdate(receiver.now(), usegmt=True)}


# --- faults: each is given what processing came to, or None where the request was not processed -------------

Enact = Callable[[EmulatedReceiver, Exchange, Fault, Rejection | None], Awaitable[web.StreamResponse]]


async def _code(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Rejection | None
) -> web.StreamResponse:
    is_ok = fault.code is ReturnCode.OK
    return _reply(receiver, exchange, None if is_ok else reject(fault.code, "a fault was asked for"))


async def _status(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Rejection | None
) -> web.StreamResponse:
    receiver.store.settle(exchange.record, code=None, status=fault.status)
    page = f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>"
    body = None if fault.status in _BODILESS_STATUSES else page.encode()
    headers = _headers(receiver, "text/html") | dict(fault.headers)
    return web.Response(status=fault.status, body=body, headers=headers)


async def _delay(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, outcome: Rejection | None
) -> web.StreamResponse:
    await receiver.wait(fault.seconds)
    return _answer(receiver, exchange) if fault.when == "before" else _reply(receiver, exchange, outcome)


async def _reset(
    _: EmulatedReceiver, exchange: Exchange, __: Fault, ___: Rejection | None
) -> web.StreamResponse:
    transport = exchange.request.transport
    if transport is not None:
        # Lingering for no time at all makes the kernel send RST instead of FIN.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return _unsent()


async def _hang(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Rejection | None
) -> web.StreamResponse:
    await receiver.wait(fault.seconds, exchange.request)
    if exchange.request.transport is not None:
        exchange.request.transport.close()
    return _unsent()


def _unsent() -> web.StreamResponse:
    # aiohttp needs a response from every handler; the connection is closed, so no client receives this one.
    return web.Response()


async def _garbage(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Rejection | None
) -> web.StreamResponse:
    receiver.store.settle(exchange.record, code=None, status=200)
    return web.Response(body=fault.content, headers=_headers(receiver))


async def _truncate(
    receiver: EmulatedReceiver, exchange: Exchange, _: Fault, outcome: Rejection | None
) -> web.StreamResponse:
    reply = encode_reply(outcome)
    receiver.store.settle(exchange.record, code=None, status=200)
    response = web.StreamResponse(headers=_headers(receiver))
    response.content_length = len(reply)
    response.force_close()
    await response.prepare(exchange.request)
    await response.write(reply[: len(reply) // 2])
    return response


_ENACT: Mapping[FaultKind, Enact] = {
    "code": _code,
    "status": _status,
    "delay": _delay,
    "reset": _reset,
    "hang": _hang,
    "garbage": _garbage,
    "truncate": _truncate,
}


# --- the receiver's own interface --------------------------------------------------------------------------


@web.middleware
async def _refuse_other_origins(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.path != "/" and not request.path.startswith("/-/"):
        return await handler(request)
    if not _is_local_name(request.host, request.app[_RECEIVER].options.host):
        return _json(
            {"error": "ask by an IP address or by localhost: another name may be a web page's"}, status=403
        )
    if request.method not in _SAFE_METHODS and not _is_own_origin(request):
        return _json({"error": "a page of another origin may not change anything here"}, status=403)
    return await handler(request)


def _is_local_name(host: str, own_host: str) -> bool:
    """Return whether a ``Host`` cannot be the name of a web site: an address, or a name without a domain."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name.lower() == own_host.lower() or (bool(name) and "." not in name)


def _is_own_origin(request: web.Request) -> bool:
    """Return whether no web page sent the request, or one that was loaded from here."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    return origin in (None, f"http://{request.host}") and site in ("none", "same-origin")


async def _page(request: web.Request) -> web.Response:
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _SECURITY_POLICY}
    return web.Response(body=request.app[_PAGE], headers=headers)


async def _get_points(request: web.Request) -> web.Response:
    return _newest(request, request.app[_RECEIVER].store.points)


async def _get_requests(request: web.Request) -> web.Response:
    return _newest(request, request.app[_RECEIVER].store.requests)


def _newest(request: web.Request, read: Callable[[int | None], Sequence[Any]]) -> web.Response:
    last = request.query.get("last")
    if last is not None and not (last.isdecimal() and last.isascii() and len(last) <= 9):  # noqa: PLR2004 -- enough for any list
        return _wrong("last", "how many of the newest")
    return _json(read(None if last is None else int(last)))


async def _delete_points(request: web.Request) -> web.Response:
    request.app[_RECEIVER].store.clear()
    return web.Response(status=204)


async def _get_faults(request: web.Request) -> web.Response:
    return _json(request.app[_RECEIVER].plan.pending())


async def _post_faults(request: web.Request) -> web.Response:
    plan = request.app[_RECEIVER].plan
    try:
        plan.add(*parse_faults(json.loads(await request.read())))
    except FaultError as error:
        return _wrong(error.member, error.expected)
    except (ValueError, RecursionError):
        return _wrong("", "the body is a fault, or a list of faults, in JSON")
    return _json(plan.pending())


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[_RECEIVER].plan.clear()
    return web.Response(status=204)


async def _unknown_control(_: web.Request) -> web.Response:
    return _json({"error": "see GET /-/points, /-/requests and /-/faults"}, status=404)


def _wrong(member: str, expected: str) -> web.Response:
    return _json({"error": "the request is wrong", "member": member, "expected": expected}, status=400)


def _json(value: Any, *, status: int = 200) -> web.Response:
    # A fault's garbage may be bytes, which JSON has not.
    body = json.dumps(value, default=lambda content: content.decode("utf-8", "replace"))
    return web.Response(body=body.encode(), status=status, content_type="application/json")
