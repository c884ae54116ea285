"""A TCP server for tests that ends with all its threads."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Call ``serve`` with each connection, in a thread for each: the server's host and port.

    An ``OSError`` ends a thread in silence: it is what ``serve`` meets when its connection ends.
    """
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def run(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection.dup())  # TLS takes the socket over, and this one still ends it
                threads.append(threading.Thread(target=run, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with suppress(OSError), connection:
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def receive_some(connection: socket.socket, at_most: int = 65_536) -> bytes:
    """What there is. An ended connection raises: a server that goes on reading from it would never end."""
    received = connection.recv(at_most)
    if not received:
        raise ConnectionError("the client has gone")
    return received
