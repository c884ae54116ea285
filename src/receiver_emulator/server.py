"""The receiver on HTTP: the protocol's paths, the faults that befall them, and its own interface under ``/-/``.

The two paths of the protocol, and every other path that is not the receiver's own, answer HTTP 200 with a JSON
``code`` and ``message`` as ``application/octet-stream``. The receiver's own interface speaks plain HTTP:

| request | answer |
|---|---|
| ``GET /`` | a page for people: what arrived, as live charts, what was refused, and switches for faults and limits |
| ``GET /-/points`` (``?last=n``: the newest n) | list of ``store.StoredPoint``, oldest first |
| ``GET /-/requests`` (likewise) | list of ``store.RequestRecord``, oldest first; never a signature |
| ``GET /-/faults`` | the faults still to come, as they were described |
| ``POST /-/faults`` | adds one fault or a list (see ``faults``), answers what is still to come |
| ``DELETE /-/faults`` | forgets the faults still to come; ``DELETE /-/faults/3`` that one alone |
| ``GET /-/limits``, ``POST /-/limits`` | the limits in force; sets those that the body names, null for no limit |
| ``POST /-/reports`` | shows the function's report of an event on the page |
| ``GET /-/activity`` | what the page shows: see ``activity`` |
| ``DELETE /-/points`` | forgets points and requests |

``page`` says which requests of other web pages are refused.
"""

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    PATHS,
    PutRequest,
    Refusal,
    authenticate,
    check_points,
    encode_reply,
    parse_request,
    refuse,
)
from receiver_emulator.faults import Fault, FaultError, FaultKind, FaultPlan, parse_faults
from receiver_emulator.limits import Usage
from receiver_emulator.options import LIMITS, EmulatorOptions, try_commands
from receiver_emulator.page import add_page, as_json, guard
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


class Client(Protocol):
    """A request, as far as it tells whether its client is still there: if not, ``transport`` is None."""

    @property
    def transport(self) -> object | None: ...


@dataclass
class Exchange:
    """One request on its way through the receiver; ``started`` is by the monotonic clock."""

    request: web.Request
    parsed: PutRequest | Refusal
    record: RequestRecord
    started: float


@dataclass
class EmulatedReceiver:
    """The receiver's parts, and the decision about a request.

    ``stopping`` frees whatever waits. ``on_answered`` is told about each request once it is known what it is answered.
    """

    options: EmulatorOptions
    store: Store
    plan: FaultPlan
    usage: Usage
    stopping: asyncio.Event
    connections: "WeakKeyDictionary[object, int]" = field(default_factory=WeakKeyDictionary)
    connection_count: int = 0
    on_answered: Callable[[RequestRecord], None] | None = None

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

    def put(self, exchange: Exchange) -> Refusal | None:
        """Process a request: keep its points, or say why not."""
        request = exchange.parsed
        if isinstance(request, Refusal):
            return request
        now = self.now()
        refusal = self._check(request, now)
        if refusal is None:
            self.usage.count_points(request, now)
            self.store.keep(exchange.record, request, now)
        return refusal

    def settle(self, exchange: Exchange, *, code: int | None, status: int) -> None:
        """Note what a request is answered, before the answer leaves."""
        ms = (time.monotonic() - exchange.started) * 1000
        if isinstance(exchange.parsed, PutRequest) and not exchange.record["stored"]:
            self.store.refuse(exchange.parsed, self.now())
        self.store.settle(exchange.record, code=code, status=status, ms=ms)
        self.tell(exchange)

    def tell(self, exchange: Exchange) -> None:
        if self.on_answered:
            self.on_answered(exchange.record)

    def limits(self) -> dict[str, float | None]:
        """Return the limits that can be set while it runs, by their names in the interface."""
        return {name: getattr(self.options, option) for name, (option, _) in LIMITS.items()}

    def set_limits(self, limits: Mapping[str, float | None]) -> None:
        """Set some of them; None: no limit."""
        changed: dict[str, Any] = {LIMITS[name][0]: limit for name, limit in limits.items()}
        self.options = self.usage.options = replace(self.options, **changed)

    def _check(self, request: PutRequest, now: float) -> Refusal | None:
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
    app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[guard(receiver.options.host)])
    app[_RECEIVER] = receiver
    add_page(app, _activity)
    for path in PATHS:
        app.router.add_route("*", path, _protocol, expect_handler=_expect)
    app.router.add_get("/-/points", _get_points, allow_head=False)
    app.router.add_delete("/-/points", _delete_points)
    app.router.add_get("/-/requests", _get_requests, allow_head=False)
    app.router.add_get("/-/faults", _get_faults, allow_head=False)
    app.router.add_post("/-/faults", _post_faults)
    app.router.add_delete("/-/faults", _delete_faults)
    app.router.add_delete("/-/faults/{number:[0-9]{1,9}}", _delete_fault)
    app.router.add_get("/-/limits", _get_limits, allow_head=False)
    app.router.add_post("/-/limits", _post_limits)
    app.router.add_post("/-/reports", _post_reports)
    app.router.add_route("*", "/-/{rest:.*}", _unknown_control)
    app.router.add_route("*", "/{rest:.*}", _protocol, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> None:
    """Tell a client to continue, if it is still there."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


# --- the protocol's paths ----------------------------------------------------------------------------------


async def _protocol(request: web.Request) -> web.StreamResponse:
    receiver = request.app[_RECEIVER]
    started = time.monotonic()
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _answer(receiver, _arrived(receiver, request, None, started))
    except (web.RequestPayloadError, ConnectionError):
        # The body broke off or its framing is wrong: there is no request to answer in the protocol's terms.
        return web.Response(status=400, headers=_headers(receiver, "text/plain"))
    if receiver.options.latency_s:
        await receiver.wait(receiver.options.latency_s)
    exchange, fault = _meet(receiver, request, body, started)
    if fault is None:
        return _answer(receiver, exchange)
    outcome = receiver.put(exchange) if fault.when == "after" else None
    return await _ENACT[fault.kind](receiver, exchange, fault, outcome)


def _meet(
    receiver: EmulatedReceiver, request: web.Request, body: bytes, started: float
) -> tuple[Exchange, Fault | None]:
    path, query = _target(request)
    parsed = parse_request(request.method, path, query, body)
    fault = receiver.plan.take(parsed) if path in PATHS else None
    return _arrived(receiver, request, body, started, parsed, fault), fault


def _arrived(
    receiver: EmulatedReceiver,
    request: web.Request,
    body: bytes | None,
    started: float,
    parsed: PutRequest | Refusal | None = None,
    fault: Fault | None = None,
) -> Exchange:
    path, query = _target(request)
    parsed = parsed or refuse(ReturnCode.DATA_TOO_LONG, f"more than {_LARGEST_BODY} bytes")
    size = request.content_length or 0 if body is None else len(body or query)
    arrival = Arrival(receiver.now(), request.method, path, size, receiver.connection_number(request), parsed)
    record = receiver.store.record(arrival, None if fault is None else fault.kind)
    return Exchange(request, parsed, record, started)


def _target(request: web.Request) -> tuple[str, str]:
    # As requested, since the path is signed as requested; through a proxy it comes with scheme and host.
    target = request.raw_path if request.raw_path.startswith("/") else str(request.rel_url)
    path, _, query = target.partition("?")
    return path, query


def _answer(receiver: EmulatedReceiver, exchange: Exchange) -> web.Response:
    return _reply(receiver, exchange, receiver.put(exchange))


def _reply(receiver: EmulatedReceiver, exchange: Exchange, refusal: Refusal | None) -> web.Response:
    code = 0 if refusal is None else int(refusal.code)
    receiver.settle(exchange, code=code, status=200)
    return web.Response(body=encode_reply(refusal), headers=_headers(receiver))


def _headers(receiver: EmulatedReceiver, content_type: str = "application/octet-stream") -> dict[str, str]:
    return {"Content-Type": content_type, "Date": formatdate(receiver.now(), usegmt=True)}


# --- faults: each is given what processing came to, or None where the request was not processed -------------

Enact = Callable[[EmulatedReceiver, Exchange, Fault, Refusal | None], Awaitable[web.StreamResponse]]


async def _code(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Refusal | None
) -> web.StreamResponse:
    is_ok = fault.code is ReturnCode.OK
    return _reply(receiver, exchange, None if is_ok else refuse(fault.code, "a fault was asked for"))


async def _status(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Refusal | None
) -> web.StreamResponse:
    receiver.settle(exchange, code=None, status=fault.status)
    page = f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>"
    body = None if fault.status in _BODILESS_STATUSES else page.encode()
    headers = _headers(receiver, "text/html") | dict(fault.headers)
    return web.Response(status=fault.status, body=body, headers=headers)


async def _delay(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, outcome: Refusal | None
) -> web.StreamResponse:
    await receiver.wait(fault.seconds)
    return _answer(receiver, exchange) if fault.when == "before" else _reply(receiver, exchange, outcome)


async def _reset(
    receiver: EmulatedReceiver, exchange: Exchange, _: Fault, __: Refusal | None
) -> web.StreamResponse:
    transport = exchange.request.transport
    if transport is not None:
        # Lingering for no time at all makes the kernel send RST instead of FIN.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return _unsent(receiver, exchange)


async def _hang(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Refusal | None
) -> web.StreamResponse:
    await receiver.wait(fault.seconds, exchange.request)
    if exchange.request.transport is not None:
        exchange.request.transport.close()
    return _unsent(receiver, exchange)


def _unsent(receiver: EmulatedReceiver, exchange: Exchange) -> web.StreamResponse:
    receiver.tell(exchange)
    # aiohttp needs a response from every handler; the connection is closed, so no client receives this one.
    return web.Response()


async def _garbage(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Refusal | None
) -> web.StreamResponse:
    receiver.settle(exchange, code=None, status=200)
    return web.Response(body=fault.content, headers=_headers(receiver))


async def _truncate(
    receiver: EmulatedReceiver, exchange: Exchange, _: Fault, outcome: Refusal | None
) -> web.StreamResponse:
    reply = encode_reply(outcome)
    receiver.settle(exchange, code=None, status=200)
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


async def _get_points(request: web.Request) -> web.Response:
    return _newest(request, request.app[_RECEIVER].store.points)


async def _get_requests(request: web.Request) -> web.Response:
    return _newest(request, request.app[_RECEIVER].store.requests)


def _newest(request: web.Request, read: Callable[[int | None], Sequence[Any]]) -> web.Response:
    last = request.query.get("last")
    if last is not None and not (last.isdecimal() and last.isascii() and len(last) <= 9):  # noqa: PLR2004 -- enough for any list
        return _wrong("last", "how many of the newest")
    return as_json(read(None if last is None else int(last)))


async def _delete_points(request: web.Request) -> web.Response:
    request.app[_RECEIVER].store.clear()
    return web.Response(status=204)


async def _get_faults(request: web.Request) -> web.Response:
    return as_json(request.app[_RECEIVER].plan.pending())


async def _post_faults(request: web.Request) -> web.Response:
    plan = request.app[_RECEIVER].plan
    try:
        plan.add(*parse_faults(json.loads(await request.read())))
    except FaultError as error:
        return _wrong(error.member, error.expected)
    except (ValueError, RecursionError):
        return _wrong("", "the body is a fault, or a list of faults, in JSON")
    return as_json(plan.pending())


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[_RECEIVER].plan.clear()
    return web.Response(status=204)


async def _delete_fault(request: web.Request) -> web.Response:
    is_found = request.app[_RECEIVER].plan.remove(int(request.match_info["number"]))
    return web.Response(status=204) if is_found else as_json({"error": "there is no such fault"}, status=404)


async def _get_limits(request: web.Request) -> web.Response:
    return as_json(request.app[_RECEIVER].limits())


async def _post_limits(request: web.Request) -> web.Response:
    receiver = request.app[_RECEIVER]
    limits = await _read_json(request)
    if not isinstance(limits, dict):
        return _wrong("", 'an object of limits, such as {"maxRequestsPerSecond": 5}')
    for name, limit in limits.items():
        if name not in LIMITS:
            return _wrong(name, f"unknown; the limits are {', '.join(LIMITS)}")
        if not LIMITS[name][1](limit):
            return _wrong(name, "a positive integer or null; latencySeconds: seconds from 0 to 3600")
    receiver.set_limits(limits)
    return as_json(receiver.limits())


async def _post_reports(request: web.Request) -> web.Response:
    if not request.app[_RECEIVER].store.activity.add_report(await _read_json(request)):
        return _wrong("", "the body is a report of the function, in JSON")
    return web.Response(status=204)


def _activity(request: web.Request, run: str, after: int) -> Mapping[str, Any]:
    receiver = request.app[_RECEIVER]
    return {
        "source": "emulator",
        **receiver.store.activity.read(run, after),
        "faults": receiver.plan.numbered(),
        "limits": receiver.limits(),
        "try": try_commands(f"http://{request.host}", receiver.options),
    }


async def _read_json(request: web.Request) -> Any:
    """Decode the body; None if it is no JSON."""
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        return None


async def _unknown_control(_: web.Request) -> web.Response:
    return as_json({"error": "see GET /-/points, /-/requests and /-/faults"}, status=404)


def _wrong(member: str, expected: str) -> web.Response:
    return as_json({"error": "the request is wrong", "member": member, "expected": expected}, status=400)
