"""The emulated receiver, seen from the client's side of real sockets."""

import asyncio
import base64
import gzip
import hashlib
import hmac
import http.client
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator, EmulatorOptions, FaultError
from receiver_emulator.faults import FAULT_KINDS, MEMBERS
from receiver_emulator.receiver import build_plan, build_receiver
from receiver_emulator.store import Store
from support.patience import ends_within

PATH = "/v2/index.php"
POINT = {"dimensions": {"diskname": "sda", "ip": "172.31.58.160"}, "metricName": "diskusage", "value": 0.3}
POISON = {**POINT, "metricName": "poison"}
OK = {"code": 0, "message": "OK"}
_NONCES = itertools.count(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def receiver(shared: Emulator) -> Iterator[Emulator]:
    """The default receiver, empty."""
    shared.clear()
    shared.clear_faults()
    yield shared
    shared.clear_faults()


# --- two clients, each written from the receiver's document alone -------------------------------------------


def post_as_documented(url: str, key: str = EXAMPLE_SECRET_KEY, **changes: Any) -> bytes:
    """The document's POST sample, section 6, in today's Python."""
    data: dict[str, Any] = {"SecretId": EXAMPLE_SECRET_ID, "Namespace": "pc", "Region": "sh", "Data": [POINT]}
    data.update(Timestamp=int(time.time()), Nonce=next(_NONCES))
    data.update({name: value for name, value in changes.items() if name != "Signature"})
    path = url[url.index("/", len("http://")) :]
    text = (
        f"POSTreceiver.monitor.tencentyun.com{path}?Action=PutMonitorData&Nonce={data['Nonce']}"
        f"&Region={data['Region']}&SecretId={data['SecretId']}&Timestamp={data['Timestamp']}"
    )
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()
    data["Signature"] = changes.get("Signature", base64.encodebytes(digest).decode().rstrip("\n"))
    return json.dumps({name: value for name, value in data.items() if value is not None}).encode()


def _fetch(url: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    # The address is the emulator's own, so no other scheme can come in.
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    return urllib.request.urlopen(request, timeout=30)


def send_post(url: str, body: bytes, content_type: str = "application/json") -> Any:
    with _fetch(url, body, content_type) as reply:
        assert reply.status == 200
        return json.loads(reply.read())


def post(emulator: Emulator, key: str = EXAMPLE_SECRET_KEY, **changes: Any) -> Any:
    return send_post(emulator.url, post_as_documented(emulator.url, key, **changes))


def get_as_documented(**changes: Any) -> str:
    """The document's GET sample: every value URL-encoded, Data as JSON text."""
    data: dict[str, Any] = {"SecretId": EXAMPLE_SECRET_ID, "Namespace": "name1", "Region": "sh"}
    data.update(Timestamp=int(time.time()), Nonce=next(_NONCES), Data=json.dumps([POINT]))
    data.update(changes)
    text = (
        f"GETreceiver.monitor.tencentyun.com{PATH}?Action=PutMonitorData&Nonce={data['Nonce']}"
        f"&Region={data['Region']}&SecretId={data['SecretId']}&Timestamp={data['Timestamp']}"
    )
    digest = hmac.new(EXAMPLE_SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
    data["Signature"] = base64.b64encode(digest).decode()
    return f"{PATH}?{urlencode(data)}"


# --- raw access ---------------------------------------------------------------------------------------------


def _port(emulator: Emulator) -> int:
    return int(emulator.base_url.rpartition(":")[2])


def _connect(emulator: Emulator) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", _port(emulator), timeout=30)


def _ask(
    emulator: Emulator, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = _connect(emulator)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        return reply.status, json.loads(content) if content else None
    finally:
        connection.close()


def _raw_request(emulator: Emulator, body: bytes | None = None) -> bytes:
    body = post_as_documented(emulator.url) if body is None else body
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body)


def _open(emulator: Emulator, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", _port(emulator)), timeout=30)
    connection.sendall(sent)
    return connection


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def _eventually(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


# --- acceptance ---------------------------------------------------------------------------------------------


def test_a_post_written_from_the_document_is_accepted_without_and_with_its_action(receiver: Emulator) -> None:
    assert post(receiver) == OK
    assert post(receiver, Action="PutMonitorData") == OK
    assert [point["metricName"] for point in receiver.points()] == ["diskusage", "diskusage"]


@pytest.mark.parametrize("action", [{}, {"Action": "PutMonitorData"}], ids=["without Action", "with Action"])
def test_a_get_written_from_the_document_is_accepted(receiver: Emulator, action: dict[str, str]) -> None:
    assert _ask(receiver, "GET", get_as_documented(**action)) == (200, OK)
    assert receiver.points()[0]["namespace"] == "name1"


def test_a_get_of_thirty_points_is_not_too_long_a_line(receiver: Emulator) -> None:
    assert _ask(receiver, "GET", get_as_documented(Data=json.dumps([POINT] * 100)))[1] == OK
    assert len(receiver.points()) == 100


def test_the_older_path_is_served_and_signed_as_requested(receiver: Emulator) -> None:
    url = f"{receiver.base_url}/report.cgi"
    assert send_post(url, post_as_documented(url)) == OK
    assert send_post(url, post_as_documented(receiver.url))["code"] == 1011


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "no type"])
def test_a_post_is_json_whatever_its_content_type(receiver: Emulator, content_type: str) -> None:
    assert send_post(receiver.url, post_as_documented(receiver.url), content_type) == OK


def test_a_chunked_post_is_read(receiver: Emulator) -> None:
    connection = _connect(receiver)
    connection.request("POST", PATH, iter([post_as_documented(receiver.url)]), encode_chunked=True)
    assert json.loads(connection.getresponse().read()) == OK
    connection.close()


def test_accepted_points_are_kept_as_they_were_sent(receiver: Emulator) -> None:
    odd = {"dimensions": {"port": 8080, "n": "\ud800名"}, "metricName": "m", "value": -5}
    before = time.time()
    assert post(receiver, Data=[POINT, odd]) == OK
    first, second = receiver.points()
    assert first == {"namespace": "pc", **POINT, "receivedAt": first["receivedAt"]}
    assert second == {"namespace": "pc", **odd, "receivedAt": first["receivedAt"]}
    assert before <= first["receivedAt"] <= time.time()
    assert _ask(receiver, "GET", "/-/points")[1] == receiver.points()


def test_the_reply_is_http_200_octet_stream_with_a_date(receiver: Emulator) -> None:
    with _fetch(receiver.url, post_as_documented(receiver.url)) as reply:
        assert reply.headers["Content-Type"] == "application/octet-stream"
        assert abs(parsedate_to_datetime(reply.headers["Date"]).timestamp() - time.time()) < 30
        assert reply.read() == b'{"code":0,"message":"OK"}'


def test_a_connection_is_kept_alive_and_the_records_prove_it(receiver: Emulator) -> None:
    connection = _connect(receiver)
    for _ in range(3):
        connection.request("POST", PATH, post_as_documented(receiver.url))
        assert json.loads(connection.getresponse().read()) == OK
    connection.close()
    assert post(receiver) == OK
    numbers = [record["connection"] for record in receiver.requests()]
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


def test_a_record_says_what_happened_and_holds_no_signature(receiver: Emulator) -> None:
    body = post_as_documented(receiver.url, Nonce=77, Data=[POINT, POINT])
    send_post(receiver.url, body)
    (record,) = receiver.requests()
    sent = json.loads(body)
    assert (record["durationMs"] or -1) > 0
    assert record == {
        "number": record["number"],
        "durationMs": record["durationMs"],
        "receivedAt": record["receivedAt"],
        "method": "POST",
        "path": PATH,
        "bytes": len(body),
        "connection": record["connection"],
        "secretId": EXAMPLE_SECRET_ID,
        "namespace": "pc",
        "points": 2,
        "nonce": 77,
        "timestamp": sent["Timestamp"],
        "fault": None,
        "code": 0,
        "status": 200,
        "stored": True,
    }
    assert _ask(receiver, "GET", "/-/requests")[1] == [record]
    assert sent["Signature"] not in json.dumps(receiver.requests())


# --- rejection: every code that can be provoked from outside, for its documented cause -------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"Namespace": None}, 1009, id="1009 parameter missing"),
        pytest.param({"Data": [{"dimensions": {}, "value": 1}]}, 1009, id="1009 in a point"),
        pytest.param({"Namespace": 5}, 1010, id="1010 wrong type"),
        pytest.param({"Data": [{**POINT, "value": True}]}, 1010, id="1010 in a point"),
        pytest.param({"key": "another key"}, 1011, id="1011 wrong key"),
        pytest.param({"SecretId": "AKIDunknown"}, 1011, id="1011 unknown account"),
        pytest.param({"Signature": ""}, 1011, id="1011 no signature"),
        pytest.param({"Action": "DescribeInstances"}, 1012, id="1012 another action"),
        pytest.param({"Region": "ap-guangzhou"}, 1013, id="1013 unknown region"),
        pytest.param({"Nonce": 0}, 1013, id="1013 nonce not positive"),
        pytest.param({"Namespace": "a-b"}, 1016, id="1016 illegal namespace"),
        pytest.param({"Data": [POINT, {**POINT, "dimensions": {"a-b": "x"}}]}, 1017, id="1017 bad dimension"),
        pytest.param({"Data": []}, 1019, id="1019 no points"),
        pytest.param({"Data": [POINT, {**POINT, "metricName": "a-b"}]}, 1019, id="1019 bad metric"),
        pytest.param({"Timestamp": 1402992826}, 1021, id="1021 long ago"),
        pytest.param({"Timestamp": int(time.time()) * 1000}, 1021, id="1021 milliseconds"),
    ],
)
def test_a_wrong_request_gets_its_code_and_stores_nothing(
    receiver: Emulator, changes: dict[str, Any], code: int
) -> None:
    reply = post(receiver, **changes)
    assert reply["code"] == code
    assert receiver.points() == []
    assert [(record["code"], record["stored"]) for record in receiver.requests()] == [(code, False)]


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        pytest.param("PUT", PATH, b"{}", 1000, id="1000 method"),
        pytest.param("DELETE", "/elsewhere", None, 1000, id="1000 before the path"),
        pytest.param("POST", "/v3/index.php", b"{}", 1001, id="1001 path"),
        pytest.param("POST", "/", b"{}", 1001, id="1001 root"),
        pytest.param("POST", PATH, b"", 1004, id="1004 empty body"),
        pytest.param("GET", PATH, None, 1004, id="1004 no query"),
        pytest.param("POST", PATH, b"a=b", 1005, id="1005 a form"),
        pytest.param("POST", PATH, b"\xff\xfe", 1005, id="1005 not UTF-8"),
        pytest.param("POST", PATH, b"[" * 100_000, 1005, id="1005 deep"),
        pytest.param("GET", f"{PATH}?Data=x", None, 1005, id="1005 in a GET"),
        pytest.param("GET", f"{PATH}?a=b", None, 1009, id="1009 in a GET"),
    ],
)
def test_a_malformed_request_gets_its_return_code(
    receiver: Emulator, method: str, path: str, body: bytes | None, code: int
) -> None:
    status, reply = _ask(receiver, method, path, body)
    assert (status, reply["code"]) == (200, code)
    assert receiver.requests()[0]["code"] == code


@pytest.mark.parametrize(
    ("options", "changes", "code"),
    [
        pytest.param({"max_body_bytes": 100}, {}, 1015, id="1015 body"),
        pytest.param({"max_points_per_request": 1}, {"Data": [POINT] * 2}, 1018, id="1018 request"),
        pytest.param({"max_points_per_period": 1}, {"Data": [POINT] * 2}, 1018, id="1018 period"),
        pytest.param({"max_name_length": 8}, {}, 1020, id="1020 metric"),
        pytest.param({"clock_tolerance_s": 60.0, "clock_offset_s": 61.5}, {}, 1021, id="1021 fast clock"),
        pytest.param({"clock_tolerance_s": 60.0, "clock_offset_s": -61.5}, {}, 1021, id="1021 slow clock"),
        pytest.param({"catalogue": {}}, {}, 1016, id="1016 unknown namespace"),
        pytest.param({"catalogue": {"pc": {}}}, {}, 1019, id="1019 unknown metric"),
        pytest.param({"catalogue": {"pc": {"diskusage": ["ip"]}}}, {}, 1017, id="1017 undeclared dimension"),
        pytest.param(
            {"catalogue": {"pc": {"diskusage": ["ip", "diskname"]}}}, {}, 0, id="0 in the catalogue"
        ),
        pytest.param({"accounts": {"AKIDother": "k"}}, {}, 1011, id="1011 not its account"),
    ],
)
def test_each_limit_of_the_options_has_its_return_code(
    options: dict[str, Any], changes: dict[str, Any], code: int
) -> None:
    with Emulator(EmulatorOptions(**options)) as emulator:
        assert post(emulator, **changes)["code"] == code
        assert len(emulator.points()) == (1 if code == 0 else 0)


@pytest.mark.slow
def test_more_requests_a_second_than_the_limit_are_1006_until_the_second_has_passed() -> None:
    with Emulator(EmulatorOptions(max_requests_per_second=3)) as emulator:
        codes = [post(emulator)["code"] for _ in range(6)]
        assert codes == [0, 0, 0, 1006, 1006, 1006]
        _eventually(lambda: post(emulator) == OK)


def test_points_beyond_the_periods_limit_are_1018_and_refused_ones_do_not_count() -> None:
    options = EmulatorOptions(max_points_per_period=5, period_s=3600.0)
    with Emulator(options) as emulator:
        codes = [post(emulator, Data=[POINT] * count)["code"] for count in (3, 3, 2, 1)]
        assert codes == [0, 1018, 0, 1018]
        assert len(emulator.points()) == 5


def test_a_nonce_used_before_is_1021_when_asked_for() -> None:
    with Emulator(EmulatorOptions(refuse_reused_nonce=True)) as emulator:
        assert [post(emulator, Nonce=nonce)["code"] for nonce in (5, 6, 5)] == [0, 0, 1021]


def test_a_skewed_clock_shows_in_the_date_so_that_a_client_can_correct_itself() -> None:
    with Emulator(EmulatorOptions(clock_offset_s=86_400.0)) as emulator:
        with _fetch(emulator.url, post_as_documented(emulator.url)) as reply:
            assert json.loads(reply.read())["code"] == 1021
            theirs = int(parsedate_to_datetime(reply.headers["Date"]).timestamp())
        assert post(emulator, Timestamp=theirs) == OK


def test_latency_delays_every_reply() -> None:
    with Emulator(EmulatorOptions(latency_s=0.1)) as emulator:
        begun = time.monotonic()
        assert post(emulator) == OK
        assert time.monotonic() - begun >= 0.1


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, *range(1000, 1022)])
def test_a_code_fault_replies_with_any_code_and_stores_nothing(receiver: Emulator, code: int) -> None:
    receiver.fault("code", code)
    assert post(receiver)["code"] == code
    assert receiver.points() == []
    assert receiver.requests()[0]["fault"] == "code"
    assert post(receiver) == OK


def test_a_status_fault_answers_html_with_its_headers(receiver: Emulator) -> None:
    receiver.fault("status", 503, headers={"Retry-After": "7"})
    with pytest.raises(HTTPError) as caught:
        post(receiver)
    with caught.value as error:
        assert (error.code, error.headers["Retry-After"], error.headers["Content-Type"]) == (
            503,
            "7",
            "text/html",
        )
        assert b"<html>" in error.read()
    assert receiver.points() == []
    assert receiver.requests()[0]["status"] == 503


@pytest.mark.parametrize("status", [204, 304, 302, 599])
def test_every_status_is_framed_so_that_the_connection_goes_on(receiver: Emulator, status: int) -> None:
    receiver.fault("status", status)
    connection = _connect(receiver)
    for expected in (status, 200):
        connection.request("POST", PATH, post_as_documented(receiver.url))
        reply = connection.getresponse()
        reply.read()
        assert reply.status == expected
    connection.close()


def test_a_delay_fault_answers_late_and_stores(receiver: Emulator) -> None:
    receiver.fault("delay", 0.1)
    begun = time.monotonic()
    assert post(receiver) == OK
    assert time.monotonic() - begun >= 0.1
    assert len(receiver.points()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delayed_request_is_stored_though_its_client_has_gone(receiver: Emulator, when: Any) -> None:
    receiver.fault("delay", 0.1, when=when)
    _open(receiver, _raw_request(receiver)).close()
    _eventually(lambda: len(receiver.points()) == 1)


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_a_reset_fault_is_a_rst_without_a_reply(receiver: Emulator, when: Any, stored: int) -> None:
    receiver.fault("reset", when=when)
    with _open(receiver, _raw_request(receiver)) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert len(receiver.points()) == stored
    (record,) = receiver.requests()
    assert (record["fault"], record["code"], record["status"], record["stored"]) == (
        "reset",
        None,
        None,
        bool(stored),
    )


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_a_hang_fault_closes_without_a_reply_after_its_seconds(
    receiver: Emulator, when: Any, stored: int
) -> None:
    receiver.fault("hang", 0.1, when=when)
    begun = time.monotonic()
    with _open(receiver, _raw_request(receiver)) as connection:
        assert _read_all(connection) == b""
    assert time.monotonic() - begun >= 0.1
    assert len(receiver.points()) == stored


def test_a_hanging_request_is_freed_when_its_client_leaves() -> None:
    class Request:
        transport: object | None = object()

        def leave(self) -> None:
            self.transport = None

    async def hang() -> None:
        receiver = build_receiver(EmulatorOptions(), Store(), build_plan(EmulatorOptions()))
        request = Request()
        asyncio.get_running_loop().call_later(0.05, request.leave)
        await asyncio.wait_for(receiver.wait(None, request), 5)

    asyncio.run(hang())


def test_a_hanging_request_does_not_keep_others_from_being_served(receiver: Emulator) -> None:
    receiver.fault("hang")
    with _open(receiver, _raw_request(receiver)):
        _eventually(receiver.requests)
        assert post(receiver) == OK


def test_stop_does_not_wait_for_requests_that_hang_or_are_delayed() -> None:
    with Emulator() as emulator:
        emulator.fault("hang", times=2)
        emulator.fault("delay", 3600, times=2)
        connections = [_open(emulator, _raw_request(emulator)) for _ in range(4)]
        _eventually(lambda: len(emulator.requests()) == 4)
        with ends_within(3):
            emulator.stop()
        for connection in connections:
            connection.close()


def test_stop_does_not_wait_for_idle_or_half_sent_connections() -> None:
    with Emulator() as emulator:
        idle = _open(emulator, b"")
        half = _open(emulator, _raw_request(emulator)[:-5])
        with ends_within(3):
            emulator.stop()
        idle.close()
        half.close()


@pytest.mark.parametrize(("when", "stored"), [(None, 0), ("after", 1)])
def test_a_garbage_fault_answers_200_and_no_json(receiver: Emulator, when: Any, stored: int) -> None:
    receiver.fault("garbage", when=when)
    receiver.fault("garbage", b"\xff\x00", when=when)
    for expected in (b"<html>", b"\xff\x00"):
        with _fetch(receiver.url, post_as_documented(receiver.url)) as reply:
            assert reply.status == 200
            assert reply.read().startswith(expected)
    assert len(receiver.points()) == 2 * stored


@pytest.mark.parametrize(("when", "stored"), [("before", 0), (None, 1)])
def test_a_truncate_fault_sends_half_of_what_it_promised(receiver: Emulator, when: Any, stored: int) -> None:
    receiver.fault("truncate", when=when)
    with _open(receiver, _raw_request(receiver)) as connection:
        head, _, body = _read_all(connection).partition(b"\r\n\r\n")
    whole = b'{"code":0,"message":"OK"}'
    assert b"Content-Length: %d" % len(whole) in head
    assert body == whole[: len(whole) // 2]
    assert len(receiver.points()) == stored


def test_a_request_may_be_stored_and_yet_be_answered_with_an_error(receiver: Emulator) -> None:
    receiver.fault("code", 1003, when="after")
    receiver.fault("status", 504, when="after")
    assert post(receiver)["code"] == 1003
    with pytest.raises(HTTPError) as caught:
        post(receiver)
    caught.value.close()
    assert [record["stored"] for record in receiver.requests()] == [True, True]
    assert len(receiver.points()) == 2


def test_after_processing_a_refused_request_is_still_not_stored(receiver: Emulator) -> None:
    receiver.fault("garbage", "x", when="after")
    with _fetch(receiver.url, post_as_documented(receiver.url, "wrong key")) as reply:
        assert reply.read() == b"x"
    assert receiver.points() == []
    assert receiver.requests()[0]["stored"] is False


def test_faults_are_applied_in_order_and_as_often_as_asked(receiver: Emulator) -> None:
    receiver.fault("code", 1002, times=2)
    receiver.fault("code", 1006)
    assert [post(receiver)["code"] for _ in range(4)] == [1002, 1002, 1006, 0]


def test_a_fault_without_an_end_lasts_until_it_is_cleared(receiver: Emulator) -> None:
    receiver.fault("code", 1002, times=None)
    assert {post(receiver)["code"] for _ in range(5)} == {1002}
    assert _ask(receiver, "DELETE", "/-/faults") == (204, None)
    assert post(receiver) == OK


def test_a_poison_metric_has_every_request_that_holds_it_refused_and_no_other(receiver: Emulator) -> None:
    receiver.fault("code", 1019, times=None, match={"metricName": "poison"})
    codes = [post(receiver, Data=data)["code"] for data in ([POINT, POISON], [POINT], [POISON], [POINT] * 9)]
    assert codes == [1019, 0, 1019, 0]
    assert all(point["metricName"] == "diskusage" for point in receiver.points())


def test_a_fault_may_match_a_namespace(receiver: Emulator) -> None:
    receiver.fault("code", 1016, times=None, match={"namespace": "bad"})
    receiver.fault("code", 1014, times=None, match={"namespace": "other", "metricName": "poison"})
    assert [post(receiver, Namespace=name)["code"] for name in ("bad", "pc", "other")] == [1016, 0, 0]
    assert post(receiver, Namespace="other", Data=[POISON])["code"] == 1014


@pytest.mark.slow
def test_a_rate_is_a_probability_and_a_seed_repeats_it() -> None:
    def run() -> list[int]:
        with Emulator(EmulatorOptions(seed=7)) as emulator:
            emulator.fault("code", 1003, rate=0.5, times=None)
            return [post(emulator)["code"] for _ in range(60)]

    first = run()
    assert first == run()
    assert 15 <= first.count(1003) <= 45


def test_faults_touch_only_the_protocols_paths(receiver: Emulator) -> None:
    receiver.fault("code", 1003)
    assert _ask(receiver, "POST", "/elsewhere", b"{}")[1]["code"] == 1001
    assert _ask(receiver, "GET", "/-/points") == (200, [])
    assert post(receiver)["code"] == 1003


def test_faults_can_be_set_while_requests_run(receiver: Emulator) -> None:
    done = threading.Event()
    codes: list[int] = []

    def client() -> None:
        while not done.is_set():
            codes.append(post(receiver)["code"])

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        receiver.fault("code", 1002, times=2)
    _eventually(lambda: not receiver.faults())
    done.set()
    for thread in threads:
        thread.join()
    assert codes.count(1002) == 40
    assert len(receiver.points()) == codes.count(0)


# --- its own interface --------------------------------------------------------------------------------------


def test_faults_are_set_and_shown_over_http(receiver: Emulator) -> None:
    plan = [{"fault": "code", "value": 1003, "times": 2}, {"fault": "reset", "value": "after"}]
    assert _ask(receiver, "POST", "/-/faults", json.dumps(plan).encode())[0] == 200
    assert _ask(receiver, "POST", "/-/faults", b'{"fault":"delay","value":0}')[0] == 200
    assert post(receiver)["code"] == 1003
    assert _ask(receiver, "GET", "/-/faults") == (
        200,
        [
            {"fault": "code", "value": 1003, "times": 1},
            {"fault": "reset", "value": "after", "times": 1},
            {"fault": "delay", "value": 0, "times": 1},
        ],
    )


@pytest.mark.parametrize(
    ("description", "member"),
    [
        pytest.param({}, "fault", id="no kind"),
        pytest.param(5, "fault", id="no object"),
        pytest.param({"fault": "explode"}, "fault", id="unknown kind"),
        pytest.param({"fault": ["code"]}, "fault", id="kind a list"),
        pytest.param({"fault": "code", "value": 1022}, "value", id="unknown code"),
        pytest.param({"fault": "code", "value": True}, "value", id="code a boolean"),
        pytest.param({"fault": "code"}, "value", id="no code"),
        pytest.param({"fault": "status", "value": 100}, "value", id="interim status"),
        pytest.param({"fault": "delay"}, "value", id="no seconds"),
        pytest.param({"fault": "delay", "value": -1}, "value", id="negative seconds"),
        pytest.param({"fault": "hang", "value": "later"}, "value", id="hang until a word"),
        pytest.param({"fault": "garbage", "value": 5}, "value", id="garbage a number"),
        pytest.param({"fault": "reset", "value": 5}, "value", id="reset a number"),
        pytest.param({"fault": "reset", "times": 0}, "times", id="never"),
        pytest.param({"fault": "reset", "times": True}, "times", id="times a boolean"),
        pytest.param({"fault": "reset", "rate": 1.5}, "rate", id="rate above 1"),
        pytest.param({"fault": "reset", "when": "during"}, "when", id="unknown when"),
        pytest.param({"fault": "reset", "match": {"value": "1"}}, "match", id="unknown match"),
        pytest.param({"fault": "reset", "match": {"metricName": 1}}, "match", id="match a number"),
        pytest.param({"fault": "reset", "headers": {"a": "b"}}, "headers", id="headers of a reset"),
        pytest.param({"fault": "status", "value": 500, "headers": {"a": "b\r\nc: d"}}, "headers", id="CRLF"),
        pytest.param(
            {"fault": "status", "value": 500, "headers": {"Content-Length": "9"}}, "headers", id="framing"
        ),
        pytest.param({"fault": "reset", "tiems": 2}, "tiems", id="unknown member"),
    ],
)
def test_a_wrong_description_is_400_and_says_which_member(
    receiver: Emulator, description: object, member: str
) -> None:
    status, reply = _ask(receiver, "POST", "/-/faults", json.dumps(description).encode())
    assert (status, reply["member"]) == (400, member)
    assert reply["expected"]
    listed = [{"fault": "reset"}, description]
    assert _ask(receiver, "POST", "/-/faults", json.dumps(listed).encode())[1]["member"] == f"1/{member}"
    assert receiver.faults() == []


def test_a_wrong_fault_raises_in_python_too(receiver: Emulator) -> None:
    with pytest.raises(FaultError, match="value: a return code"):
        receiver.fault("code", 5)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_plan_that_is_not_json_is_400(receiver: Emulator, body: bytes) -> None:
    assert _ask(receiver, "POST", "/-/faults", body)[0] == 400


def test_points_can_be_bounded_to_the_newest_and_cleared(receiver: Emulator) -> None:
    for value in range(4):
        post(receiver, Data=[{**POINT, "value": value}, {**POINT, "value": value + 0.5}])
    newest = _ask(receiver, "GET", "/-/points?last=3")[1]
    assert [point["value"] for point in newest] == [2.5, 3, 3.5]
    assert _ask(receiver, "GET", "/-/points?last=0")[1] == []
    assert _ask(receiver, "GET", "/-/points?last=x")[0] == 400
    requests = _ask(receiver, "GET", "/-/requests?last=3")[1]
    assert requests == receiver.requests()[1:]
    assert _ask(receiver, "GET", "/-/requests?last=0")[1] == []
    assert len(_ask(receiver, "GET", "/-/requests?last=99")[1]) == 4
    assert _ask(receiver, "GET", "/-/requests?last=x")[0] == 400
    assert _ask(receiver, "DELETE", "/-/points") == (204, None)
    assert (receiver.points(), receiver.requests()) == ([], [])


def test_an_unknown_control_path_is_404(receiver: Emulator) -> None:
    for method, path in (("GET", "/-/nothing"), ("PUT", "/-/points"), ("GET", "/-/")):
        assert _ask(receiver, method, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/-/page.css", "/-/page.js", "/-/plot.js", "/-/words.js"])
def test_the_page_is_served_and_needs_nothing_from_elsewhere(receiver: Emulator, path: str) -> None:
    with _fetch(f"{receiver.base_url}{path}") as reply:
        text = reply.read().decode()
        assert reply.headers["Content-Type"].startswith("text/")
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert "//" not in outside.replace("// ", "")
    assert "innerHTML" not in text


def test_the_page_says_what_each_refusal_means(receiver: Emulator) -> None:
    for code in ReturnCode:
        receiver.fault("code", int(code))
        post(receiver)
    requests = _ask(receiver, "GET", "/-/activity")[1]["requests"]
    meanings = {request["answer"]: request["meaning"] for request in requests}
    assert meanings == {str(int(code)): code.meaning if code else "" for code in ReturnCode}


def test_the_page_is_given_only_what_has_changed(receiver: Emulator) -> None:
    post(receiver)
    first = _ask(receiver, "GET", "/-/activity")[1]
    assert (len(first["points"]), len(first["requests"])) == (1, 1)
    known = f"run={first['run']}&after={first['next']}"
    assert _ask(receiver, "GET", f"/-/activity?{known}")[1]["points"] == []
    post(receiver, Data=[POINT, POINT])
    assert len(_ask(receiver, "GET", f"/-/activity?{known}")[1]["points"]) == 2
    receiver.clear()
    assert _ask(receiver, "GET", f"/-/activity?{known}")[1]["run"] != first["run"]


def test_limits_can_be_changed_while_it_runs(receiver: Emulator) -> None:
    status, limits = _ask(receiver, "GET", "/-/limits")
    assert (status, set(limits.values())) == (200, {None, 0.0})
    try:
        assert _ask(receiver, "POST", "/-/limits", b'{"maxPointsPerRequest": 1}')[0] == 200
        assert post(receiver, Data=[POINT, POINT])["code"] == 1018
    finally:
        assert _ask(receiver, "POST", "/-/limits", b'{"maxPointsPerRequest": null}')[0] == 200
    assert post(receiver, Data=[POINT, POINT])["code"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"x": 1}',
        b'{"maxBodyBytes": 0}',
        b'{"maxBodyBytes": true}',
        b'{"latencySeconds": null}',
    ],
)
def test_a_wrong_limit_is_refused_and_changes_nothing(receiver: Emulator, body: bytes) -> None:
    before = _ask(receiver, "GET", "/-/limits")
    assert _ask(receiver, "POST", "/-/limits", body)[0] == 400
    assert _ask(receiver, "GET", "/-/limits") == before


def test_one_fault_can_be_removed_by_its_number(receiver: Emulator) -> None:
    receiver.fault("code", 1003)
    receiver.fault("code", 1006)
    first = _ask(receiver, "GET", "/-/activity")[1]["faults"][0]
    assert _ask(receiver, "DELETE", f"/-/faults/{first['number']}") == (204, None)
    assert [fault["value"] for fault in receiver.faults()] == [1006]
    assert _ask(receiver, "DELETE", f"/-/faults/{first['number']}")[0] == 404


def test_a_body_that_is_not_a_report_is_refused(receiver: Emulator) -> None:
    for body in (b"", b"[]", b"{}", b'{"outcomes": 1}'):
        assert _ask(receiver, "POST", "/-/reports", body)[0] == 400
    assert _ask(receiver, "POST", "/-/reports", b'{"outcomes": {"delivered": 1}}')[0] == 204


def test_a_report_with_any_number_of_return_codes_takes_little_of_the_page(receiver: Emulator) -> None:
    codes = {f"code {number}": 1 for number in range(10_000)}
    report = json.dumps({"outcomes": {"delivered": 1}, "requests": {"returnCodes": codes}}).encode()
    assert _ask(receiver, "POST", "/-/reports", report)[0] == 204
    with urllib.request.urlopen(f"{receiver.url.partition('/v2')[0]}/-/activity") as answer:
        shown = json.load(answer)["reports"][0]["returnCodes"]
    assert list(shown) == list(codes)[: len(shown)]
    assert 0 < len(shown) <= 100


# --- its document -------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text("utf-8")


def _documented(heading: str) -> list[str]:
    """The first column of the document's table of that heading."""
    table = DOCUMENT.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    return [name.strip("`") for row in rows for name in row.split("|")[1].strip().split(", ")]


def test_the_document_has_every_kind_of_fault_and_every_member() -> None:
    assert _documented("`fault`") == list(FAULT_KINDS)
    assert sorted(_documented("member")) == sorted(MEMBERS)


def test_every_request_of_the_document_can_be_made(receiver: Emulator) -> None:
    lines = [shlex.split(line) for line in DOCUMENT.splitlines() if line.startswith("curl ")]
    assert len(lines) >= len(FAULT_KINDS)
    made = set()
    for line in lines:
        body = line[line.index("-d") + 1].encode() if "-d" in line else None
        method = line[line.index("-X") + 1] if "-X" in line else "GET" if body is None else "POST"
        path = line[-1].removeprefix("http://127.0.0.1:8080")
        assert _ask(receiver, method, path, body)[0] in (200, 204), line
        made |= {fault["fault"] for fault in _ask(receiver, "GET", "/-/faults")[1]}
    assert made == set(FAULT_KINDS)


def test_the_document_shows_every_member_of_a_point_and_of_a_request(receiver: Emulator) -> None:
    post(receiver)
    for shown in (receiver.points()[0], receiver.requests()[0]):
        members = ", ".join(f'"{name}"' for name in shown)
        assert f"`{{{members}}}`" in " ".join(DOCUMENT.split())


# --- whatever comes in --------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    body=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["Namespace", "Data", "SecretId", "Signature", "Nonce", "Timestamp", "Region"]
                ),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_an_arbitrary_body_is_answered_in_the_protocol_and_stores_nothing(
    shared: Emulator, body: bytes
) -> None:
    shared.clear()
    status, reply = _ask(shared, "POST", PATH, body)
    assert status == 200
    assert 1004 <= reply["code"] <= 1021
    assert shared.points() == []


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(query=st.binary().map(quote) | st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"])))
def test_an_arbitrary_query_string_is_never_a_server_error_and_stores_nothing(
    shared: Emulator, query: str
) -> None:
    shared.clear()
    status, _ = _ask(shared, "GET", f"{PATH}?{query}")
    assert status == 200
    assert shared.points() == []


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="no HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(b"POST /v2/index.php HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", id="bad length"),
        pytest.param(
            b"POST /v2/index.php HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            id="bad chunk",
        ),
        pytest.param(
            b"POST /v2/index.php HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n"
            b"Connection: close\r\n\r\nabc",
            id="bad gzip",
        ),
    ],
)
def test_a_request_that_is_not_http_is_never_a_server_error(receiver: Emulator, sent: bytes) -> None:
    with _open(receiver, sent) as connection:
        status = int(_read_all(connection).split(b" ")[1])
    assert status in (200, 400)
    assert receiver.points() == []


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Emulator() as emulator:
        head, _, body = _raw_request(emulator).partition(b"\r\n\r\n")
        with _open(emulator, head + b"\r\nExpect: 100-continue\r\n\r\n") as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 100")
            connection.sendall(body[:-5])
        assert post(emulator) == OK
        assert len(emulator.requests()) == 1
    assert caplog.text == ""


def test_a_body_is_never_decompressed(receiver: Emulator) -> None:
    body = gzip.compress(post_as_documented(receiver.url))
    assert _ask(receiver, "POST", PATH, body, **{"Content-Encoding": "gzip"})[1]["code"] == 1005


def test_nothing_of_a_request_that_is_not_http_appears_in_the_log(
    receiver: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with _open(receiver, b"GET /v2/index.php?Signature=hush hush HTTP/1.1 x\r\n\r\n") as connection:
        _read_all(connection)
    assert "hush" not in caplog.text


# --- its life -----------------------------------------------------------------------------------------------


def test_it_listens_on_the_loopback_address_alone_by_default(receiver: Emulator) -> None:
    assert receiver.base_url.startswith("http://127.0.0.1:")
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if line.split()[1].endswith(f":{_port(receiver):04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{_port(receiver):04X}"]


def test_it_can_be_stopped_and_started_again_on_its_port_with_what_it_held() -> None:
    emulator = Emulator()
    emulator.start()
    url = emulator.url
    assert post(emulator) == OK
    emulator.stop()
    emulator.stop()
    assert len(emulator.points()) == 1
    with pytest.raises(OSError, match="refused"):
        post(emulator)
    with emulator:
        assert emulator.url == url
        assert post(emulator) == OK
    assert len(emulator.points()) == 2


def test_a_port_that_is_taken_is_an_os_error(receiver: Emulator) -> None:
    with pytest.raises(OSError, match="in use"):
        Emulator(EmulatorOptions(port=_port(receiver))).start()


def test_it_has_no_address_before_its_start() -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = Emulator().url


def test_the_representation_of_the_options_shows_no_key() -> None:
    assert "hush" not in repr(EmulatorOptions(accounts={"AKIDother": "hush"}))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_program_it_serves_until_a_signal_and_exits_cleanly(number: signal.Signals) -> None:
    program = (
        "from receiver_emulator import EmulatorOptions, serve\n"
        "serve(EmulatorOptions(), lambda url: print(url, flush=True))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip() + PATH
        assert send_post(url, post_as_documented(url)) == OK
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


# --- web pages that are open on the same machine -----------------------------------------------------------


def _ask_as_page(receiver: Emulator, method: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(receiver.base_url.rpartition(":")[2]), timeout=10
    )
    with closing(connection):
        connection.putrequest(method, path, skip_host=True)
        body = b'{"fault": "reset", "times": null}' if method == "POST" else b""
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080", "Origin": "https://evil.example"},
        {"Host": "127.0.0.1:8080", "Origin": "null"},
        {"Host": "localhost:8080", "Origin": "http://localhost:3000"},
        {"Host": "127.0.0.1:8080", "Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8080"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_can_change_nothing(receiver: Emulator, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/-/faults"), ("DELETE", "/-/faults"), ("DELETE", "/-/points")):
        assert _ask_as_page(receiver, method, path, headers) == 403
    assert receiver.faults() == []


@pytest.mark.parametrize("path", ["/", "/-/points", "/-/requests", "/-/faults"])
def test_a_page_whose_name_leads_to_this_address_can_read_nothing(receiver: Emulator, path: str) -> None:
    assert _ask_as_page(receiver, "GET", path, {"Host": "evil.example"}) == 403
    for host in ("127.0.0.1", "localhost:8080", "[::1]:8080", "emulator:8080"):
        assert _ask_as_page(receiver, "GET", path, {"Host": host}) == 200


def test_the_receivers_own_page_and_scripts_can_change_what_they_like(receiver: Emulator) -> None:
    for headers in (
        {"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1:8080"},
    ):
        assert _ask_as_page(receiver, "POST", "/-/faults", headers) == 200
        assert _ask_as_page(receiver, "DELETE", "/-/faults", headers) == 204


def test_the_protocol_is_for_every_name_since_clients_know_the_receivers(receiver: Emulator) -> None:
    headers = {"Host": "receiver.monitor.tencentyun.com:8080"}
    assert _ask_as_page(receiver, "GET", "/v2/index.php", headers) == 200
