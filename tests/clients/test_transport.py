"""What the transport makes of a receiver that answers, breaks off, hangs, or is not there."""

import contextlib
import gc
import logging
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import (
    IDLE_S,
    Failure,
    Fault,
    HttpReply,
    HttpRequest,
    HttpTransport,
    Streamed,
)
from metric_forwarder.clock import Deadline, SystemClock
from receiver_emulator import Emulator
from support.fakes import FakeClock
from support.harness import ROOT, environ, outcomes, point, remote_write_environ, report_of
from support.patience import ends_within
from support.tcp_server import listening, receive_some

HEADERS = {"Content-Type": "application/json", "User-Agent": "test", "Accept-Encoding": "identity"}


def post(transport: HttpTransport, url: str, timeout_s: float = 5) -> HttpReply | Failure:
    return transport.send(HttpRequest("POST", url, HEADERS, b"{}"), timeout_s)


def receive_request(connection: socket.socket, end: bytes = b"\r\n\r\n{}") -> None:
    """All of a request, which comes in pieces; that of ``post`` unless told otherwise."""
    received = b""
    while not received.endswith(end):
        received += receive_some(connection)


def fault(answer: HttpReply | Failure) -> Fault:
    assert isinstance(answer, Failure)
    return answer.fault


def test_an_answer_comes_whole_with_headers_in_any_case(emulator: Emulator) -> None:
    answer = post(HttpTransport(), emulator.url)
    assert isinstance(answer, HttpReply)
    assert answer.status == 200
    assert answer.body.startswith(b'{"code":')
    assert parsedate_to_datetime(answer.headers["date"])


def test_a_get_arrives_with_its_query_as_it_was_encoded(emulator: Emulator) -> None:
    HttpTransport().send(HttpRequest("GET", f"{emulator.url}?Data=%5B%22%C3%A4+b%22%5D", {}, None), 5)
    (record,) = emulator.requests()
    assert (record["method"], record["path"], record["bytes"]) == ("GET", "/v2/index.php", 25)


def test_connections_are_kept_alive(emulator: Emulator) -> None:
    transport = HttpTransport()
    for _ in range(3):
        post(transport, emulator.url)
    assert len({record["connection"] for record in emulator.requests()}) == 1


def test_another_place_is_reached_by_the_same_transport(emulator: Emulator) -> None:
    transport = HttpTransport()
    with Emulator() as other:
        for url in (emulator.url, other.url, emulator.url):
            assert isinstance(post(transport, url), HttpReply)
        assert len(other.requests()) == 1


def test_a_redirect_is_an_answer_and_not_followed(emulator: Emulator) -> None:
    emulator.fault("status", 302)
    answer = post(HttpTransport(), emulator.url)
    assert isinstance(answer, HttpReply)
    assert answer.status == 302
    assert len(emulator.requests()) == 1


def test_no_server_means_that_the_request_never_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = post(HttpTransport(), f"http://127.0.0.1:{port}/v2/index.php")
    assert answer == Failure(Fault.UNREACHABLE, "ConnectionRefusedError")


def test_a_name_that_is_not_known_means_that_the_request_never_left() -> None:
    assert fault(post(HttpTransport(), "http://receiver.invalid/v2/index.php")) is Fault.UNREACHABLE


def test_a_server_without_the_right_certificate_gets_no_request(emulator: Emulator) -> None:
    answer = post(HttpTransport(), emulator.url.replace("http://", "https://"))
    assert fault(answer) is Fault.UNREACHABLE
    assert emulator.requests() == []


@pytest.mark.parametrize("kind", ["reset", "hang"])
def test_a_first_request_without_an_answer_is_unanswered(emulator: Emulator, kind: Any) -> None:
    emulator.fault(kind, 0.05 if kind == "hang" else None)
    assert fault(post(HttpTransport(), emulator.url)) is Fault.UNANSWERED


def test_a_kept_connection_that_is_reset_before_an_answer_is_stale(emulator: Emulator) -> None:
    transport = HttpTransport()
    post(transport, emulator.url)
    emulator.fault("reset")
    assert fault(post(transport, emulator.url)) is Fault.STALE


def test_half_an_answer_is_handed_over_as_it_is(emulator: Emulator) -> None:
    emulator.fault("truncate")
    answer = post(HttpTransport(), emulator.url)
    assert isinstance(answer, HttpReply)
    assert 0 < len(answer.body) < int(answer.headers["Content-Length"])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["reset", "silence"])
def test_an_answer_that_breaks_off_is_never_taken_for_a_stale_connection(ending: str) -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                receive_request(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                receive_request(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{")
                # Long enough for a busy machine to read what there is before the reset discards it.
                over.wait(1 if ending == "reset" else 5)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        serving = threading.Thread(target=serve)
        serving.start()
        transport = HttpTransport()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert isinstance(post(transport, url), HttpReply)
        answer = post(transport, url, 3 if ending == "reset" else 0.5)
        over.set()
        serving.join()
    assert fault(answer) is Fault.UNANSWERED


def test_an_answer_that_is_too_late_is_unanswered(emulator: Emulator) -> None:
    emulator.fault("hang", 5)
    assert post(HttpTransport(), emulator.url, 0.1) == Failure(Fault.UNANSWERED, "no answer in time")


def test_after_a_failure_the_next_request_gets_a_connection_of_its_own(emulator: Emulator) -> None:
    transport = HttpTransport()
    post(transport, emulator.url)
    emulator.fault("reset")
    post(transport, emulator.url)
    assert isinstance(post(transport, emulator.url), HttpReply)


# --- servers that misbehave ---------------------------------------------------------------------------------


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":0}'
DRIPS = {
    "the head": (b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n"),
    "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
}


def dripping(first: bytes, drip: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        receive_request(connection)
        connection.sendall(first)
        with contextlib.suppress(OSError):
            for _ in range(3000):
                connection.sendall(drip)
                time.sleep(0.02)

    return serve


@pytest.mark.slow
@pytest.mark.parametrize(("first", "drip"), DRIPS.values(), ids=DRIPS)
def test_an_answer_that_comes_drop_by_drop_is_given_up_when_its_time_is_over(
    first: bytes, drip: bytes
) -> None:
    with listening(dripping(first, drip)) as place, ends_within(0.3):
        answer = post(HttpTransport(), f"http://{place}/", 0.3)
    assert fault(answer) is Fault.UNANSWERED


@pytest.mark.slow
def test_a_late_byte_does_not_restart_the_timeout() -> None:
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        receive_request(connection)
        time.sleep(0.9)
        connection.sendall(b"H")
        over.wait(60)

    def took_s(place: str) -> float:
        started = time.monotonic()
        assert fault(post(HttpTransport(), f"http://{place}/", 1)) is Fault.UNANSWERED
        return time.monotonic() - started

    with listening(serve) as place:
        # If the byte restarted the timeout, it would be 1.9 s each time. A busy machine only ever adds to it.
        assert any(took_s(place) < 1.6 for _ in range(30))
        over.set()


@pytest.mark.slow
def test_a_streamed_answer_that_comes_drop_by_drop_ends_in_time_and_leaves_no_thread() -> None:
    with listening(dripping(*DRIPS["the body"])) as place:
        until = time.monotonic() + 0.3
        request = HttpRequest("POST", f"http://{place}/", HEADERS, b"{}")
        before = set(threading.enumerate())
        streamed = HttpTransport().stream(request, Deadline(SystemClock(), until))
        assert isinstance(streamed, Streamed)
        *_, last = streamed.chunks
        assert isinstance(last, Failure)
        # Not told to stop: the thread that reads comes to its end all the same.
        for thread in set(threading.enumerate()) - before:
            if thread.name == "download":
                thread.join(30)
                assert not thread.is_alive()


def test_an_answer_that_comes_slowly_but_in_time_is_an_answer() -> None:
    def serve(connection: socket.socket) -> None:
        receive_request(connection)
        for byte in ANSWER:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)

    with listening(serve) as place:
        answer = post(HttpTransport(), f"http://{place}/")
    assert isinstance(answer, HttpReply)
    assert answer.body == b'{"code":0}'


def test_an_interim_answer_is_not_taken_for_the_answer() -> None:
    def serve(connection: socket.socket) -> None:
        for number in range(2):
            receive_request(connection)
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            time.sleep(0.05)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

    with listening(serve) as place:
        transport = HttpTransport()
        answers = [post(transport, f"http://{place}/") for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers if isinstance(answer, HttpReply)] == [
        (200, b"0"),
        (200, b"1"),
    ]


def test_a_connection_that_was_switched_to_another_protocol_is_not_used_again() -> None:
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        receive_request(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        receive_request(connection)

    with listening(serve) as place:
        transport = HttpTransport()
        answers = [post(transport, f"http://{place}/") for _ in range(2)]
    assert [answer.status for answer in answers if isinstance(answer, HttpReply)] == [101, 101]
    assert len(connections) == 2


@pytest.mark.parametrize("size", [b"-1", b"-5", b"-7fffffffffffffff"])
def test_a_chunk_of_a_negative_size_is_not_everything_that_comes(size: bytes) -> None:
    given = 0

    def serve(connection: socket.socket) -> None:
        nonlocal given
        receive_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % size)
        for _ in range(1000):
            given += connection.send(b" " * 65_536)

    request = HttpRequest("POST", "", HEADERS, b"{}")
    with listening(serve) as place:
        url = f"http://{place}/"
        assert fault(post(HttpTransport(), url)) is Fault.UNANSWERED
        streamed = HttpTransport().stream(
            request._replace(url=url), Deadline(SystemClock(), time.monotonic() + 30)
        )
        assert isinstance(streamed, Streamed)
        *_, last = streamed.chunks
        assert isinstance(last, Failure)
    assert given < 30_000_000


def test_without_a_thread_a_stream_is_a_failure_that_says_so(
    emulator: Emulator, starve: Callable[[], None]
) -> None:
    starve()
    request = HttpRequest("POST", emulator.url, HEADERS, b"{}")
    failure = HttpTransport().stream(request, Deadline(SystemClock(), time.monotonic() + 30))
    assert fault(failure) is Fault.UNREACHABLE  # type: ignore[arg-type]  # which fails for a stream
    assert "no thread" in str(failure)


# A certificate of 127.0.0.1 that signs itself, with its key; good for a hundred years.
CERTIFICATE = str(ROOT / "tests" / "support" / "tls_server.pem")


def encrypted(serve: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def run(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            serve(wrapped)

    return run


def answer_all(connection: socket.socket) -> None:
    while True:
        receive_request(connection)
        connection.sendall(ANSWER)


def test_over_tls_answers_come_and_connections_are_kept_too() -> None:
    asked = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection)
        answer_all(connection)

    with listening(encrypted(serve)) as place:
        transport = HttpTransport(CERTIFICATE)
        for _ in range(2):
            answer = post(transport, f"https://{place}/")
            assert isinstance(answer, HttpReply)
            assert answer.body == b'{"code":0}'
    assert len(asked) == 1


def test_a_private_authority_is_trusted_by_the_destination_and_headers_and_query_arrive() -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while True:
            received = b""
            while b"\r\n\r\n" not in received:
                received += receive_some(connection)
            head, _, body = received.partition(b"\r\n\r\n")
            seen.append(head + b"\r\n")
            left = int(re.findall(rb"Content-Length: (\d+)", head)[0]) - len(body)
            while left > 0:
                left -= len(receive_some(connection, left))
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with listening(encrypted(serve)) as place:
        application = Application(
            remote_write_environ(
                REMOTE_WRITE_URL=f"https://{place}/write?tenant=a",
                REMOTE_WRITE_HEADERS="X-Scope-OrgID=team-a",
                CA_FILE=CERTIFICATE,
                MAX_ATTEMPTS="1",
            )
        )
        report_of(application, point())
    assert seen
    assert seen[-1].startswith(b"POST /write?tenant=a HTTP/1.1\r\n")
    assert b"\r\nX-Scope-OrgID: team-a\r\n" in seen[-1]


def test_only_the_certificates_that_come_along_are_trusted_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, CERTIFICATE)
    with listening(encrypted(answer_all)) as place:
        answer = post(HttpTransport(), f"https://{place}/")
    assert answer == Failure(Fault.UNREACHABLE, "its certificate is self-signed", is_tls=True)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["gone", "changed"])
def test_without_its_file_of_certificates_no_request_leaves(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content:
        ca_file.write_text(content)
    with listening(encrypted(answer_all)) as place:
        failure = post(HttpTransport(str(ca_file)), f"https://{place}/")
    assert fault(failure) is Fault.UNREACHABLE


def test_an_untrusted_certificate_is_reported_with_the_setting_that_trusts_it() -> None:
    with listening(encrypted(answer_all)) as place:
        settings = remote_write_environ(REMOTE_WRITE_URL=f"https://{place}/write", MAX_ATTEMPTS="1")
        report = report_of(Application(settings), point())
    (error,) = report["errors"]
    assert "its certificate is self-signed" in error["message"]
    assert "MF_CA_FILE" in error["message"]
    assert "VPC" not in error["message"]


@pytest.mark.slow
def test_over_tls_an_answer_that_drips_is_given_up_too() -> None:
    with listening(encrypted(dripping(*DRIPS["the head"]))) as place, ends_within(0.5):
        answer = post(HttpTransport(CERTIFICATE), f"https://{place}/", 0.5)
    assert fault(answer) is Fault.UNANSWERED


def hang_up(connection: socket.socket) -> None:
    # Before the client has said a word, Python itself forgets to close its end.
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "handshake",
    [lambda _: time.sleep(2), hang_up, lambda connection: connection.sendall(ANSWER)],
    ids=["silence", "a reset", "another protocol"],
)  # fmt: skip
def test_without_a_tls_handshake_the_request_never_left(handshake: Callable[[socket.socket], None]) -> None:
    with listening(handshake) as place:
        answer = post(HttpTransport(), f"https://{place}/", 0.3)
    assert fault(answer) is Fault.UNREACHABLE


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.test", "[::1", "h:port"])
def test_a_request_to_an_invalid_host_was_not_sent(host: str) -> None:
    assert fault(post(HttpTransport(), f"http://{host}/v2/index.php")) is Fault.UNREACHABLE


def test_a_connection_that_has_been_idle_for_long_is_not_used_again(emulator: Emulator) -> None:
    clock = FakeClock()
    transport = HttpTransport(monotonic=clock.monotonic)
    for pause in (0.0, IDLE_S - 1, IDLE_S - 1, IDLE_S, 0.0):
        clock.sleep(pause)
        assert isinstance(post(transport, emulator.url), HttpReply)
    used = [record["connection"] for record in emulator.requests()]
    assert used == [used[0]] * 3 + [used[3]] * 2
    assert used[0] != used[3]


def test_connections_that_a_network_forgot_while_the_instance_was_frozen_cost_no_time() -> None:
    clock = FakeClock()
    thawed, over = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        is_old = not thawed.is_set()
        while True:
            receive_request(connection)
            if is_old and thawed.is_set():
                over.wait()
            connection.sendall(ANSWER)

    with listening(serve) as place:
        transport = HttpTransport(monotonic=clock.monotonic)
        assert isinstance(post(transport, f"http://{place}/"), HttpReply)
        thawed.set()
        clock.sleep(3600)
        answer = post(transport, f"http://{place}/", 20)
        over.set()
    assert isinstance(answer, HttpReply)


# --- what other packages log --------------------------------------------------------------------------------


class _Everything(logging.Handler):
    """What is logged, as text, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.name}: {logging.Formatter().format(record)}\n"


@pytest.fixture
def logged() -> Iterator[_Everything]:
    """Everything that reaches the root, or a logger inside ``urllib3``, with all of them at DEBUG."""
    handler = _Everything()
    names = ("", "urllib3", "urllib3.connection", "urllib3.connectionpool", "requests")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    logging.getLogger("urllib3.connection").addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    logging.getLogger("urllib3.connection").removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_no_logger_prints_what_a_get_carries_not_even_of_a_malformed_answer(
    logged: _Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    def serve(connection: socket.socket) -> None:
        receive_request(connection, b"\r\n\r\n")
        connection.sendall(ANSWER.replace(b"\r\n", b"\r\nX-Fine: 1\r\n: malformed\r\n", 1))
        connection.close()

    with listening(serve) as place:
        url = f"http://{place}/v2/index.php"
        application = Application(environ(RECEIVER_URL=url, RECEIVER_METHOD="GET", LOG_LEVEL="DEBUG"))
        logging.getLogger("probe").debug("is seen")
        assert outcomes(report_of(application, point(42))) == {"delivered": 1}
        # As of a module that is imported later.
        logging.getLogger("urllib3.later").warning("Signature=")
    assert "probe: is seen" in logged.text
    written = logged.text + "".join(capfd.readouterr())
    assert [text for text in ("Signature", "Data=", "diskusage", "malformed") if text in written] == []


FAILING = ("refused", "unknown name", "no TLS", "reset", "stale", "silent", "cut off", "no HTTP")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILING)
def test_a_failed_request_keeps_nothing_of_its_body_until_the_collector_runs(kind: str) -> None:
    """Seen with the collector off: what is still held is held by a circle of frames and errors."""
    body = bytes(100_000)
    transport = HttpTransport()
    with failing_server(kind) as url:
        gc.collect()
        gc.disable()
        try:
            if kind == "stale":
                assert isinstance(post(transport, url), HttpReply)
            before = sys.getrefcount(body)
            for _ in range(1 if kind == "stale" else 3):
                answer = transport.send(HttpRequest("POST", url, HEADERS, body), 0.2)
                assert isinstance(answer, Failure)
            del answer
            held = sys.getrefcount(body) - before
        finally:
            gc.enable()
    assert held == 0


@contextmanager
def failing_server(kind: str) -> Iterator[str]:
    """A place where requests fail in one way."""
    if kind == "unknown name":
        yield "http://receiver.invalid/"
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if kind == "refused":
            listener.close()
            yield f"http://127.0.0.1:{port}/"
            return
        over = threading.Event()
        thread = threading.Thread(target=_fail, args=(listener, kind, over), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if kind == 'no TLS' else ''}://127.0.0.1:{port}/"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)  # it waits for the next connection
            thread.join()


def _fail(listener: socket.socket, kind: str, over: threading.Event) -> None:
    while not over.is_set():
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if kind == "stale":
                    receive_request(connection)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                connection.recv(65_536)
                if kind == "cut off":
                    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz")
                if kind in ("no HTTP", "no TLS"):
                    connection.sendall(b"hello\r\n\r\n")
                if kind == "silent":
                    over.wait(0.5)


IN_SHANGHAI = """
from metric_forwarder.clients.http import HttpReply, retry_after_s, server_time
for date in ("Sun, 06 Nov 1994 08:49:37 -0000", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"):
    date = date.replace("1994", "2026")
    print(server_time(HttpReply(200, {"Date": date}, b"")), retry_after_s(HttpReply(503, {"Retry-After": date}, b""), now=0.0))
"""


def test_a_date_without_a_zone_is_that_of_greenwich_wherever_the_function_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_SHANGHAI],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "TZ": "Asia/Shanghai"},
    )
    assert done.stdout == "1793954977.0 1793954977.0\n" * 3
