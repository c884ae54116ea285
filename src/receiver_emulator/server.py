"""The receiver on HTTP: ``protocol`` has the protocol's paths, ``control`` the receiver's own interface under ``/-/``."""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from receiver_emulator.control import add_control
from receiver_emulator.page import guard
from receiver_emulator.protocol import LARGEST_BODY, add_protocol
from receiver_emulator.receiver import RECEIVER, EmulatedReceiver
from receiver_emulator.server_log import server_log

# aiohttp's default of 8 KB would refuse a GET of 30 points with its own status 400.
_LONGEST_LINE = 4 * 1024 * 1024
_SHUTDOWN_S = 0.2
_TURNS_OF_A_TRANSPORT = 5


@dataclass(frozen=True)
class Listening:
    """A receiver that is accepting connections."""

    port: int
    _runner: web.AppRunner
    _socket: socket.socket

    async def close(self) -> None:
        """Stop listening, and close every connection, also those that are just being accepted."""
        # A connection that asyncio accepts while its server closes would never be closed.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(self._socket)
        await _settle_transports()
        await self._runner.cleanup()
        await _settle_transports()


async def listen(receiver: EmulatedReceiver, port: int) -> Listening:
    """Accept connections on the host of the options; raises ``OSError`` if that is not possible."""
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
    # asyncio needs a few turns of its loop to accept or close a connection, and aiohttp waits for none of them. If the loop
    # ended earlier, sockets would be left to the garbage collector.
    for _ in range(_TURNS_OF_A_TRANSPORT):
        await asyncio.sleep(0)


def _application(receiver: EmulatedReceiver) -> web.Application:
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[guard(receiver.options.host)])
    app[RECEIVER] = receiver
    add_control(app)
    add_protocol(app)
    return app
