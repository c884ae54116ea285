"""The protocol's paths: HTTP requests, the faults that they meet, and the replies.

The two paths of the protocol, and every other path that is not the receiver's own, reply with HTTP 200 and a JSON ``code`` and
``message`` as ``application/octet-stream``.
"""

import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate

from aiohttp import web

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    PATHS,
    PutRequest,
    Refusal,
    encode_reply,
    parse_request,
    refuse,
)
from receiver_emulator.faults import Fault, FaultKind
from receiver_emulator.receiver import RECEIVER, EmulatedReceiver, Exchange
from receiver_emulator.store import Arrival

# This protects the memory of this process; it is not a limit of the protocol.
LARGEST_BODY = 64 * 1024 * 1024
_BODILESS_STATUSES = (204, 304)


def add_protocol(app: web.Application) -> None:
    """Serve the protocol's paths and, last of all, every other path."""
    for path in (*PATHS, "/{rest:.*}"):
        app.router.add_route("*", path, _protocol, expect_handler=_expect)


async def _expect(request: web.Request) -> None:
    """Tell a client to continue, if it is still connected."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _protocol(request: web.Request) -> web.StreamResponse:
    receiver = request.app[RECEIVER]
    started = time.monotonic()
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _answer(receiver, _arrived(receiver, request, None, started))
    except (web.RequestPayloadError, ConnectionError):
        # The body is incomplete, or its framing is wrong, so there is no request that the protocol could reply to.
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
    parsed = parsed or refuse(ReturnCode.DATA_TOO_LONG, f"more than {LARGEST_BODY} bytes")
    size = request.content_length or 0 if body is None else len(body or query)
    arrival = Arrival(receiver.now(), request.method, path, size, receiver.connection_number(request), parsed)
    record = receiver.store.record(arrival, None if fault is None else fault.kind)
    return Exchange(request, parsed, record, started)


def _target(request: web.Request) -> tuple[str, str]:
    # The path exactly as requested, since that is what was signed; through a proxy it has scheme and host.
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


# --- faults: each gets the result of processing, or None if the request was not processed -------------------

Enact = Callable[[EmulatedReceiver, Exchange, Fault, Refusal | None], Awaitable[web.StreamResponse]]


async def _code(
    receiver: EmulatedReceiver, exchange: Exchange, fault: Fault, _: Refusal | None
) -> web.StreamResponse:
    is_ok = fault.code is ReturnCode.OK
    return _reply(receiver, exchange, None if is_ok else refuse(fault.code, "this is a fault that was set"))


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
        # With a linger time of zero the kernel sends RST instead of FIN.
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
    # aiohttp needs a response from every handler. The connection is closed, so the client does not receive this one.
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
