"""A gateway before a real server: what passes it meets the faults of ``receiver_emulator.faults``.

Whatever protocol the requests are of, they are only counted and passed on. So there are no return codes and no
``match``, and two kinds differ from the receiver's: ``garbage`` is in the place of an HTTP answer, since to many
protocols any answer with status 200 is a success; ``truncate`` gives half of the server's answer, its body or not, or
(``before``) half of a first line, since a gateway that makes up a success is not to be found out.
"""

import contextlib
import os
import random
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from receiver_emulator.faults import Fault, FaultKind, FaultPlan, parse_fault

_HALF_OF_A_LINE = b"HTTP/1.1 2"


class FaultyGateway:
    """Passes requests on to one server, from a free port of this machine; a context manager.

    Args:
        url: of the server; with another host and port it leads through the gateway.
        seed: of the faults' draws.
    """

    def __init__(self, url: str, *, seed: int) -> None:
        parts = urlsplit(url)
        self._gate = _Gate((parts.hostname or "", parts.port or 80), FaultPlan(random.Random(seed)))
        self.url = parts._replace(netloc=f"127.0.0.1:{self._gate.server_address[1]}").geturl()
        self._thread = threading.Thread(target=self._gate.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "FaultyGateway":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.shutdown()
        self._gate.server_close()
        self._thread.join()

    def fault(self, kind: FaultKind, value: object = None, **members: Any) -> None:
        """Add a fault to the plan, as ``Emulator.fault`` does; raises ``FaultError``."""
        assert kind != "code", "return codes are the receiver's"
        self._gate.plan.add(parse_fault({"fault": kind, "value": value, **members}))

    def clear_faults(self) -> None:
        """Forget the faults still to come."""
        self._gate.plan.clear()


class _Gate(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: tuple[str, int], plan: FaultPlan) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.server = server
        self.plan = plan

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is no news."""


class _Connection(socketserver.StreamRequestHandler):
    """One client's connection, and the server's that belongs to it."""

    server: _Gate
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with socket.create_connection(self.server.server) as self._onward:
            self._onward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._onward.makefile("rb") as self._answers:
                while (request := read_message(self.rfile)) and self._serve(request):
                    pass

    def finish(self) -> None:
        # What could not be written the client does not want any more.
        with contextlib.suppress(OSError):
            super().finish()

    def give(self, answer: bytes) -> None:
        self.wfile.write(answer)

    def _serve(self, request: bytes) -> bool:
        """Whether the connection goes on."""
        fault = self.server.plan.take()
        answer = self._pass_on(request) if fault is None or fault.when == "after" else b""
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds or 0.0)
            # Passed on even if its client has gone, as a slow server would take it.
            answer = answer or self._pass_on(request)
        if fault is None or fault.kind == "delay":
            self.give(answer)
            return True
        _ACTS[fault.kind](self, fault, answer)
        return fault.kind == "status"

    def _pass_on(self, request: bytes) -> bytes:
        self._onward.sendall(request)
        return read_message(self._answers)


def read_message(stream: BufferedIOBase) -> bytes:
    """One HTTP request or answer as it is; empty at the end of the connection. Bodies have a ``Content-Length``."""
    lines = []
    size = 0
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines) + stream.read(size)
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    return b""


def _status(connection: _Connection, fault: Fault, _: bytes) -> None:
    given = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
    body = "" if fault.status in (204, 304) else "Content-Length: 0\r\n"
    connection.give(f"HTTP/1.1 {fault.status} Told\r\n{body}{given}\r\n".encode())


def _reset(connection: _Connection, _: Fault, __: bytes) -> None:
    # Lingering for no time at all makes the kernel send RST instead of FIN, if nobody shuts it down first.
    connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.connection.detach())


def _hang(_: _Connection, fault: Fault, __: bytes) -> None:
    time.sleep(fault.seconds or 0.0)


def _garbage(connection: _Connection, fault: Fault, _: bytes) -> None:
    connection.give(fault.content)


def _truncate(connection: _Connection, _: Fault, answer: bytes) -> None:
    connection.give(answer[: len(answer) // 2] or _HALF_OF_A_LINE)


# Beside ``delay``, which gives the true answer.
_ACTS: Mapping[FaultKind, Callable[[_Connection, Fault, bytes], None]] = {
    "status": _status,
    "reset": _reset,
    "hang": _hang,
    "garbage": _garbage,
    "truncate": _truncate,
}
