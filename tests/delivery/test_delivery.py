"""Every point ends in one true outcome, whatever the receiver answers, and in time."""

import gzip
import json
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest, Transport
from metric_forwarder.clock import Clock, Deadline, SystemClock
from metric_forwarder.credentials import Credentials, FixedCredentials
from metric_forwarder.delivery.batching import BatchLimits
from metric_forwarder.delivery.pacing import CoolDown, Pacer
from metric_forwarder.delivery.retry import Policy
from metric_forwarder.delivery.sender import Sender
from metric_forwarder.delivery.settling import BlockedSeries
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.receiver import PutMonitorDataDestination
from metric_forwarder.destinations.receiver_verdicts import CODES, status_rule
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.machine import Tasks, Threads
from metric_forwarder.model import Message, Outcome, Point, Series
from metric_forwarder.put_monitor_data.replies import read_code
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, RequestLimits
from metric_forwarder.secret import Secret
from receiver_emulator import Emulator, EmulatorOptions
from support.fakes import Answer, FakeClock, machine_of
from support.harness import Harness, ckafka, environ, make_harness, outcomes, point, report_of, values
from support.patience import ends_within
from support.tcp_server import listening

ALWAYS: dict[ReturnCode, tuple[str, int]] = {
    # What a batch of two points comes to when every request is answered so: the outcome, and the requests it takes.
    ReturnCode.OK: ("delivered", 1),
    ReturnCode.METHOD_NOT_SUPPORTED: ("undelivered", 1),
    ReturnCode.WRONG_CGI: ("undelivered", 1),
    ReturnCode.NOT_READY: ("undelivered", 4),
    ReturnCode.INTERNAL_FAILURE: ("undelivered", 4),
    ReturnCode.CONTENT_MISSING: ("undelivered", 1),
    ReturnCode.NOT_JSON: ("rejected", 3),
    ReturnCode.TOO_MANY_REQUESTS: ("undelivered", 4),
    ReturnCode.RATE_LIMITER_FAILED: ("undelivered", 4),
    ReturnCode.CLIENT_BLOCKED: ("undelivered", 1),
    ReturnCode.PARAMETER_MISSING: ("rejected", 3),
    ReturnCode.PARAMETER_TYPE: ("rejected", 3),
    ReturnCode.AUTHENTICATION_FAILED: ("undelivered", 1),
    ReturnCode.API_RULES_BROKEN: ("undelivered", 1),
    ReturnCode.PARAMETER_INVALID: ("rejected", 3),
    ReturnCode.ROUTING_MISSING: ("undelivered", 4),
    ReturnCode.DATA_TOO_LONG: ("rejected", 3),
    ReturnCode.NAMESPACE_ILLEGAL: ("rejected", 1),
    ReturnCode.DIMENSION_CHECK_FAILED: ("rejected", 3),
    # The first point is tried four times alone; the second, of the same series, must not pass it.
    ReturnCode.TOO_MANY_METRICS: ("undelivered", 5),
    ReturnCode.NO_VALID_DATA: ("rejected", 3),
    ReturnCode.NAME_TOO_LONG: ("rejected", 3),
    ReturnCode.TIMESTAMP_ILLEGAL: ("undelivered", 2),
}


def always(harness: Harness, answer: Answer | ReturnCode) -> None:
    harness.receiver.script.extend([answer] * 200)


@pytest.mark.parametrize("code", list(ReturnCode))
def test_each_return_code_has_its_verdict(harness: Harness, code: ReturnCode) -> None:
    always(harness, code)
    if code is ReturnCode.OK:
        harness.receiver.script.clear()
    report = harness.handle([point(1), point(2)])
    outcome, requests = ALWAYS[code]
    assert outcomes(report) == {outcome: 2}
    assert report["requests"]["sent"] == requests
    assert report["requests"]["returnCodes"] == {str(int(code)): requests}
    if code is not ReturnCode.OK:
        assert report["errors"][0]["code"] == code
        assert CODES[code].remedy in report["errors"][0]["message"]


def test_the_tables_name_every_code() -> None:
    assert set(CODES) == set(ReturnCode) == set(ALWAYS)


@pytest.mark.parametrize(
    "status", [*range(201, 209), *range(300, 309), *range(400, 432), 451, *range(500, 512), 599]
)
def test_no_http_status_but_200_makes_a_point_delivered(harness: Harness, status: int) -> None:
    ok = b'{"code":0,"message":"OK"}'
    always(harness, HttpReply(status, {}, ok))
    report = harness.handle(point())
    assert report["outcomes"]["delivered"] == 0
    assert report["requests"]["returnCodes"].keys() == {f"http {status}"}
    retried = status_rule(status).action in {Action.RETRY, Action.RESEND, Action.HOLD_OFF, Action.SLOW_DOWN}
    assert report["requests"]["sent"] == (4 if retried else 1)


BODIES = {
    "a page": b"<html><body>welcome</body></html>",
    "empty": b"",
    "half a reply": b'{"code":0,"mess',
    "no code": b'{"message":"OK"}',
    "a code of the wrong type": b'{"code":[0]}',
    "a boolean code": b'{"code":false}',
    "a null code": b'{"code":null}',
    "a float code": b'{"code":0.0}',
    "an undocumented code": b'{"code":4999,"message":"?"}',
    "a giant code": b'{"code":%b}' % (b"9" * 4000),
    "a negative code": b'{"code":"-0"}',
    "a list": b"[0]",
    "zero": b"0",
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 60_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_point_is_delivered_only_if_the_receiver_said_so(harness: Harness, body: bytes) -> None:
    always(harness, HttpReply(200, {}, body))
    report = harness.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert len(str(report["requests"]["returnCodes"])) < 40, "nothing of an answer stands in the report"


@pytest.mark.parametrize("body", [b'{"code":"0","message":"OK"}', b' {"message":"OK","code":0}\n'])
def test_the_code_may_be_text_and_the_content_type_anything(harness: Harness, body: bytes) -> None:
    harness.receiver.script.append(HttpReply(200, {"Content-Type": "application/octet-stream"}, body))
    assert outcomes(harness.handle(point())) == {"delivered": 1}


ENCODED = "成功".encode("gb18030")
CLEAR_CODES = {
    "GBK": b'{"code":%d,"message":"' + ENCODED + b'"}',
    "GBK before the code": b'{"message":"' + ENCODED + b'","code":%d}',
    "GBK with a backslash for a second byte": b'{"code":%d,"message":"\x81\x5c"}',
    "a raw tab": b'{"code":%d,"message":"a\tb"}',
    "a raw line break": b'{"code":%d,\n"message":"a\r\nb"}',
    "NUL behind": b'{"code":%d,"message":"OK"}\0\0',
    "NUL in the message": b'{"code":%d,"message":"O\0K"}',
    "text behind": b'{"code":%d,"message":"OK"}<!-- 12 ms -->',
    "a byte order mark": b'\xef\xbb\xbf{"code":%d,"message":"OK"}',
    "no character at all": b'{"code":%d,"message":"\xff\xfe\x80"}',
    "quotes in the message": b'{"code":%d,"message":"no "quotes" here"}',
    "an escape that JSON does not know": b'{"code":%d,"message":"\\x00"}',
    "a code as text": b'{"code":"%d","message":"' + ENCODED + b'"}',
}


@pytest.mark.parametrize("body", CLEAR_CODES.values(), ids=CLEAR_CODES)
def test_the_code_counts_whatever_stands_beside_it(harness: Harness, body: bytes) -> None:
    harness.receiver.script.append(HttpReply(200, {}, body % 0))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    harness.receiver.script.append(HttpReply(200, {}, body % 1008))
    report = harness.handle(point(2))
    assert report["requests"]["returnCodes"] == {"1008": 1}
    assert [error["code"] for error in report["errors"]] == [1008]


NO_CODES = {
    "a page about a code": b'<html>{"code":0,"message":"OK"}</html>',
    "a code deeper inside": b'{"data":{"code":0,"message":"OK"}}',
    "a code in a text": b'{"message":"{\\"code\\":0}"}',
    "a code in a text that is no JSON": b'{"message":""code":0,"}',
    "half a reply in GBK": b'{"code":0,"message":"' + ENCODED,
    "half a reply with quotes": b'{"code":0,"message":"no "quo',
    "a list": b'[{"code":0}]',
    "an object without a code": b'{"message":"OK"} {"code":0}',
    "a fraction": b'{"code":0.5,"message":"' + ENCODED + b'"}',
}


def test_a_reply_that_a_proxy_has_compressed_counts_and_half_of_one_is_no_reply(harness: Harness) -> None:
    packed = gzip.compress(b'{"code":0,"message":"OK"}')
    harness.receiver.script.append(HttpReply(200, {"Content-Encoding": "gzip"}, packed))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    for damaged in (packed[:-20], packed[:12], b"\x1f\x8b" + b"x" * 20):
        always(harness, HttpReply(200, {"Content-Encoding": "gzip"}, damaged))
        report = harness.handle(point(2))
        assert (outcomes(report), report["errors"][0]["rule"]) == ({"undelivered": 1}, "no answer")
    bomb = gzip.compress(b'{"code":1,"a":"' + bytes(50 * 2**20) + b'"}')
    assert read_code(bomb) is None


@pytest.mark.parametrize("body", NO_CODES.values(), ids=NO_CODES)
def test_a_page_or_half_a_reply_has_no_code(harness: Harness, body: bytes) -> None:
    always(harness, HttpReply(200, {}, body))
    report = harness.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert "0" not in report["requests"]["returnCodes"]


@given(
    st.integers(0, 1021),
    st.text(max_size=20),
    st.sampled_from(["utf-8", "gb18030", "utf-16", "big5"]),
    st.binary(max_size=5),
)
def test_a_complete_reply_in_any_encoding_has_its_code(
    code: int, message: str, encoding: str, behind: bytes
) -> None:
    text = json.dumps({"code": code, "message": message}, ensure_ascii=False)
    body = text.encode(encoding, "replace")
    assert read_code(body) == code
    if encoding in {"utf-8", "gb18030"}:
        assert read_code(body + b"\0" + behind) == code


@pytest.mark.parametrize("piece", [b"{", b'{"code":', b'"', b'{"code":0,"', b"\\", b"[", b"\x81"])
def test_reading_the_code_of_a_reply_takes_linear_time(piece: bytes) -> None:
    def cost(size: int) -> float:
        body = b'{"code":0,"message":"' + piece * (size // len(piece))
        best = math.inf
        for _ in range(3):
            began = time.process_time()
            read_code(body)
            best = min(best, time.process_time() - began)
        return best

    assert cost(800_000) <= 8 * 4 * cost(100_000) + 0.01


@pytest.mark.slow
@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_reply_body_raises(body: bytes) -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    harness.receiver.script.append(HttpReply(200, {"Date": body.decode("latin-1"), "Retry-After": "x"}, body))
    assert harness.handle(point())["received"] == 1


def test_retries_back_off_with_full_jitter_and_are_limited() -> None:
    harness = make_harness(MAX_ATTEMPTS="6")
    always(harness, ReturnCode.INTERNAL_FAILURE)
    harness.handle(point())
    waits = [seconds for seconds in harness.clock.slept if seconds]
    assert len(harness.receiver.requests) == 6
    assert len(waits) == 5
    assert all(wait < 0.2 * 2**number for number, wait in enumerate(waits))


@pytest.mark.parametrize("header", ["seconds", "date"])
def test_retry_after_is_obeyed_in_seconds_and_as_a_date(harness: Harness, header: str) -> None:
    now = harness.clock.time()
    text = "7" if header == "seconds" else formatdate(now + 7, usegmt=True)
    harness.receiver.script.append(
        HttpReply(503, {"Retry-After": text, "Date": formatdate(now, usegmt=True)}, b"")
    )
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    assert 7 <= harness.clock.monotonic() < 8


def test_no_lane_sleeps_past_the_deadline(harness: Harness) -> None:
    always(harness, HttpReply(503, {"Retry-After": "30"}, b""))
    report = harness.handle(point(), time_limit_ms=10_000)
    assert outcomes(report) == {"undelivered": 1}
    assert len(harness.receiver.requests) == 1
    assert harness.clock.monotonic() < 1


def keep_away(harness: Harness, seconds: int, times: int = 1) -> None:
    """So many requests are asked to leave the receiver alone."""
    harness.receiver.script.extend([HttpReply(503, {"Retry-After": str(seconds)}, b"")] * times)


def test_with_a_single_attempt_the_next_event_obeys_retry_after() -> None:
    harness = make_harness(MAX_ATTEMPTS="1")
    keep_away(harness, 7)
    assert outcomes(harness.handle(point(1))) == {"undelivered": 1}
    assert outcomes(harness.handle(point(2))) == {"delivered": 1}
    assert 7 <= harness.clock.monotonic() < 8


def test_an_error_about_a_long_retry_after_does_not_name_the_timeout(harness: Harness) -> None:
    keep_away(harness, 86_400)
    harness.handle(ckafka(point()))
    report = harness.handle(ckafka(point(), first_offset=1))
    assert (outcomes(report), report["requests"]["sent"]) == ({"undelivered": 1}, 0)
    (error,) = report["errors"]
    assert error["rule"] == "retry-after"
    assert "asked for a pause of another 86400 s" in error["message"]
    assert "timeout" not in error["message"]


def test_an_error_about_the_timeout_does_not_name_retry_after() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1")
    harness.receiver.latency_s = 0.5
    report = harness.handle([point(value, f"m{value}") for value in range(20)], 3000)
    assert report["outcomes"]["undelivered"] > 0
    assert {error["rule"] for error in report["errors"]} == {"out of time"}


def test_an_error_says_that_the_pace_left_no_time() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1", MAX_RPS="0.2")
    report = harness.handle([point(value, f"m{value}") for value in range(9)], 10_000)
    assert {error["rule"] for error in report["errors"]} == {"pace"}
    assert "MF_MAX_RPS" in report["errors"][0]["message"]


def test_each_redelivery_probes_a_long_retry_after_with_one_request() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="4")
    event = [point(value, f"m{value}") for value in range(20)]
    keep_away(harness, 86_400, times=10)
    for redelivery in range(10):
        assert outcomes(harness.handle(event)) == {"undelivered": 20}
        assert len(harness.receiver.requests) == redelivery + 1
        harness.clock.sleep(60)
    assert outcomes(harness.handle(event)) == {"delivered": 20}


@pytest.mark.slow
@given(
    asked=st.lists(st.tuples(st.sampled_from([429, 503, 500, 504]), st.integers(0, 10**9)), max_size=8),
    attempts=st.integers(1, 4),
    limit_ms=st.integers(2000, 60_000),
)
@settings(max_examples=150, deadline=None)
def test_a_minute_after_any_retry_after_a_healthy_receiver_gets_its_points(
    asked: list[tuple[int, int]], attempts: int, limit_ms: int
) -> None:
    harness = make_harness(MAX_ATTEMPTS=str(attempts))
    for status, seconds in asked:
        harness.receiver.script.append(HttpReply(status, {"Retry-After": str(seconds)}, b""))
        harness.handle(point(), limit_ms)
        harness.receiver.script.clear()
    harness.clock.sleep(60)
    assert outcomes(harness.handle(point(), limit_ms)) == {"delivered": 1}


def test_no_other_request_goes_until_the_probing_one_is_answered() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="4")
    event = [point(value, f"m{value}") for value in range(20)]
    keep_away(harness, 86_400)
    harness.handle(event)
    harness.clock.sleep(60)
    arrived: list[HttpRequest] = []
    before_the_answer: list[int] = []
    process = harness.receiver.send

    def send(request: HttpRequest, timeout_s: float) -> Answer:
        arrived.append(request)
        if len(arrived) == 1:
            # Many times as long as it takes until other lanes join.
            time.sleep(0.2)
            before_the_answer.append(len(arrived))
        return process(request, timeout_s)

    harness.receiver.send = send  # type: ignore[method-assign]  # the fake is ours to listen in on
    assert outcomes(harness.handle(event)) == {"delivered": 20}
    assert before_the_answer == [1]


def test_any_reply_to_a_probe_without_retry_after_ends_the_pause(harness: Harness) -> None:
    keep_away(harness, 86_400)
    harness.handle(point())
    harness.clock.sleep(60)
    harness.receiver.refuse_if = poison("bad")
    points = [point(value, "bad" if value == 0 else "good") for value in range(20)]
    assert outcomes(harness.handle(points)) == {"delivered": 19, "rejected": 1}


def test_the_next_event_obeys_a_retry_after_that_is_not_over(harness: Harness) -> None:
    keep_away(harness, 30)
    assert outcomes(harness.handle(point(1), time_limit_ms=10_000)) == {"undelivered": 1}
    assert outcomes(harness.handle(point(2))) == {"delivered": 1}
    assert 30 <= harness.clock.monotonic() < 31


@pytest.mark.slow
@given(
    limit_ms=st.integers(1000, 20_000),
    latency=st.floats(0, 3),
    steps=st.lists(st.sampled_from([None, *ReturnCode]), max_size=30),
    points=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_every_timeout_ends_before_the_deadline(
    limit_ms: int, latency: float, steps: list[ReturnCode | None], points: int
) -> None:
    harness = make_harness(BATCH_MAX_POINTS="5", CONCURRENCY="1")
    harness.receiver.latency_s = latency
    harness.receiver.script.extend(steps)
    started: list[float] = []
    process = harness.receiver.send

    def send(request: Any, timeout_s: float) -> Answer:
        started.append(harness.clock.monotonic() + timeout_s)
        return process(request, timeout_s)

    harness.receiver.send = send  # type: ignore[method-assign]  # the fake is ours to listen in on
    harness.handle([point(value) for value in range(points)], limit_ms)
    margin = min(1.0, limit_ms / 2000)
    # And a little before it, so that its answer, or that there is none, is still told.
    assert all(end < limit_ms / 1000 - margin - 0.04 for end in started)


def poison(
    *metrics: str, code: ReturnCode = ReturnCode.DIMENSION_CHECK_FAILED
) -> Callable[[PutRequest], ReturnCode | None]:
    def refuse(request: PutRequest) -> ReturnCode | None:
        return code if any(wire["metricName"] in metrics for wire in request.data) else None

    return refuse


@pytest.mark.parametrize("place", [0, 1, 499, 500, 998, 999, 333])
def test_one_poison_point_in_a_thousand_is_found_within_the_budget_and_named(place: int) -> None:
    harness = make_harness(BATCH_MAX_POINTS="1000", BATCH_MAX_BYTES="1000000")
    harness.receiver.refuse_if = poison("bad")
    points = [point(value, "bad" if value == place else "good") for value in range(1000)]
    report = harness.handle(ckafka(points, topic="t"))
    assert outcomes(report) == {"delivered": 999, "rejected": 1}
    assert report["requests"]["sent"] - 1 <= 2 * math.log2(1000) + 1
    assert [(error["source"], error["pointer"], error["code"]) for error in report["errors"]] == [
        ("t/0@0", f"/{place}", 1017)
    ]


def test_ten_poison_points_are_all_named() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1000", BATCH_MAX_BYTES="1000000")
    harness.receiver.refuse_if = poison("bad", code=ReturnCode.NO_VALID_DATA)
    bad = {7, 8, 120, 333, 334, 500, 501, 777, 900, 999}
    report = harness.handle([point(value, "bad" if value in bad else "good") for value in range(1000)])
    assert outcomes(report) == {"delivered": 990, "rejected": 10}
    assert {error["pointer"] for error in report["errors"]} == {f"/{place}" for place in bad}
    assert report["requests"]["sent"] <= 10 * (2 * math.log2(1000) + 1)


@pytest.mark.slow
@given(st.sets(st.integers(0, 63), max_size=64))
@settings(max_examples=150, deadline=None)
def test_halving_names_exactly_the_points_at_fault(bad: set[int]) -> None:
    harness = make_harness(BATCH_MAX_POINTS="64")
    harness.receiver.refuse_if = poison("bad")
    report = harness.handle([point(value, "bad" if value in bad else "good") for value in range(64)])
    assert report["outcomes"]["rejected"] == len(bad)
    assert values(harness.receiver.points) == [value for value in range(64) if value not in bad]


def test_an_illegal_namespace_costs_one_request_and_does_not_stop_the_others() -> None:
    # One lane: in others, requests already under way may meet the refusal too.
    harness = make_harness(CONCURRENCY="1", BATCH_MAX_POINTS="10")
    harness.receiver.refuse_if = lambda request: (
        ReturnCode.NAMESPACE_ILLEGAL if request.namespace == "gone" else None
    )
    report = harness.handle([point(value, namespace="gone" if value % 2 else "pc") for value in range(200)])
    assert outcomes(report) == {"delivered": 100, "rejected": 100}
    assert report["requests"]["returnCodes"] == {"0": 10, "1016": 1}


@pytest.mark.parametrize("limit", ["points", "bytes"])
def test_a_refused_size_is_learned_and_tried_again_once_a_minute(limit: str) -> None:
    harness = make_harness(BATCH_MAX_POINTS="64", CONCURRENCY="1")
    harness.receiver.limits = (
        RequestLimits(max_points=20) if limit == "points" else RequestLimits(max_bytes=1500)
    )
    points = [point(value) for value in range(640)]

    def refused() -> int:
        before = len(harness.receiver.requests)
        assert outcomes(harness.handle(points)) == {"delivered": 640}
        sizes = [
            len(json.loads(request.body or b"")["Data"]) for request in harness.receiver.requests[before:]
        ]
        return sum(size > 20 for size in sizes)

    assert refused() > 0
    assert refused() == 0
    harness.clock.sleep(60)
    assert refused() == 1
    assert refused() == 0
    assert values(harness.receiver.points) == [*range(640)] * 4


def quota(
    harness: Harness, points: int, period_s: float, already: int
) -> Callable[[PutRequest], ReturnCode | None]:
    """A receiver that takes so many points in each period, and answers 1018 to the rest."""
    taken: Counter[int] = Counter({int(harness.clock.monotonic() / period_s): already})

    def refuse(request: PutRequest) -> ReturnCode | None:
        period = int(harness.clock.monotonic() / period_s)
        if taken[period] + len(request.data) > points:
            return ReturnCode.TOO_MANY_METRICS
        taken[period] += len(request.data)
        return None

    return refuse


@pytest.mark.parametrize(
    ("left", "period_s"),
    [(40, 1), (40, 3), (40, 10), (40, 59), (1, 10), (1, 59), (0, 10), (0, 59)],
)
def test_a_full_period_does_not_lower_the_batch_size(left: int, period_s: float) -> None:
    harness = make_harness(CONCURRENCY="1", MAX_ATTEMPTS="10")
    harness.receiver.refuse_if = quota(harness, 40, period_s, already=40 - left)
    points = [point(value) for value in range(60)]
    # Others may share the quota, so refusals in a row make the pace as slow as a request a minute.
    assert outcomes(harness.handle(points, 900_000)) == {"delivered": 60}
    harness.receiver.refuse_if = lambda _: None
    before = len(harness.receiver.requests)
    harness.handle(points, 900_000)
    assert len(harness.receiver.requests) - before == 2


def test_a_size_learned_from_a_full_period_grows_again() -> None:
    harness = make_harness(CONCURRENCY="1")
    points = [point(value) for value in range(60)]
    harness.receiver.script.extend([ReturnCode.TOO_MANY_METRICS] * 4)
    assert outcomes(harness.handle(points)) == {"delivered": 60}
    requests = []
    for _ in range(6):
        before = len(harness.receiver.requests)
        harness.handle(points)
        requests.append(len(harness.receiver.requests) - before)
        harness.clock.sleep(60)
    assert requests[0] > 20
    assert requests == sorted(requests, reverse=True)
    assert requests[-1] == 2


def test_one_point_that_is_too_long_does_not_lower_the_batch_size() -> None:
    harness = make_harness(BATCH_MAX_POINTS="64", CONCURRENCY="1")
    harness.receiver.refuse_if = poison("bad", code=ReturnCode.DATA_TOO_LONG)
    report = harness.handle([point(value, "bad" if value == 5 else "good") for value in range(64)])
    assert outcomes(report) == {"delivered": 63, "rejected": 1}
    before = len(harness.receiver.requests)
    harness.handle([point(value, "good") for value in range(64)])
    assert len(harness.receiver.requests) - before == 1


@pytest.mark.parametrize("status", [413, 414, 431])
def test_a_path_that_calls_every_request_too_large_makes_no_point_rejected(
    harness: Harness, status: int
) -> None:
    harness.receiver.script.extend([HttpReply(status, {}, b"")] * 20)
    report = harness.handle(ckafka(point(1), point(2, "other")))
    assert outcomes(report) == {"undelivered": 2}
    assert "even the smallest request" in report["errors"][0]["message"]
    harness.receiver.script.clear()
    harness.clock.sleep(3600)
    assert outcomes(harness.handle(ckafka(point(1), point(2, "other")))) == {"delivered": 2}


def test_a_point_that_is_too_large_while_the_smallest_request_is_not_is_rejected(harness: Harness) -> None:
    harness.receiver.script.append(HttpReply(413, {}, b""))
    assert outcomes(harness.handle(point())) == {"rejected": 1}


def test_points_of_one_series_keep_their_order_through_lanes_retries_and_halving() -> None:
    harness = make_harness(BATCH_MAX_POINTS="16", CONCURRENCY="4")
    harness.receiver.refuse_if = poison("bad")
    harness.receiver.script.extend([ReturnCode.NOT_READY, None, ReturnCode.INTERNAL_FAILURE, None] * 10)
    points = [
        point(value, "bad" if value % 97 == 0 else f"series{value % 7}", dimensions={})
        for value in range(1000)
    ]
    report = harness.handle(points)
    assert report["outcomes"]["undelivered"] == 0
    for series in range(7):
        arrived = [
            wire["value"] for _, wire in harness.receiver.points if wire["metricName"] == f"series{series}"
        ]
        assert arrived == sorted(arrived)
        assert len(arrived) == len(set(arrived))


@pytest.mark.parametrize(
    "answer", [ReturnCode.NOT_READY, ReturnCode.CLIENT_BLOCKED, Failure(Fault.UNREACHABLE, "refused")]
)
def test_nothing_more_is_sent_in_an_event_to_a_destination_that_is_down(
    answer: Answer | ReturnCode,
) -> None:
    harness = make_harness(BATCH_MAX_POINTS="1")
    always(harness, answer)
    report = harness.handle([point(value, f"m{value}") for value in range(100)])
    assert outcomes(report) == {"undelivered": 100}
    assert len(harness.receiver.requests) <= 4 * 4
    harness.receiver.script.clear()
    harness.clock.sleep(60)
    assert outcomes(harness.handle(point())) == {"delivered": 1}


def test_one_authentication_failure_stops_everything() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", SECRET_KEY="wrong")
    report = harness.handle([point(value, f"m{value}") for value in range(100)])
    assert outcomes(report) == {"undelivered": 100}
    assert len(harness.receiver.requests) <= 4
    assert report["errors"][0]["code"] == 1011


def test_a_wrong_clock_is_learned_from_the_reply_and_kept_while_warm(harness: Harness) -> None:
    harness.receiver.clock_offset_s = 90_000
    assert outcomes(harness.handle([point(value) for value in range(3)])) == {"delivered": 3}
    assert len(harness.receiver.requests) == 2
    harness.handle(point())
    assert len(harness.receiver.requests) == 3


def test_a_time_that_is_refused_without_a_date_does_not_claim_that_the_clock_was_corrected(
    harness: Harness,
) -> None:
    always(harness, HttpReply(200, {}, b'{"code":1021,"message":""}'))
    (error,) = harness.handle(point())["errors"]
    assert "this reply had none" in error["message"]
    assert "was corrected" not in error["message"]


@pytest.mark.parametrize("ahead_s", [600, -600])
def test_the_age_of_a_point_is_judged_by_the_receivers_clock_once_it_is_known(
    harness: Harness, ahead_s: int
) -> None:
    harness.receiver.clock_offset_s = -ahead_s
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    now = harness.clock.time() - ahead_s
    fresh, old = point(2, timestamp=now - 10), point(3, timestamp=now - 310)
    assert outcomes(harness.handle([fresh, old])) == {"delivered": 1, "stale": 1}


def test_a_page_with_a_date_does_not_set_the_clock(harness: Harness) -> None:
    date = formatdate(harness.clock.time() - 600, usegmt=True)
    always(harness, HttpReply(200, {"Date": date}, b"<html>"))
    harness.handle(point(1))
    harness.receiver.script.clear()
    harness.clock.sleep(60)
    assert outcomes(harness.handle(point(2, timestamp=harness.clock.time() - 10))) == {"delivered": 1}


def test_a_request_without_a_reply_is_sent_again_by_default(harness: Harness) -> None:
    harness.receiver.script.extend([Failure(Fault.UNANSWERED, "timeout")] * 2)
    report = harness.handle(point())
    assert outcomes(report) == {"delivered": 1}
    assert report["requests"] == {"sent": 3, "retried": 2, "returnCodes": {"0": 1, "no answer": 2}}


@pytest.mark.parametrize(
    "answer", [Failure(Fault.UNANSWERED, "timeout"), Failure(Fault.STALE, "reset"), HttpReply(200, {}, b""), HttpReply(504, {}, b"")]
)  # fmt: skip
def test_a_request_without_a_reply_is_held_if_the_setting_says_so(answer: Answer) -> None:
    harness = make_harness(UNCERTAIN="hold")
    harness.receiver.script.append(answer)
    report = harness.handle(point())
    assert outcomes(report) == {"uncertain": 1}
    assert len(harness.receiver.requests) == 1


def test_a_request_that_never_left_is_not_uncertain() -> None:
    harness = make_harness(UNCERTAIN="hold")
    harness.receiver.script.append(Failure(Fault.UNREACHABLE, "refused"))
    assert outcomes(harness.handle(point())) == {"delivered": 1}


def test_a_stale_connection_is_replaced_at_once_but_only_once(harness: Harness) -> None:
    harness.receiver.script.append(Failure(Fault.STALE, "reset"))
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    assert harness.clock.slept.count(0.0) == len(harness.clock.slept)
    always(harness, Failure(Fault.STALE, "reset"))
    report = harness.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert report["requests"]["sent"] == 5


@pytest.mark.slow
def test_a_hanging_receiver_does_not_hold_the_function_past_its_deadline(
    emulator: Emulator, connect: Callable[..., Application]
) -> None:
    emulator.fault("hang", times=None)
    application = connect(emulator, BATCH_MAX_POINTS="10")
    with ends_within(3):
        report = report_of(application, [point(value, f"m{value % 9}") for value in range(100)], 3000)
    assert outcomes(report) == {"undelivered": 100}
    assert report["requests"]["returnCodes"] == {"no answer": report["requests"]["sent"]}


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that sends its reply a byte at a time and never ends."""

    def drip(connection: socket.socket) -> None:
        while not stop.wait(0.1):
            connection.sendall(b"H")

    stop = threading.Event()
    with listening(drip) as address:
        yield f"http://{address}/v2/index.php"
        stop.set()


@pytest.mark.slow
@pytest.mark.parametrize(("hold", "outcome"), [("resend", "undelivered"), ("hold", "uncertain")])
def test_a_reply_that_never_ends_does_not_hold_the_function_past_its_deadline(
    dripping: str, hold: str, outcome: str
) -> None:
    application = Application(environ(RECEIVER_URL=dripping, UNCERTAIN=hold))
    with ends_within(1.5):
        report = report_of(application, [point(1), point(2)], 1500)
    assert outcomes(report) == {outcome: 2}


FAULTS: dict[str, tuple[dict[str, Any], int]] = {
    "reset before": ({"kind": "reset", "when": "before"}, 1),
    "reset after": ({"kind": "reset", "when": "after"}, 2),
    "hang": ({"kind": "hang", "value": 30}, 1),
    "hang after": ({"kind": "hang", "value": 30, "when": "after"}, 2),
    "garbage": ({"kind": "garbage"}, 1),
    "truncate": ({"kind": "truncate"}, 2),
    "unavailable": ({"kind": "status", "value": 503}, 1),
    "delay": ({"kind": "delay", "value": 0.1}, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "arrivals"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "kept-alive connection"])
def test_each_fault_on_the_wire_ends_in_delivery(
    emulator: Emulator,
    connect: Callable[..., Application],
    fault: dict[str, Any],
    arrivals: int,
    *,
    warm: bool,
) -> None:
    # Where nothing hangs, a busy machine is given the time that it needs.
    application = connect(emulator, REQUEST_TIMEOUT_S="1" if fault["kind"] == "hang" else "20")
    if warm:
        report_of(application, point(0))
    emulator.clear()
    emulator.fault(**fault)
    assert outcomes(report_of(application, point(1))) == {"delivered": 1}
    assert len(emulator.points()) == arrivals


def test_a_redirect_is_not_followed_and_not_delivered(
    emulator: Emulator, connect: Callable[..., Application]
) -> None:
    emulator.fault("status", 302, headers={"Location": emulator.url})
    report = report_of(connect(emulator), point())
    assert outcomes(report) == {"undelivered": 1}
    assert len(emulator.requests()) == 1


def test_a_refused_connection_never_left(connect: Callable[..., Application]) -> None:
    with Emulator() as emulator:
        application = connect(emulator, UNCERTAIN="hold", MAX_ATTEMPTS="2")
    report = report_of(application, point())
    assert outcomes(report) == {"undelivered": 1}
    assert report["requests"]["returnCodes"] == {"unreachable": 2}


def test_a_name_that_does_not_resolve_never_left() -> None:
    application = Application(
        environ(RECEIVER_URL="http://receiver.invalid:8080/v2/index.php", UNCERTAIN="hold", MAX_ATTEMPTS="1")
    )
    report = report_of(application, point())
    assert outcomes(report) == {"undelivered": 1}
    assert report["requests"]["returnCodes"] == {"unreachable": 1}


def test_a_proxy_named_by_the_environment_is_not_used(
    emulator: Emulator, connect: Callable[..., Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert outcomes(report_of(connect(emulator), point())) == {"delivered": 1}


# --- what happens at the very end -------------------------------------------------------------------------------


TIME_S = 0.2


class Gate:
    """Where a lane is held until the test lets it go, and where the event's time is up."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.clock = FakeClock()

    def pass_through(self) -> None:
        self.reached.set()
        self.clock.sleep(TIME_S)
        assert self.opened.wait(30)


class HeldPacer(Pacer):
    """Holds a lane after its request was accepted and before that is written down."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(machine_of(SystemClock()))
        self._gate = gate

    def accept(self) -> None:
        super().accept()
        self._gate.pass_through()


class HeldReceiver(PutMonitorDataDestination):
    """Holds a lane after its request was answered and before the answer is judged."""

    def __init__(self, transport: Transport, gate: Gate | None = None) -> None:
        super().__init__(
            url="http://receiver.test/v2/index.php",
            method="POST",
            region="gz",
            credentials=FixedCredentials(Credentials("id", Secret("key"))),
            transport=transport,
            machine=machine_of(SystemClock()),
            clocks=make_server_clocks(),
        )
        self._gate = gate

    def judge(self, reply: Answer) -> Verdict:
        if self._gate:
            self._gate.pass_through()
        return super().judge(reply)


class Agreeable:
    """A ``Transport`` that is told yes."""

    def send(self, request: HttpRequest, timeout_s: float) -> Answer:
        del request, timeout_s
        return HttpReply(200, {}, b'{"code":0}')


def make_sender(
    receiver: PutMonitorDataDestination,
    clock: Clock,
    pacer: Pacer,
    policy: Policy,
    *,
    jitter: Callable[[float], float] = lambda _: 0.0,
    tasks: Tasks | None = None,
) -> Sender:
    return Sender(
        receiver,
        policy=policy,
        limits=BatchLimits(1, 10_000),
        pacer=pacer,
        cool_down=CoolDown(clock),
        machine=machine_of(clock, jitter, tasks),
    )


def plain_point(number: int) -> Point:
    return Point(number, Series("pc", f"m{number}", {}), 1, None, None, Message("s", None), "", None, 0, b"")


def deliver_one(
    gate: Gate, receiver: PutMonitorDataDestination, pacer: Pacer, *, hold: bool
) -> tuple[Outcome, dict[str, int], Callable[[], dict[str, int]]]:
    """Deliver a point until the time is up: its outcome, the answers counted, and how they are counted later on."""
    policy = Policy(max_attempts=1, request_timeout_s=1, concurrency=1, hold_uncertain=hold)
    sender = make_sender(receiver, gate.clock, pacer, policy, tasks=Threads())
    settled: list[Outcome] = []
    lanes = set(threading.enumerate())
    counts = sender.deliver(
        [plain_point(0)],
        Deadline(gate.clock, TIME_S),
        lambda points, outcome, _verdict: settled.extend([outcome] * len(points)),
        BlockedSeries(),
    )
    assert gate.reached.is_set()
    told = dict(counts.answers)

    def later() -> dict[str, int]:
        stuck = set(threading.enumerate()) - lanes
        gate.opened.set()
        for lane in stuck:
            lane.join(30)
        return dict(counts.answers)

    (outcome,) = settled
    return outcome, told, later


@pytest.mark.parametrize("hold", [False, True], ids=["resend", "hold"])
def test_a_request_that_was_accepted_when_time_was_up_is_unanswered(*, hold: bool) -> None:
    gate = Gate()
    outcome, _, later = deliver_one(gate, HeldReceiver(Agreeable()), HeldPacer(gate), hold=hold)
    assert outcome is (Outcome.UNCERTAIN if hold else Outcome.UNDELIVERED)
    later()


def test_a_reply_after_the_end_of_the_event_is_not_counted() -> None:
    gate = Gate()
    pacer = Pacer(machine_of(SystemClock()))
    outcome, told, later = deliver_one(gate, HeldReceiver(Agreeable(), gate), pacer, hold=True)
    assert (outcome, told) == (Outcome.UNCERTAIN, {})
    assert later() == {}


# --- how often, and when, one request is tried -----------------------------------------------------------------


class Refusing:
    """A ``Transport`` that refuses so many requests with a code, and takes those after them."""

    def __init__(self, code: ReturnCode, meanwhile: Sequence[Callable[[], Any]]) -> None:
        """``meanwhile``: what happens during each of those that it refuses."""
        self._code = code
        self._meanwhile = deque(meanwhile)
        self.sent = 0

    def send(self, request: HttpRequest, timeout_s: float) -> Answer:
        del request, timeout_s
        self.sent += 1
        if not self._meanwhile:
            return HttpReply(200, {}, b'{"code":0}')
        self._meanwhile.popleft()()
        return HttpReply(200, {}, b'{"code":%d}' % self._code)


def deliver(
    transport: Transport, clock: FakeClock, pacer: Pacer, *, attempts: int, lanes: int = 1
) -> list[Outcome]:
    """What becomes of a point in each of so many lanes, which have an hour."""
    sender = make_sender(
        HeldReceiver(transport), clock, pacer, Policy(attempts, 1, lanes), jitter=lambda ceiling: ceiling / 2
    )
    settled: list[Outcome] = []
    sender.deliver(
        [plain_point(number) for number in range(lanes)],
        Deadline(clock, 3600),
        lambda points, outcome, _verdict: settled.extend([outcome] * len(points)),
        BlockedSeries(),
    )
    return settled


def nothing() -> None:
    """No other request is accepted meanwhile."""


def test_the_ceiling_of_the_pause_before_a_retry_doubles() -> None:
    clock = FakeClock()
    failing = Refusing(ReturnCode.INTERNAL_FAILURE, [nothing] * 9)
    assert deliver(failing, clock, Pacer(machine_of(clock)), attempts=10) == [Outcome.DELIVERED]
    assert [seconds for seconds in clock.slept if seconds] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


@pytest.mark.parametrize(
    ("others", "outcome", "sent"),
    [
        ("----------", Outcome.UNDELIVERED, 2),
        ("++++++++++", Outcome.DELIVERED, 11),
        ("+---------", Outcome.UNDELIVERED, 2),
        ("-+--------", Outcome.UNDELIVERED, 3),
    ],
)
def test_throttling_is_not_a_failed_attempt_while_other_requests_are_accepted(
    others: str, outcome: Outcome, sent: int
) -> None:
    clock = FakeClock()
    pacer = Pacer(machine_of(clock))
    crowded = Refusing(
        ReturnCode.TOO_MANY_REQUESTS, [pacer.accept if sign == "+" else nothing for sign in others]
    )
    assert deliver(crowded, clock, pacer, attempts=2) == [outcome]
    assert crowded.sent == sent


class MeetingPacer(Pacer):
    """Lets nobody go on before two have been told to slow down."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(machine_of(clock))
        self.is_probing = False
        self._both = threading.Barrier(2, timeout=30)

    def refuse(self) -> bool:
        is_news = super().refuse()
        self._both.wait()
        return is_news


def test_throttling_of_a_request_sent_before_the_pause_is_not_a_failed_attempt() -> None:
    clock = FakeClock()
    both = threading.Barrier(2, timeout=30)
    crowded = Refusing(ReturnCode.TOO_MANY_REQUESTS, [both.wait] * 2)
    settled = deliver(crowded, clock, MeetingPacer(clock), attempts=1, lanes=2)
    assert Counter(settled) == {Outcome.UNDELIVERED: 1, Outcome.DELIVERED: 1}


# --- what waits ---------------------------------------------------------------------------------------------------


UNDELIVERING: list[Answer | ReturnCode] = [
    ReturnCode.INTERNAL_FAILURE,
    ReturnCode.TOO_MANY_REQUESTS,
    HttpReply(500, {}, b""),
    Failure(Fault.UNANSWERED, "timeout"),
]


@pytest.mark.parametrize("answer", UNDELIVERING, ids=str)
def test_no_point_passes_an_undelivered_one_of_its_series(answer: Answer | ReturnCode) -> None:
    harness = make_harness(BATCH_MAX_POINTS="10", CONCURRENCY="1", MAX_ATTEMPTS="4")
    # Where the destination fails, one point and then the rest are tried once more.
    failures = 4 if answer is ReturnCode.TOO_MANY_REQUESTS else 12
    harness.receiver.script.extend([None, *[answer] * failures])
    event = ckafka(*(point(value, f"m{value % 2}") for value in range(40)))
    report = harness.handle(event)
    assert outcomes(report) == {"delivered": 10, "undelivered": 30}
    assert not harness.receiver.script
    harness.clock.sleep(60)
    assert outcomes(harness.handle(event, 300_000)) == {"delivered": 30, "duplicate": 10}
    arrived = values(harness.receiver.points)
    for series in range(2):
        assert [value for value in arrived if value % 2 == series] == [*range(series, 40, 2)]


def test_other_series_pass_an_undelivered_point() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1", MAX_ATTEMPTS="1")
    harness.receiver.script.append(ReturnCode.INTERNAL_FAILURE)
    report = harness.handle(ckafka(point(1, "a"), point(2, "b"), point(3, "a")))
    assert outcomes(report) == {"delivered": 1, "undelivered": 2}
    assert "an earlier point of its series is undelivered" in report["errors"][1]["message"]


def test_a_spooled_point_is_not_passed_by_a_later_one_of_its_series(tmp_path: Path) -> None:
    harness = make_harness(BATCH_MAX_POINTS="10", CONCURRENCY="1", MAX_ATTEMPTS="1", SPOOL=tmp_path.as_uri())
    harness.receiver.script.append(ReturnCode.INTERNAL_FAILURE)
    assert outcomes(harness.handle(ckafka(*(point(value) for value in range(30))))) == {"spooled": 30}
    replay = {"Type": "Timer", "TriggerName": "replay", "Time": "now", "Message": '{"replay": true}'}
    harness.handle(replay)
    assert values(harness.receiver.points) == [*range(30)]


# --- between events -----------------------------------------------------------------------------------------------


def test_a_refusal_of_everything_is_remembered_between_events() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1")
    harness.receiver.refuse_if = lambda _: ReturnCode.CLIENT_BLOCKED
    for number in range(60):
        report = harness.handle(point(number))
        assert outcomes(report) == {"undelivered": 1}
        assert report["errors"][0]["code"] == 1008
        harness.clock.sleep(1)
    assert len(harness.receiver.requests) == 5
    assert "not sent, since a request was refused" in report["errors"][0]["message"]


def test_each_redelivery_probes_with_one_request_whether_the_refusal_still_holds() -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="4")
    event = ckafka(*(point(value, f"m{value}") for value in range(20)))
    harness.receiver.refuse_if = lambda _: ReturnCode.CLIENT_BLOCKED
    for redelivery in range(10):
        before = len(harness.receiver.requests)
        assert outcomes(harness.handle(event)) == {"undelivered": 20}
        assert redelivery == 0 or len(harness.receiver.requests) == before + 1
        harness.clock.sleep(60)
    harness.receiver.refuse_if = lambda _: None
    assert outcomes(harness.handle(event)) == {"delivered": 20}
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    harness.handle(point(1))
    harness.clock.sleep(2.1)
    assert outcomes(harness.handle(point(2))) == {"delivered": 1}, "the pause begins anew after a success"


# --- without threads -------------------------------------------------------------------------------------------


def test_without_any_thread_all_points_are_undelivered_and_the_error_says_why(
    harness: Harness, starve: Callable[[], None]
) -> None:
    starve()
    report = harness.handle([point(1), point(2)])
    assert outcomes(report) == {"undelivered": 2}
    assert {error["rule"] for error in report["errors"]} == {"no thread"}
    assert "more memory" in report["errors"][0]["message"]


def test_delivery_goes_on_with_fewer_lanes_if_a_thread_cannot_start(starve: Callable[[], None]) -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="4")

    def take_the_memory(request: HttpRequest) -> HttpReply:
        starve()
        # Many times as long as it takes until other lanes are tried.
        time.sleep(0.1)
        return harness.receiver.process(request)

    harness.receiver.script.append(take_the_memory)
    report = harness.handle([point(value, f"m{value}") for value in range(20)])
    assert outcomes(report) == {"delivered": 20}


@pytest.mark.slow
def test_concurrency_is_used_and_bounded(connect: Callable[..., Application]) -> None:
    used = 0
    # Others join while the processor is idle, which it may not be for the first events on a busy machine.
    for event in range(10):
        with Emulator(EmulatorOptions(latency_s=0.05)) as emulator:
            points = [point(event, f"m{number}") for number in range(40)]
            report_of(connect(emulator, BATCH_MAX_POINTS="1"), points)
        used = max(used, len({request["connection"] for request in emulator.requests()}))
        if used >= 4:
            break
    assert used == 4
