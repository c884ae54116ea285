"""An HTTP server on this machine that answers every request as a function says."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple

from support.remote_write_decoder import decode


class Reply(NamedTuple):
    """What a request is answered with."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"


Answering = Callable[[str, bytes], Reply]


def remote_write(path: str, body: bytes) -> Reply:
    """Answer as an endpoint of remote write does, and store nothing."""
    del path
    try:
        decode(body)
    except Exception:  # noqa: BLE001 - whatever cannot be read
        return Reply(400, b"snappy: corrupt input\n")
    return Reply(204)


class AnsweringServer:
    """The server, as long as it is needed.

    Args:
        answer: makes the reply to a request of a path and a body.
        clock_offset_s: how far its ``Date`` is ahead of the time.

    Attributes:
        bodies: of the requests, in their order.
    """

    def __init__(self, answer: Answering, *, clock_offset_s: float = 0.0) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.bodies.append(body)
                reply = answer(self.path, body)
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                now = time.time() if timestamp is None else timestamp
                return super().date_time_string(now + clock_offset_s)

            def log_message(self, *arguments: object) -> None:
                """Keep the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "AnsweringServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
