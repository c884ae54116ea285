"""A TCP proxy: connections can be cut at a chosen moment, and lead elsewhere afterwards."""

import contextlib
import socket
import threading
from types import TracebackType


class Proxy:
    """Forwards to a port of this machine.

    Attributes:
        target: the port that new connections lead to.
        cut_next: whether the next request is swallowed and its connection closed.
        cut_answer: whether the next answer is.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.cut_next = False
        self.cut_answer = False
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":  # noqa: PYI034 -- typing.Self came after Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if requests and self.cut_next:
                    self.cut_next = False
                    break
                if not requests and self.cut_answer:
                    self.cut_answer = False
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
