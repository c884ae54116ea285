"""Prometheus remote write: the bytes, the rules of its specification, order, and what every answer leads to."""

import json
import math
import os
import re
import struct
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metric_forwarder import __version__
from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest, Transport
from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.delivery.batching import BatchLimits
from metric_forwarder.delivery.pacing import CoolDown, Pacer
from metric_forwarder.delivery.retry import Policy
from metric_forwarder.delivery.sender import Sender
from metric_forwarder.delivery.settling import BlockedSeries
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.remote_write import REFUSALS, STATUSES, RemoteWrite, status_rule
from metric_forwarder.destinations.remote_write_proof import UNREADABLE_BODY
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels, encode_points
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.errors import ConfigError
from metric_forwarder.model import Batch, Message, Outcome, Point, Series
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings
from support.fakes import START, Answer, FakeClock, InProcessPrometheus, machine_of
from support.harness import (
    ROOT,
    RemoteWriteHarness,
    ckafka,
    make_remote_write_harness,
    outcomes,
    point,
    remote_write_environ,
    report_of,
)
from support.redis_server import RedisServer
from support.remote_write import encode_series
from support.remote_write_decoder import DecodedSeries, decode

NOW_MS = round(START * 1000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SAMPLES = st.tuples(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-0.0, 5e-324, -5e-324, sys.float_info.max]),
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, NOW_MS]),
)
SERIES = st.tuples(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.lists(SAMPLES, max_size=4))


@pytest.mark.slow
@given(st.lists(SERIES, max_size=6))
@settings(max_examples=400, deadline=None)
@example([([("a", "é" * 70)], [(-0.0, 0)])] * 40)
def test_an_independent_decoder_reads_exactly_what_was_encoded(
    written: list[tuple[list[tuple[str, str]], list[tuple[float, int]]]],
) -> None:
    body = compress([encode_series(encode_labels(labels), samples) for labels, samples in written])
    read = decode(body)
    assert [series.labels for series in read] == [tuple(labels) for labels, _ in written]
    # Bit by bit: -0.0 is not 0.0.
    assert [[(time, struct.pack("<d", value)) for time, value in series.samples] for series in read] == [
        [(time, struct.pack("<d", value)) for value, time in samples] for _, samples in written
    ]


def sent(harness: Any) -> list[list[DecodedSeries]]:
    return [decode(request.body) for request in harness.prometheus.requests]


def stored(harness: Any, name: str = "pc_diskusage") -> list[tuple[int, float]]:
    """The samples of all series of a name, as they arrived."""
    return [
        sample
        for labels, samples in harness.prometheus.samples.items()
        if ("__name__", name) in labels
        for sample in samples
    ]


POINTS = st.builds(
    lambda metric, dimensions, value, timestamp: {
        "metricName": metric,
        "dimensions": dimensions,
        "value": value,
        "timestamp": timestamp,
    },
    st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True),
    st.dictionaries(
        st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,5}", fullmatch=True),
        TEXTS.filter(lambda text: len(text) < 20) | st.integers(-(2**63), 2**64 - 1),
        max_size=5,
    ),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    st.integers(10**11, 10**13),
)


# Around the bounds where a time needs one byte more, and where its first two bytes change.
NEAR_TIMES = st.integers(-20_000, 40_000) | st.integers(NOW_MS, NOW_MS + 40_000)


@given(
    st.lists(st.tuples(st.binary(max_size=200), SAMPLES | st.tuples(st.just(1.5), NEAR_TIMES)), max_size=20)
)
def test_a_point_is_encoded_among_others_as_a_series_of_one_sample_is_alone(
    points: list[tuple[bytes, tuple[float, int]]],
) -> None:
    labels, values, times = (
        zip(*((each, *sample) for each, sample in points), strict=True) if points else ((),) * 3
    )
    assert encode_points(labels, values, times) == [encode_series(each, [sample]) for each, sample in points]


@pytest.mark.slow
@given(st.lists(POINTS, max_size=25))
@settings(max_examples=150, deadline=None)
def test_every_request_keeps_the_rules_of_the_specification(points: list[dict[str, Any]]) -> None:
    harness = make_remote_write_harness(BATCH_MAX_POINTS="7")
    report = harness.handle(json.dumps(points))
    assert report["outcomes"]["undelivered"] == 0
    times: dict[Any, list[int]] = {}
    for series in (series for request in sent(harness) for series in request):
        names = [name for name, _ in series.labels]
        assert names == sorted(set(names))
        assert all(value for _, value in series.labels)
        assert dict(series.labels)["__name__"].startswith("pc_")
        assert series.samples
        times.setdefault(series.labels, []).extend(time for time, _ in series.samples)
    # Halving after a refusal sends a sample again, never an older one after a newer one.
    assert all(values == sorted(values) for values in times.values())
    arrived = sum(map(len, harness.prometheus.samples.values()))
    assert arrived <= report["outcomes"]["delivered"] <= arrived + len(points)


def test_a_request_has_the_headers_of_the_specification_and_says_who_sends_it() -> None:
    harness = make_remote_write_harness()
    harness.handle(point())
    request = harness.prometheus.requests[0]
    assert request.method == "POST"
    assert request.headers["Content-Encoding"] == "snappy"
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert request.headers["User-Agent"] == f"metric-forwarder/{__version__}"
    assert "Authorization" not in request.headers


def test_the_version_is_that_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomli.load(file)["project"]["version"] == __version__


@pytest.mark.parametrize("password", ["a b", "pä", "密码", "a:b"])
def test_a_password_beside_a_user_may_be_any_text(password: str) -> None:
    harness = make_remote_write_harness(REMOTE_WRITE_USER="u", REMOTE_WRITE_PASSWORD=password)
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    scheme, _, credentials = harness.prometheus.requests[0].headers["Authorization"].partition(" ")
    assert (scheme, b64decode(credentials).decode()) == ("Basic", f"u:{password}")


def test_user_and_password_make_basic_authentication_and_a_password_alone_a_bearer_token() -> None:
    harness = make_remote_write_harness(REMOTE_WRITE_USER="1250000000", REMOTE_WRITE_PASSWORD="to:ken")
    harness.handle(point())
    kind, _, told = harness.prometheus.requests[0].headers["Authorization"].partition(" ")
    assert (kind, b64decode(told)) == ("Basic", b"1250000000:to:ken")
    harness = make_remote_write_harness(REMOTE_WRITE_PASSWORD="token")
    harness.handle(point())
    assert harness.prometheus.requests[0].headers["Authorization"] == "Bearer token"


def test_a_namespace_goes_in_front_of_the_metric_name_and_empty_labels_are_left_out() -> None:
    harness = make_remote_write_harness()
    harness.handle(point(2, namespace="host", dimensions={"b": "2", "A": 1, "empty": ""}))
    assert list(harness.prometheus.samples) == [(("A", "1"), ("__name__", "host_diskusage"), ("b", "2"))]


def test_a_point_without_any_namespace_has_its_metric_name_as_it_is() -> None:
    harness = make_remote_write_harness(NAMESPACE="")
    assert outcomes(harness.handle(point(1, metric="node:load1"))) == {"delivered": 1}
    assert [dict(labels)["__name__"] for labels in harness.prometheus.samples] == ["node:load1"]


COLLISIONS = {
    "an underscore on either side": (point(1, "b_c", namespace="a"), point(2, "c", namespace="a_b")),
    "no namespace": (point(1, "a_b", namespace="x"), point(2, "x_a_b")),
    "an empty label": (point(1, dimensions={}), point(2, dimensions={"a": ""})),
}


@pytest.mark.parametrize(("first", "second"), COLLISIONS.values(), ids=COLLISIONS)
@pytest.mark.parametrize("split", [False, True], ids=["one event", "two events"])
def test_two_series_with_the_same_labels_are_not_mixed(first: Any, second: Any, *, split: bool) -> None:
    harness = make_remote_write_harness(NAMESPACE="")
    reports = [harness.handle(event) for event in ([[first], [second]] if split else [[first, second]])]
    total = {
        name: sum(outcomes(report).get(name, 0) for report in reports) for name in ("delivered", "invalid")
    }
    assert total == {"delivered": 1, "invalid": 1}
    error = reports[-1]["errors"][0]
    assert (error["rule"], error["pointer"]) == ("collision", "/0/metricName" if split else "/1/metricName")
    # The one that came first goes on.
    assert outcomes(harness.handle(first)) == {"delivered": 1}


NAMES: dict[str, tuple[dict[str, Any], str]] = {
    "a digit first": (point(metric="9a"), "/metricName"),
    "a hyphen": (point(metric="a-b"), "/metricName"),
    "a name of 1025 characters": (point(metric="a" * 1025), "/metricName"),
    "too long with its namespace": (point(metric="a" * 1024), "/metricName"),
    "a reserved label": (point(dimensions={"__name__": "x"}), "/dimensions/__name__"),
    "a label with a colon": (point(dimensions={"a:b": "x"}), "/dimensions/a:b"),
    "33 labels": (point(dimensions={f"a{n}": "x" for n in range(33)}), "/dimensions"),
    "a value of 2049 characters": (point(dimensions={"a": "x" * 2049}), "/dimensions/a"),
    "half a character": (point(dimensions={"a": "\ud800"}), "/dimensions/a"),
    "a namespace with a digit first": (point(namespace="9a"), "/namespace"),
}


@pytest.mark.parametrize(("bad", "pointer"), NAMES.values(), ids=NAMES)
def test_a_name_that_prometheus_does_not_accept_is_invalid_and_never_sent(bad: Any, pointer: str) -> None:
    harness = make_remote_write_harness()
    report = harness.handle([bad])
    assert outcomes(report) == {"invalid": 1}
    assert report["errors"][0]["pointer"] == "/0" + pointer
    assert harness.prometheus.requests == []


def test_a_default_namespace_that_makes_no_name_and_a_users_own_schema_do_not_get_past_that_either(
    tmp_path: Path,
) -> None:
    assert outcomes(make_remote_write_harness(NAMESPACE="9pc").handle(point())) == {"invalid": 1}
    schema = tmp_path / "own.json"
    schema.write_text("{}")
    harness = make_remote_write_harness(SCHEMA=str(schema))
    for bad in (point(metric="a-b"), point(dimensions={"__a": "x"}), point(dimensions={"a": "\ud800"})):
        assert outcomes(harness.handle(bad)) == {"invalid": 1}
    assert harness.prometheus.requests == []


def test_32_labels_and_2048_characters_beyond_ascii_are_fine() -> None:
    dimensions = {f"a{n}": "盘" * 2048 for n in range(32)}
    assert outcomes(make_remote_write_harness().handle(point(dimensions=dimensions))) == {"delivered": 1}


def test_an_old_point_is_not_stale_since_it_brings_its_time_along() -> None:
    harness = make_remote_write_harness()
    assert outcomes(harness.handle(point(timestamp=1000))) == {"delivered": 1}
    assert stored(harness) == [(1_000_000, 1.0)]


def test_a_point_without_a_timestamp_has_that_of_its_message_or_of_its_arrival() -> None:
    harness = make_remote_write_harness()
    timer = {
        "Type": "Timer",
        "TriggerName": "t",
        "Time": "2026-01-01T00:00:00.5Z",
        "Message": json.dumps(point(1)),
    }
    harness.handle(timer)
    harness.handle(ckafka(point(2, "other")))
    assert stored(harness) == [(1767225600500, 1.0)]
    assert stored(harness, "pc_other") == [(NOW_MS, 2.0)]


def test_readings_of_one_series_without_timestamps_all_arrive_a_millisecond_apart() -> None:
    harness = make_remote_write_harness()
    assert outcomes(harness.handle(ckafka(*[point(value) for value in range(100)]))) == {"delivered": 100}
    assert stored(harness) == [(NOW_MS + value, float(value)) for value in range(100)]


def test_points_of_one_series_are_sent_by_their_times_in_whatever_order_they_came() -> None:
    harness = make_remote_write_harness(BATCH_MAX_POINTS="2")
    came = [point(value, timestamp=START - 60 + second) for value, second in enumerate((30, 10, 50, 20, 40))]
    assert outcomes(harness.handle(came)) == {"delivered": 5}


def test_what_comes_after_a_burst_without_timestamps_is_not_out_of_order() -> None:
    harness = make_remote_write_harness()
    burst = ckafka(*[point(value) for value in range(100)])
    harness.prometheus.script.extend([None] * 99 + [HttpReply(401, {}, b"")])
    assert outcomes(harness.handle(burst)) == {"delivered": 99, "undelivered": 1}
    harness.clock.sleep(60)
    assert outcomes(harness.handle(burst)) == {"delivered": 1, "duplicate": 99}
    more = ckafka(*[point(value) for value in range(100, 200)], first_offset=100)
    assert outcomes(harness.handle(more)) == {"delivered": 100}
    assert [value for _, value in stored(harness)] == list(range(200))


def test_a_retry_sends_the_same_time_however_late_it_is() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.extend(
        [HttpReply(503, {"Retry-After": "5"}, b""), Failure(Fault.UNANSWERED, "timeout")]
    )
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    assert harness.clock.time() > START + 5
    assert sent(harness)[0] == sent(harness)[1] == sent(harness)[2]


@pytest.mark.parametrize("kind", ["undelivered", "rejected"])
def test_a_point_that_was_spooled_keeps_its_time_and_older_points_of_a_series_are_replayed_first(
    tmp_path: Path, kind: str
) -> None:
    harness = make_remote_write_harness(SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    down = HttpReply(500 if kind == "undelivered" else 400, {}, b"")
    harness.prometheus.script.extend([down] * 50)
    points = [point(2, timestamp=NOW_MS + 2000), point(3), point(1, timestamp=NOW_MS - 1000)]
    report = harness.handle(ckafka(*points))
    assert outcomes(report) == {"spooled" if kind == "undelivered" else "rejected": 3}
    harness.prometheus.script.clear()
    harness.clock.sleep(3600)
    job = json.dumps({"replay": True, "deadLetters": True})
    replay = {"Type": "Timer", "TriggerName": "replay", "Time": "2026-01-01T09:00:00Z", "Message": job}
    assert outcomes(harness.handle(replay)) == {"delivered": 3}
    assert stored(harness) == [(NOW_MS - 1000, 1.0), (NOW_MS, 3.0), (NOW_MS + 2000, 2.0)]


def test_no_point_passes_an_earlier_one_of_its_series_that_is_undelivered() -> None:
    harness = make_remote_write_harness(MAX_ATTEMPTS="1")
    # The first request holds the oldest point of each series.
    harness.prometheus.script.append(HttpReply(500, {}, b""))
    points = [point(value, f"m{value % 3}", timestamp=NOW_MS + value) for value in range(9)]
    points += [point(9, "m3", timestamp=NOW_MS + 9), point(10, "m3", timestamp=NOW_MS + 10)]
    report = harness.handle(ckafka(*points))
    assert outcomes(report) == {"undelivered": 11}
    assert report["requests"]["sent"] == 1
    assert "must not pass it" in report["errors"][-1]["message"]
    assert outcomes(harness.handle(ckafka(*points))) == {"delivered": 11}
    assert [value for _, value in stored(harness, "pc_m0")] == [0, 3, 6]


def test_series_that_are_not_held_up_go_on() -> None:
    harness = make_remote_write_harness(MAX_ATTEMPTS="1", BATCH_MAX_POINTS="1", CONCURRENCY="1")
    harness.prometheus.script.append(HttpReply(500, {}, b""))
    points = [point(value, f"m{value % 2}", timestamp=NOW_MS + value) for value in range(6)]
    assert outcomes(harness.handle(points)) == {"undelivered": 3, "delivered": 3}
    assert [value for _, value in stored(harness, "pc_m1")] == [1, 3, 5]


def test_a_replay_holds_back_a_series_across_the_files_of_the_spool(tmp_path: Path) -> None:
    harness = make_remote_write_harness(SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    for value in range(3):
        harness.prometheus.script.append(HttpReply(500, {}, b""))
        assert outcomes(harness.handle(point(value, timestamp=NOW_MS + value))) == {"spooled": 1}
    harness.prometheus.script.append(HttpReply(500, {}, b""))
    replay = {
        "Type": "Timer",
        "TriggerName": "r",
        "Time": "2026-01-01T09:00:00Z",
        "Message": '{"replay": true}',
    }
    report = harness.handle(replay)
    assert outcomes(report) == {"spooled": 3}
    assert report["requests"]["sent"] == 1
    assert outcomes(harness.handle(replay)) == {"delivered": 3}
    assert [value for _, value in stored(harness)] == [0, 1, 2]


@pytest.mark.parametrize("is_partial", [False, True], ids=["all or nothing", "stores what is good"])
def test_a_sample_out_of_order_is_rejected_and_named_and_the_rest_arrives(*, is_partial: bool) -> None:
    harness = make_remote_write_harness(is_partial=is_partial)
    harness.handle(point(1, "late", timestamp=NOW_MS))
    points = [point(value, f"m{value % 7}", timestamp=NOW_MS + value) for value in range(50)]
    points[20] = point(20, "late", timestamp=NOW_MS - 1)
    points[30] = point(30, "late", timestamp=NOW_MS)
    report = harness.handle(ckafka(points, topic="t"))
    assert outcomes(report) == {"delivered": 48, "rejected": 2}
    assert {(error["source"], error["pointer"], error["rule"]) for error in report["errors"]} == {
        ("t/0@0", "/20", "out of order"),
        ("t/0@0", "/30", "other value"),
    }
    assert sum(map(len, harness.prometheus.samples.values())) == 49


@pytest.mark.parametrize("is_partial", [False, True], ids=["all or nothing", "stores what is good"])
def test_a_request_that_was_taken_without_an_answer_is_taken_again_and_changes_nothing(
    *, is_partial: bool
) -> None:
    harness = make_remote_write_harness(is_partial=is_partial)

    def lose_answer(request: Any) -> Answer:
        harness.prometheus.process(request)
        return Failure(Fault.UNANSWERED, "timeout")

    harness.prometheus.script.extend([lose_answer, None] * 10)
    points = [point(value, f"m{value % 3}", timestamp=NOW_MS + value) for value in range(30)]
    assert outcomes(harness.handle(points)) == {"delivered": 30}
    assert sum(map(len, harness.prometheus.samples.values())) == 30


ANSWERS: dict[int, tuple[str, int]] = {
    # What two points of two series come to when every request is answered so: the outcome, and the requests it takes.
    200: ("delivered", 1),
    202: ("delivered", 1),
    204: ("delivered", 1),
    206: ("undelivered", 1),
    207: ("undelivered", 1),
    299: ("undelivered", 1),
    301: ("undelivered", 1),
    304: ("undelivered", 1),
    400: ("rejected", 3),
    401: ("undelivered", 1),
    403: ("undelivered", 1),
    404: ("undelivered", 1),
    405: ("undelivered", 1),
    408: ("undelivered", 1),
    409: ("rejected", 3),
    413: ("rejected", 3),
    415: ("undelivered", 1),
    418: ("rejected", 3),
    422: ("rejected", 3),
    429: ("undelivered", 4),
    500: ("undelivered", 4),
    501: ("undelivered", 4),
    502: ("undelivered", 4),
    503: ("undelivered", 4),
    504: ("undelivered", 4),
    599: ("undelivered", 4),
}


@pytest.mark.parametrize("status", ANSWERS)
def test_each_status_has_its_verdict(status: int) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.extend([HttpReply(status, {}, b"secret of the destination")] * 20)
    report = harness.handle([point(1, "a"), point(2, "b")])
    outcome, requests = ANSWERS[status]
    assert outcomes(report) == {outcome: 2}
    assert report["requests"]["sent"] == requests
    assert "secret of the destination" not in json.dumps(report)


def test_every_status_from_100_to_599_has_a_rule_that_retries_as_the_specification_says() -> None:
    again = {Action.RETRY, Action.RESEND, Action.HOLD_OFF, Action.SLOW_DOWN}
    for status in range(100, 600):
        rule = status_rule(status)
        assert (rule.action is Action.ACCEPT) == (200 <= status < 205)
        assert (rule.action in again) == (status >= 500 or status == 429), status
        assert rule.remedy
    assert set(STATUSES) <= set(range(400, 600))


# The own pace after a refused first request may ask for more, up to 14 seconds.
@pytest.mark.parametrize(("status", "most_s"), [(429, 15), (503, 9)])
def test_retry_after_is_kept(status: int, most_s: int) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(status, {"Retry-After": "7"}, b""))
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    assert 7 <= harness.clock.monotonic() < most_s


SPOKEN = {
    "Prometheus, order": (400, "out of order sample\n", "out of order"),
    "Prometheus, window": (400, "too old sample\n", "too old"),
    "Prometheus, bounds": (400, "out of bounds\n", "too old"),
    "Prometheus, value": (400, "duplicate sample for timestamp\n", "other value"),
    "Thanos": (
        409,
        "store locally for endpoint: conflict: add 1 samples: out of order sample",
        "out of order",
    ),
    "Mimir, order": (400, "user=1: err-mimir-sample-out-of-order. The affected sample", "out of order"),
    "Mimir, age": (400, "user=1: err-mimir-sample-timestamp-too-old. The affected sample", "too old"),
    "Mimir, value": (400, "user=1: err-mimir-sample-duplicate-timestamp. The affected", "other value"),
    "Mimir, future": (400, "user=1: err-mimir-too-far-in-future. The sample", "in the future"),
    "in capitals": (422, "OUT OF ORDER", "out of order"),
    "something else": (400, "label name too long", "http 400"),
    "no text": (400, "\ufffd", "http 400"),
    "a text too far behind": (400, " " * 5000 + "out of order", "http 400"),
}


def test_an_old_prometheus_refuses_a_sample_beyond_its_window_with_500_and_these_words_alone() -> None:
    for text, outcome in ((b"too old sample\n", "rejected"), (b"the disk: too old sample\n", "undelivered")):
        harness = make_remote_write_harness()
        harness.prometheus.script.extend([HttpReply(500, {}, text)] * 9)
        assert outcomes(harness.handle(point())) == {outcome: 1}, text


@pytest.mark.parametrize(("status", "text", "label"), SPOKEN.values(), ids=SPOKEN)
def test_a_refusal_is_understood_by_its_words_and_reported_in_ours(
    status: int, text: str, label: str
) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(status, {}, text.encode() + b"\xff secret"))
    report = harness.handle(point())
    assert outcomes(report) == {"rejected": 1}
    error = report["errors"][0]
    assert (error["rule"], error["code"]) == (label, status)
    assert "secret" not in json.dumps(report)
    assert label == "http 400" or error["message"] in {refusal.reason for refusal in REFUSALS}


NO_SUCCESS: dict[str, tuple[str, bytes]] = {
    "a sign-in page": ("text/html; charset=utf-8", b"<!doctype html><title>Sign in</title>"),
    "a page that is called something else": ("application/octet-stream", b"\xef\xbb\xbf\n <html>"),
    "an error of Prometheus": ("application/json", b'{"status":"error","errorType":"bad_data"}'),
    "an error in capitals": ("", b'{"Error": "no such topic"}'),
    "an error of Tencent Cloud": ("", b'{"Response":{"Error":{"Code":"AuthFailure"},"RequestId":"x"}}'),
    "an error of the receiver": ("text/plain", '{"code":1008,"message":"封禁"}'.encode()),
    "a status in its text": ("application/json", b'{"status": 401}'),
}
SUCCESS: dict[str, tuple[str, bytes]] = {
    "nothing": ("text/html", b""),
    "a word": ("text/plain", b"OK"),
    "no error": ("application/json", b'{"status":"success","errors":[],"code":0,"error":null}'),
    "JSON that is none": ("application/json", b'{"error": ' + b"[" * 100_000),
    "an empty object": ("application/json", b"{}"),
}


@pytest.mark.parametrize(("kind", "text"), NO_SUCCESS.values(), ids=NO_SUCCESS)
def test_a_success_with_a_page_or_an_error_in_its_text_is_none(kind: str, text: bytes) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(200, {"Content-Type": kind}, text))
    report = harness.handle([point(1), point(2, "other")])
    assert outcomes(report) == {"undelivered": 2}
    assert "MF_REMOTE_WRITE_URL" in report["errors"][0]["message"]


@pytest.mark.parametrize(("kind", "text"), SUCCESS.values(), ids=SUCCESS)
def test_a_success_without_an_error_in_its_text_is_a_success(kind: str, text: bytes) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(200, {"Content-Type": kind}, text))
    assert outcomes(harness.handle([point(1), point(2, "other")])) == {"delivered": 2}


def test_no_point_is_sent_to_what_takes_a_body_that_no_remote_write_can_read() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = HttpReply(204, {}, b"")
    for _ in range(2):
        report = harness.handle(point())
        assert outcomes(report) == {"undelivered": 1}
        assert "correct the URL" in report["errors"][0]["message"]
        assert report["requests"]["sent"] == 0
        harness.clock.sleep(60)
    assert harness.prometheus.requests == []
    # Somebody has corrected the endpoint; the instance is the same.
    harness.prometheus.proof_answer = HttpReply(400, {}, b"")
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    assert len(harness.prometheus.proofs) == 3


def test_an_endpoint_proves_itself_once_while_an_instance_is_warm_and_that_is_not_a_request_of_an_event() -> (
    None
):
    harness = make_remote_write_harness(REMOTE_WRITE_PASSWORD="token")
    for number in range(3):
        report = harness.handle(point(number))
        assert report["requests"] == {"sent": 1, "retried": 0, "returnCodes": {"http 204": 1}}
    (proof,) = harness.prometheus.proofs
    assert proof.headers == harness.prometheus.requests[0].headers


REFUSING = [400, 401, 403, 404, 405, 409, 415, 422, 500, 501, 302]
NOT_ANSWERING: list[Answer] = [
    Failure(Fault.UNANSWERED, "timeout"),
    Failure(Fault.UNREACHABLE, "ConnectionRefusedError"),
    HttpReply(429, {}, b""),
    HttpReply(503, {}, b""),
    HttpReply(504, {}, b""),
]


@pytest.mark.parametrize("status", REFUSING)
def test_whatever_refuses_an_unreadable_body_is_sent_the_points(status: int) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = HttpReply(status, {}, b"")
    assert outcomes(harness.handle([point(1), point(2, "other")])) == {"delivered": 2}
    assert len(harness.prometheus.proofs) == 1


@pytest.mark.parametrize("answer", NOT_ANSWERING)
def test_an_endpoint_that_does_not_answer_the_proof_is_sent_points_and_asked_again_after_its_first_success(
    answer: Answer,
) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = answer
    # It tells points from what it cannot read: that is what was to be proven.
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2, "other"))) == {"delivered": 1}
    assert len(harness.prometheus.proofs) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_is_asked_for_instead_of_a_proof_is_kept(status: int) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = HttpReply(status, {"Retry-After": "7200"}, b"")
    for _ in range(2):
        assert outcomes(harness.handle(point())) == {"undelivered": 1}
    assert (len(harness.prometheus.proofs), len(harness.prometheus.requests)) == (1, 0)
    harness.clock.sleep(60)
    assert outcomes(harness.handle(point())) == {"delivered": 1}


def test_a_success_asks_for_no_pause_whatever_its_head_says() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(204, {"Retry-After": "7200"}, b""))
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2, "other"))) == {"delivered": 1}


def test_a_pause_that_is_asked_for_after_the_first_success_is_kept() -> None:
    harness = make_remote_write_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1")
    harness.prometheus.proof_answer = Failure(Fault.UNANSWERED, "timeout")

    def become_busy(request: HttpRequest) -> Answer:
        harness.prometheus.proof_answer = HttpReply(503, {"Retry-After": "7200"}, b"")
        return harness.prometheus.process(request)

    harness.prometheus.script.append(become_busy)
    report = harness.handle(ckafka(point(1), point(2, "other")))
    assert outcomes(report) == {"delivered": 1, "undelivered": 1}
    assert len(harness.prometheus.requests) == 1


def test_a_success_is_not_believed_if_the_endpoint_then_takes_what_no_remote_write_can_read() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = Failure(Fault.UNANSWERED, "timeout")

    def recover(request: HttpRequest) -> Answer:
        del request
        harness.prometheus.proof_answer = HttpReply(204, {}, b"")
        return HttpReply(204, {}, b"")

    harness.prometheus.script.append(recover)
    report = harness.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert "correct the URL" in report["errors"][0]["message"]


def _believed_endpoint() -> RemoteWriteHarness:
    """A harness whose endpoint has accepted a point, and has never replied to the proof."""
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = Failure(Fault.UNANSWERED, "timeout")
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    return harness


def test_an_endpoint_that_is_believed_without_a_proof_is_found_out_when_it_replies_again() -> None:
    harness = _believed_endpoint()
    harness.prometheus.proof_answer = HttpReply(204, {}, b"")
    harness.clock.sleep(60)
    report = harness.handle(point(2))
    assert outcomes(report) == {"undelivered": 1}
    assert "correct the URL" in report["errors"][0]["message"]


def test_an_endpoint_that_never_replies_to_the_proof_goes_on_taking_points_and_is_asked_once_a_minute() -> (
    None
):
    harness = _believed_endpoint()
    for value in range(12):
        harness.clock.sleep(10)
        assert outcomes(harness.handle(point(value))) == {"delivered": 1}
    assert len(harness.prometheus.proofs) == 4


def test_an_endpoint_that_is_believed_is_not_asked_any_more_once_it_has_proven_itself() -> None:
    harness = _believed_endpoint()
    harness.prometheus.proof_answer = HttpReply(400, {}, b"")
    for value in range(5):
        harness.clock.sleep(60)
        assert outcomes(harness.handle(point(value))) == {"delivered": 1}
    assert len(harness.prometheus.proofs) == 3


def test_an_endpoint_in_its_cool_down_is_not_asked_to_prove_itself() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.proof_answer = HttpReply(429, {}, b"")
    harness.prometheus.script.append(HttpReply(429, {"Retry-After": "600"}, b""))
    for _ in range(5):
        assert outcomes(harness.handle(point())) == {"undelivered": 1}
    assert (len(harness.prometheus.proofs), len(harness.prometheus.requests)) == (1, 1)


def test_no_point_is_rejected_at_a_path_that_refuses_everything() -> None:
    harness = make_remote_write_harness(CONCURRENCY="1")
    harness.prometheus.empty_answer = HttpReply(400, {}, b"bad request")
    harness.prometheus.script.extend([HttpReply(400, {}, b"bad request")] * 200)
    event = ckafka(*(point(value, f"m{value}") for value in range(50)))
    for _ in range(2):
        report = harness.handle(event)
        assert outcomes(report) == {"undelivered": 50}
        assert "correct the URL" in report["errors"][0]["message"]
        harness.clock.sleep(60)
    assert len(harness.prometheus.empty_requests) == 2
    # Somebody has corrected the path.
    harness.prometheus.script.clear()
    harness.prometheus.empty_answer = HttpReply(204, {}, b"")
    assert outcomes(harness.handle(event)) == {"delivered": 50}


def test_a_bad_point_is_rejected_where_an_empty_request_is_taken_which_is_asked_once() -> None:
    harness = make_remote_write_harness(CONCURRENCY="1")
    harness.prometheus.refuse_if = lambda series: "bad" in dict(series.labels)
    event = [
        point(value, dimensions={"bad": "1"} if value % 9 == 0 else {"good": str(value)})
        for value in range(90)
    ]
    assert outcomes(harness.handle(event)) == {"delivered": 80, "rejected": 10}
    assert len(harness.prometheus.empty_requests) <= 1


@pytest.mark.parametrize("answer", NOT_ANSWERING)
def test_no_point_is_rejected_while_it_is_unknown_whether_the_endpoint_accepts_an_empty_request(
    answer: Answer,
) -> None:
    harness = make_remote_write_harness(CONCURRENCY="1")
    harness.prometheus.empty_answer = answer
    harness.prometheus.script.extend([HttpReply(400, {}, b"bad request")] * 20)
    report = harness.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert "check its health" in report["errors"][0]["message"]


def test_a_known_refusal_of_a_sample_needs_no_empty_request() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.empty_answer = HttpReply(400, {}, b"")
    harness.prometheus.script.append(HttpReply(400, {}, b"out of order sample"))
    assert outcomes(harness.handle(point())) == {"rejected": 1}
    assert harness.prometheus.empty_requests == []


def test_with_the_check_off_every_reply_is_believed_and_nothing_but_points_is_sent() -> None:
    harness = make_remote_write_harness(REMOTE_WRITE_CHECK="off")
    harness.prometheus.proof_answer = HttpReply(204, {}, b"")
    harness.prometheus.empty_answer = HttpReply(400, {}, b"")
    harness.prometheus.script.extend([None, HttpReply(400, {}, b"bad")])
    assert outcomes(harness.handle(point(1))) == {"delivered": 1}
    assert outcomes(harness.handle(point(2))) == {"rejected": 1}
    assert harness.prometheus.proofs == harness.prometheus.empty_requests == []


def make_destination(transport: Transport, url: str = "http://a/b", user: str = "") -> RemoteWrite:
    return RemoteWrite(
        url=url,
        user=user,
        password=Secret(""),
        transport=transport,
        machine=machine_of(FakeClock()),
        clocks=make_server_clocks(),
    )


UNKNOWN_PATH = 'remoteAddr: "10.0.0.1:6030"; requestURI: /api; unsupported path requested: "/api"\n'


def test_a_path_that_is_unknown_with_status_400_stops_and_rejects_nothing() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(400, {}, UNKNOWN_PATH.encode()))
    report = harness.handle([point(1), point(2, "other")])
    assert outcomes(report) == {"undelivered": 2}
    assert "MF_REMOTE_WRITE_URL" in report["errors"][0]["message"]
    assert len(harness.prometheus.requests) == 1


def test_a_label_that_an_answer_repeats_cannot_stop_the_delivery() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(400, {}, f"invalid label: {UNKNOWN_PATH}".encode()))
    assert outcomes(harness.handle([point(1), point(2, "other")])) == {"delivered": 2}


@given(st.integers(100, 599), st.binary(max_size=100), st.text(max_size=20))
def test_no_answer_whatsoever_raises(status: int, body: bytes, header: str) -> None:
    destination = make_destination(Stuck())
    verdict = destination.judge(HttpReply(status, {"Date": header, "Retry-After": header}, body))
    if verdict.action is Action.ACCEPT:
        assert 200 <= status < 205
    assert verdict.retry_after_s is None or math.isfinite(verdict.retry_after_s)


@pytest.mark.parametrize("place", [0, 1, 255, 256, 498, 499])
def test_one_poison_point_in_five_hundred_is_found_and_named(place: int) -> None:
    harness = make_remote_write_harness()
    harness.prometheus.refuse_if = lambda series: ("bad", "yes") in series.labels
    points = [
        point(value, dimensions={"n": value, "bad": "yes" if value == place else ""}) for value in range(500)
    ]
    report = harness.handle(points)
    assert outcomes(report) == {"delivered": 499, "rejected": 1}
    assert report["errors"][0]["pointer"] == f"/{place}"
    assert report["requests"]["sent"] <= 2 + 2 * math.log2(500)


def test_the_receivers_settings_are_not_needed_and_remote_writes_not_for_the_receiver() -> None:
    told = Settings.read(remote_write_environ())
    assert (told.destination, told.region, told.batch_max_points) == ("remote-write", "", 500)
    assert Settings.read(remote_write_environ(BATCH_MAX_POINTS="3")).batch_max_points == 3
    receiver = {"MF_SECRET_ID": "id", "MF_SECRET_KEY": "key", "MF_REGION": "gz"}
    assert Settings.read(receiver).batch_max_points == 30


WRONG = {
    "no URL": ({"REMOTE_WRITE_URL": ""}, "MF_REMOTE_WRITE_URL is empty"),
    "no URL at all": ({"REMOTE_WRITE_URL": "prometheus"}, 'MF_REMOTE_WRITE_URL is "prometheus"'),
    "a password in the URL": (
        {"REMOTE_WRITE_URL": "http://u:hidden@h/w"},
        "MF_REMOTE_WRITE_URL cannot be used",
    ),
    "a colon": ({"REMOTE_WRITE_USER": "a:b", "REMOTE_WRITE_PASSWORD": "p"}, "without a colon"),
    "a user alone": ({"REMOTE_WRITE_USER": "a"}, "MF_REMOTE_WRITE_PASSWORD is empty"),
    "a line break": ({"REMOTE_WRITE_PASSWORD": "hidden\nhidden"}, "MF_REMOTE_WRITE_PASSWORD cannot be used"),
    "a space in a token": (
        {"REMOTE_WRITE_PASSWORD": "hidden hidden"},
        "MF_REMOTE_WRITE_PASSWORD cannot be used in a header",
    ),
    "another destination": ({"DESTINATION": "prometheus"}, 'MF_DESTINATION is "prometheus"'),
}


@pytest.mark.parametrize(("given_settings", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named_without_a_secret(given_settings: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.read(remote_write_environ(**given_settings))
    assert text in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("name", ["USER", "PASSWORD"])
def test_what_no_header_can_hold_is_a_configuration_error(name: str) -> None:
    environ = remote_write_environ(**{"REMOTE_WRITE_PASSWORD": "s", f"REMOTE_WRITE_{name}": "s3cr\udce9t"})
    with pytest.raises(ConfigError, match=f"MF_REMOTE_WRITE_{name} cannot be used in"):
        Application(environ).handle(point(), {})


def test_a_password_is_not_printed_and_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    environ = remote_write_environ(REMOTE_WRITE_PASSWORD="hidden-token", LOG_LEVEL="DEBUG")
    assert "hidden-token" not in repr(Settings.read(environ))
    harness = make_remote_write_harness(REMOTE_WRITE_PASSWORD="hidden-token", LOG_LEVEL="DEBUG")
    harness.prometheus.script.append(HttpReply(401, {}, b"hidden-token"))
    harness.handle(point())
    assert "hidden-token" not in capsys.readouterr().out


def test_headers_of_the_settings_are_sent_and_tell_tenants_apart_without_a_secret_in_the_scope() -> None:
    clock = FakeClock()

    def made(**headers: str) -> tuple[InProcessPrometheus, RemoteWrite]:
        prometheus = InProcessPrometheus(clock)
        named = {name.replace("_", "-"): Secret(text) for name, text in headers.items()}
        return prometheus, RemoteWrite(
            url="http://a/b?tenant=1",
            user="",
            password=Secret(""),
            transport=prometheus,
            machine=machine_of(clock),
            clocks=make_server_clocks(),
            headers=named,
        )

    prometheus, destination = made(X_Scope_OrgID="team-a", content_type="text/plain")
    destination.send([], 1)
    (request,) = prometheus.empty_requests
    assert request.url == "http://a/b?tenant=1"
    assert request.headers["X-Scope-OrgID"] == "team-a"
    assert [value for name, value in request.headers.items() if name.lower() == "content-type"] == [
        "application/x-protobuf"
    ]
    scopes = {
        made(**headers)[1].scope for headers in ({}, {"T": "secret1"}, {"T": "secret2"}, {"U": "secret1"})
    }
    assert len(scopes) == 4
    assert "secret" not in "".join(scopes)


def test_what_one_endpoint_has_taken_another_one_has_not() -> None:
    def scope(url: str, user: str = "") -> str:
        return make_destination(Stuck(), url=url, user=user).scope

    assert len({scope("http://a/topic1"), scope("http://a/topic2"), scope("http://a/topic1", "user")}) == 3


WITHOUT_CRAMJAM = """
import sys
sys.modules["cramjam"] = None
from support.harness import remote_write_environ
from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError
try:
    Application(remote_write_environ()).handle([], {})
except ConfigError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_missing_package_is_a_configuration_error_that_names_the_extra() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_CRAMJAM],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])},
    ).stdout
    assert "make package EXTRAS=remote-write to" in told


class Stuck:
    """A ``Transport`` that answers nothing until it is let go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.sent = 0

    def send(self, request: HttpRequest, timeout_s: float) -> Answer:
        del timeout_s
        if request.body == UNREADABLE_BODY:
            return HttpReply(400, {}, b"")
        self.sent += 1
        self.released.wait(60)
        return HttpReply(204, {}, b"")


def test_what_time_did_not_suffice_for_is_not_passed_in_a_later_part_of_the_event() -> None:
    clock, transport = SystemClock(), Stuck()
    destination = make_destination(transport)
    sender = Sender(
        destination,
        policy=Policy(max_attempts=1, request_timeout_s=1, concurrency=1),
        limits=BatchLimits(10, 10_000),
        pacer=Pacer(machine_of(clock)),
        cool_down=CoolDown(clock),
        machine=machine_of(clock),
    )
    settled: dict[int, Outcome] = {}

    def settle(points: Batch, outcome: Outcome, verdict: Verdict) -> None:
        del verdict
        settled.update(dict.fromkeys((each.number for each in points), outcome))

    blocked = BlockedSeries()
    for number in range(2):
        series = Series("pc", "m", {})
        assert destination.prepare_series(series, {}) is None
        time_ms = NOW_MS + number
        (wire,) = destination.encode([series], [number], [time_ms])
        each = Point(number, series, number, NOW_MS, None, Message("s", None), "", None, time_ms, wire)
        until = Deadline(clock, clock.monotonic() + 0.2)
        sender.deliver([each], until, settle, blocked)
    transport.released.set()
    assert settled == {0: Outcome.UNDELIVERED, 1: Outcome.UNDELIVERED}
    assert transport.sent == 1


def test_a_single_point_that_is_refused_is_never_sent_again() -> None:
    for status in (400, 401, 404, 408, 409, 413, 422):
        harness = make_remote_write_harness()
        harness.prometheus.script.append(HttpReply(status, {}, b""))
        harness.handle(point())
        assert len(harness.prometheus.requests) == 1, status


def too_large_if(is_too_large: Callable[[HttpRequest], bool]) -> RemoteWriteHarness:
    """A Prometheus behind a proxy that answers 413 to some requests."""
    harness = make_remote_write_harness()
    prometheus = harness.prometheus
    behind = prometheus.send

    def send(request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        return HttpReply(413, {}, b"") if is_too_large(request) else behind(request, timeout_s)

    prometheus.send = send  # type: ignore[method-assign]
    return harness


def test_a_proxy_that_calls_every_request_too_large_makes_no_point_rejected() -> None:
    refuses = [True]
    harness = too_large_if(lambda _: refuses[0])
    event = ckafka([point(1, "a"), point(2, "b")])
    report = harness.handle(event)
    assert outcomes(report) == {"undelivered": 2}
    assert "even the smallest request" in report["errors"][0]["message"]
    refuses[0] = False
    harness.clock.sleep(3600)
    assert outcomes(harness.handle(event)) == {"delivered": 2}


def test_a_pause_that_is_asked_for_instead_of_judging_the_smallest_request_is_kept() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.append(HttpReply(413, {}, b""))
    harness.prometheus.empty_answer = HttpReply(503, {"Retry-After": "7200"}, b"")
    for _ in range(2):
        assert outcomes(harness.handle(point())) == {"undelivered": 1}
    assert (len(harness.prometheus.requests), len(harness.prometheus.empty_requests)) == (1, 1)


@pytest.mark.parametrize("limit", [400, 4_000])
def test_a_point_that_is_too_large_for_a_proxy_is_rejected_alone(limit: int) -> None:
    large = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(2_000))
    event = ckafka(point(1, dimensions={"a": large}), point(2), point(3, "other"))
    harness = too_large_if(lambda request: len(request.body or b"") > limit)
    report = harness.handle(event)
    assert outcomes(report) == {"delivered": 2, "rejected": 1}
    assert report["errors"][0]["code"] == 413


def test_a_point_is_not_rejected_for_its_size_while_nothing_answers_the_smallest_request() -> None:
    harness = make_remote_write_harness()
    harness.prometheus.script.extend([HttpReply(413, {}, b"")] * 4)
    harness.prometheus.empty_answer = Failure(Fault.UNREACHABLE, "down")
    assert outcomes(harness.handle(point())) == {"undelivered": 1}


def test_a_failing_server_is_tried_again_with_growing_pauses() -> None:
    harness = make_remote_write_harness(MAX_ATTEMPTS="6")
    harness.prometheus.script.extend([HttpReply(500, {}, b"")] * 5)
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    waits = [seconds for seconds in harness.clock.slept if seconds]
    assert len(waits) == 5
    assert all(0 < wait <= 0.2 * 2**number for number, wait in enumerate(waits))


def test_times_from_0_to_the_far_future_are_sent_as_they_are() -> None:
    harness = make_remote_write_harness(MAX_AHEAD_S="0")
    times = {0: 0, 1.5: 1500, 99_999_999_999_999: 99_999_999_999_999, "1969-12-31T23:59:59.999Z": -1}
    harness.handle([point(1, timestamp=time) for time in times])
    assert [time for time, _ in stored(harness)] == sorted(times.values())


def test_an_event_without_points_sends_nothing() -> None:
    harness = make_remote_write_harness()
    assert harness.handle([])["status"] == "empty"
    assert harness.prometheus.requests == []


def test_the_document_names_every_answer_and_only_tests_that_are_there() -> None:
    document = (ROOT / "docs" / "remote-write.md").read_text("utf-8")
    named = {int(number) for number in re.findall(r"\b[45]\d\d\b", document.partition("## Answers")[2])}
    assert set(STATUSES) <= named
    assert all(f"`{refusal.label}`" in document for refusal in REFUSALS)
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_remote_write*.py"))
    referred = re.findall(r"`(test_\w+)`", document)
    assert len(referred) > 15
    assert [name for name in referred if f"def {name}(" not in tests] == []


def test_a_point_does_not_pass_one_of_its_series_that_another_instance_is_sending(
    redis_server: RedisServer,
) -> None:
    clock = FakeClock()
    prometheus, its_other_door = InProcessPrometheus(clock), InProcessPrometheus(clock)
    its_other_door.samples = prometheus.samples
    now = clock.time()
    event = ckafka(point(1, timestamp=now - 2), point(2, timestamp=now - 1))
    told = remote_write_environ(DEDUPE=redis_server.url(), CONCURRENCY="1")
    one = Application(told, clock, lambda: prometheus)
    other = Application(told, clock, lambda: its_other_door)

    def meanwhile(request: HttpRequest) -> Answer:
        """While the first instance sends the older point, the second is handed both."""
        assert outcomes(report_of(other, event, 5_000)) == {"undelivered": 2}
        assert its_other_door.requests == []
        return prometheus.process(request)

    prometheus.script.append(meanwhile)
    assert outcomes(report_of(one, ckafka(point(1, timestamp=now - 2)), 60_000)) == {"delivered": 1}
    assert outcomes(report_of(other, event)) == {"delivered": 1, "duplicate": 1}


def test_a_spooled_point_does_not_pass_one_of_its_series_that_another_instance_is_sending(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    clock = FakeClock()
    prometheus, its_other_door = InProcessPrometheus(clock), InProcessPrometheus(clock)
    its_other_door.samples = prometheus.samples
    now = clock.time()
    older, newer = ckafka(point(1, timestamp=now - 2)), ckafka(point(2, timestamp=now - 1))
    told = remote_write_environ(DEDUPE=redis_server.url(), MAX_ATTEMPTS="1")
    one = Application(told, clock, lambda: prometheus)
    spooling = Application({**told, "MF_SPOOL": tmp_path.as_uri()}, clock, lambda: its_other_door)
    replay = {"Type": "Timer", "TriggerName": "r", "Time": "now", "Message": '{"replay": true}'}
    for event in (older, newer):
        its_other_door.script.append(HttpReply(500, {}, b""))
        assert outcomes(report_of(spooling, event)) == {"spooled": 1}

    def meanwhile(request: HttpRequest) -> Answer:
        """While the older point, redelivered, is being sent, both are replayed from a file each."""
        report = report_of(spooling, replay, 2_000)
        assert (outcomes(report), report["requests"]["sent"]) == ({"spooled": 2}, 0)
        return prometheus.process(request)

    prometheus.script.append(meanwhile)
    assert outcomes(report_of(one, older)) == {"delivered": 1}
    assert outcomes(report_of(spooling, replay)) == {"duplicate": 1, "delivered": 1}


def test_of_one_moment_no_point_waits_for_another(redis_server: RedisServer) -> None:
    clock = FakeClock()
    prometheus, its_other_door = InProcessPrometheus(clock), InProcessPrometheus(clock)
    its_other_door.samples = prometheus.samples
    now = clock.time()
    held = point(1, timestamp=now, id="held")
    told = remote_write_environ(DEDUPE=redis_server.url())
    one = Application(told, clock, lambda: prometheus)
    other = Application(told, clock, lambda: its_other_door)

    def meanwhile(request: HttpRequest) -> Answer:
        event = ckafka(held, point(1, timestamp=now, id="free"), point(2, timestamp=now + 1))
        assert outcomes(report_of(other, event, 5_000)) == {"undelivered": 2, "delivered": 1}
        return prometheus.process(request)

    prometheus.script.append(meanwhile)
    assert outcomes(report_of(one, ckafka(held))) == {"delivered": 1}
