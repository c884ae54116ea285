"""Prometheus targets on real sockets: some expose metrics, some do what targets should not."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NODE = """\
# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.21
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 362812.78
node_cpu_seconds_total{cpu="1",mode="idle"} 1.5e5
# TYPE http_request_seconds histogram
http_request_seconds_bucket{le="0.1"} 7
http_request_seconds_bucket{le="+Inf"} 9
http_request_seconds_sum 1.25
http_request_seconds_count 9
"""


class Targets(ThreadingHTTPServer):
    """One server, a target for each path; ``asked`` are the paths in the order of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.text = NODE
        self.asked: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.stopping = threading.Event()
        self.together = threading.Barrier(4)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def url(self, path: str = "/metrics") -> str:
        return f"http://{self.host}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Targets

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers_seen.append(dict(self.headers))
        _PATHS.get(self.path.partition("?")[0], _missing)(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Tests print nothing."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Type": "text/plain; version=0.0.4", "Content_Length": str(len(body)), **headers}.items():  # fmt: skip
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def _metrics(handler: _Handler) -> None:
    handler.answer(handler.server.text.encode())


def _fine(handler: _Handler) -> None:
    handler.answer(b"n 1\n")


def _probe(handler: _Handler) -> None:
    values = {"a": 1, "b": 2}
    target = handler.path.partition("target=")[2].partition("&")[0]
    handler.answer(f"probe_success {values[target]}\n".encode())


def _missing(handler: _Handler) -> None:
    handler.answer(b"not here", 404)


def _hang(handler: _Handler) -> None:
    handler.server.stopping.wait(60)


def _redirect(handler: _Handler) -> None:
    handler.answer(b"", 302, Location="/metrics")


def _dribble(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.stopping.wait(0.05):
        handler.wfile.write(b"#")
        handler.wfile.flush()


def _endless(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1600):
        handler.wfile.write(b"# a comment of no use\n" * 3000)


def _unframed(handler: _Handler) -> None:
    """Without a length, as HTTP/1.0 allows: the end of the connection ends the text."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(handler.server.text.encode())


def _announced(handler: _Handler) -> None:
    handler.answer(b"", Content_Length=str(100 * 2**20))


def _numeral(handler: _Handler) -> None:
    handler.answer(NODE.encode(), Content_Length="²")


def _cut(handler: _Handler) -> None:
    handler.answer(NODE.encode(), Content_Length=str(len(NODE) + 100))


def _garbage(handler: _Handler) -> None:
    handler.answer(bytes(range(256)) * 10)


def _page(handler: _Handler) -> None:
    handler.answer(b"<html><body>node_load1 0.2</body></html>\n", Content_Type="text/html")


def _broken(handler: _Handler) -> None:
    handler.answer(b'node_load1 0.2\nnode_load1{a="b} 1\n')


def _quoted(handler: _Handler) -> None:
    handler.answer(b'{"' + b"a" * 4_000_000 + b'"} 1\n')


def _crowded(handler: _Handler) -> None:
    labels = ",".join(f'l{number}="x"' for number in range(5000))
    handler.answer(f"node_load1{{{labels}}} 1\n".encode() * 65)


def _packed(handler: _Handler) -> None:
    handler.answer(gzip.compress(NODE.encode()), Content_Encoding="gzip")


def _unpacked(handler: _Handler) -> None:
    handler.answer(NODE.encode(), Content_Encoding="")


def _open_metrics(handler: _Handler) -> None:
    handler.answer(
        b"node_load1 1 1700000000\n# EOF\n", Content_Type="application/openmetrics-text; version=1.0.0"
    )


def _together(handler: _Handler) -> None:
    handler.server.together.wait(30)
    _metrics(handler)


_PATHS: dict[str, Callable[[_Handler], None]] = {
    "/metrics": _metrics,
    "/fine": _fine,
    "/probe": _probe,
    "/hang": _hang,
    "/redirect": _redirect,
    "/dribble": _dribble,
    "/endless": _endless,
    "/unframed": _unframed,
    "/announced": _announced,
    "/numeral": _numeral,
    "/cut": _cut,
    "/garbage": _garbage,
    "/page": _page,
    "/broken": _broken,
    "/quoted": _quoted,
    "/crowded": _crowded,
    "/packed": _packed,
    "/unpacked": _unpacked,
    "/openmetrics": _open_metrics,
    "/together": _together,
}


@contextmanager
def serving_targets() -> Iterator[Targets]:
    """Targets that answer until the end of the block."""
    with Targets() as targets:
        thread = threading.Thread(target=targets.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield targets
        finally:
            targets.stopping.set()
            targets.shutdown()
            thread.join()
