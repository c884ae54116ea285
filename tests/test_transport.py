"""What the transport makes of a receiver that answers, breaks off, hangs, or is not there."""

import socket
import struct
import threading
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from metric_forwarder.core.transport import Failure, Fault, HttpReply, HttpRequest, RequestsTransport
from receiver_emulator import Emulator

HEADERS = {"Content-Type": "application/json", "User-Agent": "test", "Accept-Encoding": "identity"}


def post(transport: RequestsTransport, url: str, timeout_s: float = 5) -> HttpReply | Failure:
    return transport.send(HttpRequest("POST", url, HEADERS, b"{}"), timeout_s)


def receive_request(connection: socket.socket) -> None:
    """All of what ``post`` sends, which comes in pieces."""
    received = b""
    while not received.endswith(b"\r\n\r\n{}"):
        received += connection.recv(65_536)


def fault(answer: HttpReply | Failure) -> Fault:
    assert isinstance(answer, Failure)
    return answer.fault


def test_an_answer_comes_whole_with_headers_in_any_case(emulator: Emulator) -> None:
    answer = post(RequestsTransport(1), emulator.url)
    assert isinstance(answer, HttpReply)
    assert answer.status == 200
    assert answer.body.startswith(b'{"code":')
    assert parsedate_to_datetime(answer.headers["date"])


def test_a_get_arrives_with_its_query_as_it_was_encoded(emulator: Emulator) -> None:
    RequestsTransport(1).send(HttpRequest("GET", f"{emulator.url}?Data=%5B%22%C3%A4+b%22%5D", {}, None), 5)
    (record,) = emulator.requests()
    assert (record["method"], record["path"], record["bytes"]) == ("GET", "/v2/index.php", 25)


def test_connections_are_kept_alive(emulator: Emulator) -> None:
    transport = RequestsTransport(1)
    for _ in range(3):
        post(transport, emulator.url)
    assert len({record["connection"] for record in emulator.requests()}) == 1


def test_another_place_is_reached_by_the_same_transport(emulator: Emulator) -> None:
    transport = RequestsTransport(1)
    with Emulator() as other:
        for url in (emulator.url, other.url, emulator.url):
            assert isinstance(post(transport, url), HttpReply)
        assert len(other.requests()) == 1


def test_a_redirect_is_an_answer_and_not_followed(emulator: Emulator) -> None:
    emulator.fault("status", 302)
    answer = post(RequestsTransport(1), emulator.url)
    assert isinstance(answer, HttpReply)
    assert answer.status == 302
    assert len(emulator.requests()) == 1


def test_no_server_means_that_the_request_never_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = post(RequestsTransport(1), f"http://127.0.0.1:{port}/v2/index.php")
    assert answer == Failure(Fault.UNREACHABLE, "ConnectionRefusedError")


def test_a_name_that_is_not_known_means_that_the_request_never_left() -> None:
    assert fault(post(RequestsTransport(1), "http://receiver.invalid/v2/index.php")) is Fault.UNREACHABLE


def test_a_server_without_the_right_certificate_gets_no_request(emulator: Emulator) -> None:
    answer = post(RequestsTransport(1), emulator.url.replace("http://", "https://"))
    assert fault(answer) is Fault.UNREACHABLE
    assert emulator.requests() == []


@pytest.mark.parametrize("kind", ["reset", "hang"])
def test_a_first_request_without_an_answer_is_unanswered(emulator: Emulator, kind: Any) -> None:
    emulator.fault(kind, 0.05 if kind == "hang" else None)
    assert fault(post(RequestsTransport(1), emulator.url)) is Fault.UNANSWERED


def test_a_kept_connection_that_is_reset_before_an_answer_is_stale(emulator: Emulator) -> None:
    transport = RequestsTransport(1)
    post(transport, emulator.url)
    emulator.fault("reset")
    assert fault(post(transport, emulator.url)) is Fault.STALE


def test_half_an_answer_is_handed_over_as_it_is(emulator: Emulator) -> None:
    emulator.fault("truncate")
    answer = post(RequestsTransport(1), emulator.url)
    assert isinstance(answer, HttpReply)
    assert 0 < len(answer.body) < int(answer.headers["Content-Length"])


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
        transport = RequestsTransport(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert isinstance(post(transport, url), HttpReply)
        answer = post(transport, url, 3 if ending == "reset" else 0.5)
        over.set()
        serving.join()
    assert fault(answer) is Fault.UNANSWERED


def test_an_answer_that_is_too_late_is_unanswered(emulator: Emulator) -> None:
    emulator.fault("hang", 5)
    assert post(RequestsTransport(1), emulator.url, 0.1) == Failure(Fault.UNANSWERED, "no answer in time")


def test_after_a_failure_the_next_request_gets_a_connection_of_its_own(emulator: Emulator) -> None:
    transport = RequestsTransport(1)
    post(transport, emulator.url)
    emulator.fault("reset")
    post(transport, emulator.url)
    assert isinstance(post(transport, emulator.url), HttpReply)
