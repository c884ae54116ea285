"""The simplest receiver: it reads a request and replies with success. It prints its port as soon as it listens.

``python -m benchmarks.receiver 0.02`` waits 20 ms before each reply.
"""

import socket
import sys
import threading
import time
from email.utils import formatdate

_BODY = b'{"code":0,"message":"OK"}'


def main() -> None:
    delay_s = float(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, delay_s), daemon=True).start()


def _serve(connection: socket.socket, delay_s: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        received = b""
        while True:
            end = received.find(b"\r\n\r\n")
            while end < 0:
                chunk = connection.recv(262_144)
                if not chunk:
                    return
                received += chunk
                end = received.find(b"\r\n\r\n")
            length = _content_length(received[:end])
            missing = end + 4 + length - len(received)
            while missing > 0:
                missing -= len(connection.recv(262_144))
            received = b""
            if delay_s:
                time.sleep(delay_s)
            # A body of one byte is the proof that the forwarder asks of a remote-write endpoint, which must refuse it.
            connection.sendall(_REFUSAL if length == 1 else _success())


_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _success() -> bytes:
    """Make a reply with the headers that a web server sends, since reading them is part of the cost."""
    head = (
        "HTTP/1.1 200 OK\r\nServer: nginx\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(_BODY)}\r\nConnection: keep-alive\r\n\r\n"
    )
    return head.encode("ascii") + _BODY


if __name__ == "__main__":
    main()
