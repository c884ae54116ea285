"""An HTTP server that calls the function as a Function URL would: HTTP → event and context → reply → HTTP."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from metric_forwarder.cli.local_function import Handler
from receiver_emulator.server_log import server_log

# The platform's limit for a synchronous event.
MAX_BODY_BYTES = 6 * 2**20
# A GET of the receiver's protocol carries its points in the first line.
_LONGEST_LINE = 2**20
MakeContext = Callable[[], Mapping[str, Any]]


class HttpServer:
    """The function's instances, each of which handles one event at a time, as the platform's do.

    Args:
        handlers: one for each instance.
        make_context: makes the context of an invocation.
    """

    def __init__(self, handlers: Sequence[Handler], make_context: MakeContext) -> None:
        self._handlers = handlers
        self._make_context = make_context
        self._idle: asyncio.Queue[Handler] = asyncio.Queue()
        # The loop's own threads are few: as many as the machine has processors, and four.
        self._threads = ThreadPoolExecutor(len(handlers), thread_name_prefix="instance")

    def application(self) -> web.Application:
        """Make what ``aiohttp`` serves."""
        # What the platform's gateway would let through.
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        app.on_startup.append(self._start)
        return app

    async def _start(self, _app: web.Application) -> None:
        for handler in self._handlers:
            self._idle.put_nowait(handler)

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            event = make_event(request, await request.read())
        except (web.RequestPayloadError, ConnectionError):
            # The body broke off, or its framing is wrong: nobody waits for more of an answer.
            return web.Response(status=400)
        handler = await self._idle.get()
        try:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._threads, handler, event, self._make_context())
        finally:
            self._idle.put_nowait(handler)
        return make_response(reply)


def make_event(request: web.Request, body: bytes) -> dict[str, Any]:
    """Make the event of a Function URL: a body that is no text is base64, as API Gateway has it."""
    event: dict[str, Any] = {
        "httpMethod": request.method,
        "path": request.path,
        "queryString": _members(request.query.items()),
        "headers": _members((name.lower(), value) for name, value in request.headers.items()),
    }
    try:
        return {**event, "body": body.decode()}
    except UnicodeDecodeError:
        return {**event, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _members(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Names with their values; of a name that comes more than once, all."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def make_response(reply: Any) -> web.Response:
    """Make the HTTP answer; what has no ``statusCode`` is a success, as the platform has it."""
    if not isinstance(reply, dict) or "statusCode" not in reply:
        return web.Response(body=json.dumps(reply).encode(), content_type="application/json")
    body = reply.get("body", "")
    data = base64.b64decode(body) if reply.get("isBase64Encoded") else str(body).encode()
    return web.Response(status=int(reply["statusCode"]), headers=reply.get("headers", {}), body=data)


def listen(host: str, port: int) -> socket.socket:
    """Take an address; raises ``OSError`` where that is not possible."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def run(front: HttpServer, listener: socket.socket, patience_s: float) -> None:
    """Serve until interrupted; requests under way then have ``patience_s`` to come to their end."""
    web.run_app(
        front.application(),
        sock=listener,
        print=lambda *_: None,
        access_log=None,
        shutdown_timeout=patience_s,
        logger=server_log("metric_forwarder.http"),
        max_line_size=_LONGEST_LINE,
        # A compressed body is the function's to inflate, within its own bounds.
        auto_decompress=False,
    )
