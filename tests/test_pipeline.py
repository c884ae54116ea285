"""The main job: from a trigger event to the receiver and back."""

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError, DeliveryIncomplete, InstanceBusy, UnknownTrigger
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest
from receiver_emulator import Emulator
from support.answering_server import AnsweringServer, Reply
from support.fakes import FakeClock, InProcessReceiver
from support.harness import (
    CONTEXT,
    Harness,
    ckafka,
    environ,
    make_harness,
    outcomes,
    point,
    report_of,
    values,
)

TIMER = {"Type": "Timer", "TriggerName": "every-minute", "Time": "2026-01-31T08:00:00Z"}


def test_a_ckafka_event_arrives_at_the_receiver_over_real_sockets(
    emulator: Emulator, connect: Callable[..., Application]
) -> None:
    report = report_of(connect(emulator), ckafka(point(1), point(2), point("3")))
    assert report["status"] == "partial"
    assert outcomes(report) == {"delivered": 2, "invalid": 1}
    assert [stored["value"] for stored in emulator.points()] == [1, 2]
    assert report["requests"] == {"sent": 1, "retried": 0, "returnCodes": {"0": 1}}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("path", ["/v2/index.php", "/report.cgi"])
def test_both_methods_and_both_paths_are_signed_as_the_receiver_checks(
    emulator: Emulator, connect: Callable[..., Application], method: str, path: str
) -> None:
    application = connect(emulator, RECEIVER_METHOD=method, RECEIVER_URL=emulator.base_url + path)
    report = report_of(application, point(0.3, dimensions={"disk": "sda &=%+é"}))
    assert outcomes(report) == {"delivered": 1}


def test_points_of_one_event_share_one_kept_alive_connection(
    emulator: Emulator, connect: Callable[..., Application]
) -> None:
    application = connect(emulator, BATCH_MAX_POINTS="1", CONCURRENCY="1")
    report_of(application, [point(value) for value in range(5)])
    report_of(application, [point(5)])
    assert len({request["connection"] for request in emulator.requests()}) == 1


def test_every_attempt_is_signed_with_a_fresh_nonce(harness: Harness) -> None:
    harness.receiver.script.extend([ReturnCode.NOT_READY, ReturnCode.NOT_READY, None])
    assert outcomes(harness.handle(point())) == {"delivered": 1}
    bodies = [json.loads(request.body or b"") for request in harness.receiver.requests]
    assert len({body["Nonce"] for body in bodies}) == 3
    assert len({body["Signature"] for body in bodies}) == 3
    assert all(body["Nonce"] > 0 for body in bodies)


FORMS = {
    "one point": point(1),
    "list of points": [point(1)],
    "envelope": {"namespace": "pc", "dimensions": {"ip": "10.0.0.1"}, "points": [{"metricName": "diskusage", "value": 1}]},
    "receiver's request body": {"Namespace": "pc", "Data": [point(1)]},
    "a whole request": {"Action": "PutMonitorData", "SecretId": "x", "Region": "gz", "Timestamp": 1, "Nonce": 1, "Signature": "x", "Namespace": "pc", "Data": [point(1)]},
}  # fmt: skip


@pytest.mark.parametrize("payload", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("encodings", [0, 1, 2], ids=["decoded", "JSON text", "double-encoded"])
def test_every_form_of_payload_delivers_the_same_point(
    harness: Harness, payload: Any, encodings: int
) -> None:
    for _ in range(encodings):
        payload = json.dumps(payload)
    assert outcomes(harness.handle(payload)) == {"delivered": 1}
    assert harness.receiver.points == [("pc", point(1))]


def test_integers_as_dimensions_are_sent_as_strings(harness: Harness) -> None:
    harness.handle(point(dimensions={"cpu": 0, "host": "a"}))
    assert harness.receiver.points[0][1]["dimensions"] == {"cpu": "0", "host": "a"}


def test_a_timer_without_a_payload_reports_nothing_received(harness: Harness) -> None:
    report = harness.handle({**TIMER, "Message": ""})
    assert (report["status"], report["trigger"], report["received"]) == ("empty", "timer", 0)


def test_a_timer_with_a_payload_delivers_it_once_for_each_firing(harness: Harness) -> None:
    event = {**TIMER, "Message": json.dumps(point(7))}
    assert outcomes(harness.handle(event)) == {"delivered": 1}
    assert outcomes(harness.handle(event)) == {"duplicate": 1}
    assert outcomes(harness.handle({**event, "Time": "2026-01-31T08:01:00Z"})) == {"delivered": 1}


def test_a_redelivered_event_sends_nothing_and_reports_duplicates(harness: Harness) -> None:
    event = ckafka(*(point(value) for value in range(50)))
    assert outcomes(harness.handle(event)) == {"delivered": 50}
    sent = len(harness.receiver.requests)
    assert outcomes(harness.handle(event)) == {"duplicate": 50}
    assert len(harness.receiver.requests) == sent


def test_after_a_partly_failed_event_a_redelivery_sends_only_the_rest() -> None:
    harness = make_harness(BATCH_MAX_POINTS="10", CONCURRENCY="1", MAX_ATTEMPTS="1")
    event = ckafka(*(point(value, f"m{value}") for value in range(30)))
    # The batch, one point of it alone, and the rest of it.
    harness.receiver.script.extend([None, *[ReturnCode.INTERNAL_FAILURE] * 3, None])
    assert outcomes(harness.handle(event)) == {"delivered": 20, "undelivered": 10}
    assert outcomes(harness.handle(event)) == {"delivered": 10, "duplicate": 20}
    assert sorted(values(harness.receiver.points)) == list(range(30))


def test_undelivered_points_raise_with_the_report_so_that_the_platform_redelivers(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: ReturnCode.INTERNAL_FAILURE
    with pytest.raises(DeliveryIncomplete) as raised:
        harness.application.handle(ckafka(point()), CONTEXT)
    assert raised.value.report["outcomes"]["undelivered"] == 1
    assert json.loads(str(raised.value)) == raised.value.report


def test_a_direct_invocation_is_answered_even_when_nothing_was_delivered(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: ReturnCode.INTERNAL_FAILURE
    report = harness.application.handle(point(), CONTEXT)
    assert (report["status"], outcomes(report)) == ("failed", {"undelivered": 1})


def test_bad_data_never_raises(harness: Harness) -> None:
    report = harness.application.handle(ckafka("{", "[", '"', "nonsense", {"value": 1}), CONTEXT)
    assert (report["status"], outcomes(report)) == ("failed", {"invalid": 5})
    assert harness.receiver.requests == []


@pytest.mark.parametrize(
    "event", [{}, {"Type": "Gauge", "secret": "s3cret"}, None, 7, True], ids=["empty", "unknown", "null", "number", "true"]
)  # fmt: skip
def test_an_event_of_no_known_kind_is_refused_naming_its_keys_and_no_values(
    harness: Harness, event: Any
) -> None:
    with pytest.raises(UnknownTrigger) as raised:
        harness.application.handle(event, CONTEXT)
    assert "s3cret" not in str(raised.value)
    assert not isinstance(event, dict) or all(key in str(raised.value) for key in event)


def test_wrong_settings_are_one_error_that_names_them_all_and_no_secret() -> None:
    application = Application(
        {
            "MF_CONCURRENCY": "many",
            "MF_RECEIVER_URL": "http://[::1",
            "MF_REGION": "mars",
            "MF_SCHEMA": "/no/such.json",
            "MF_SECRET_KEY": "s3cret",
            "MF_NAMESPCE": "pc",
        }
    )
    with pytest.raises(ConfigError) as raised:
        application.handle(point(), CONTEXT)
    text = str(raised.value)
    assert len(raised.value.problems) == 6
    for name in ("MF_CONCURRENCY", "MF_RECEIVER_URL", "MF_REGION", "MF_SCHEMA cannot be used", "MF_SECRET_ID", "MF_NAMESPCE is not a setting of the forwarder: did you mean MF_NAMESPACE?"):  # fmt: skip
        assert name in text
    assert "s3cret" not in text


def test_settings_are_read_at_every_invocation() -> None:
    variables: dict[str, str] = {}
    harness = make_harness()
    application = Application(variables, harness.clock, lambda: harness.receiver)
    with pytest.raises(ConfigError):
        application.handle(point(), CONTEXT)
    variables.update(environ())
    assert outcomes(application.handle(point(), CONTEXT)) == {"delivered": 1}


def test_a_point_without_a_namespace_is_invalid_unless_the_settings_name_one() -> None:
    assert outcomes(make_harness(NAMESPACE="").handle(point())) == {"invalid": 1}
    harness = make_harness(NAMESPACE="fallback")
    assert outcomes(harness.handle([point(1), point(2, namespace="own")])) == {"delivered": 2}
    assert sorted(namespace for namespace, _ in harness.receiver.points) == ["fallback", "own"]


def test_one_request_carries_one_namespace(harness: Harness) -> None:
    harness.handle([point(value, namespace=f"ns{value % 3}") for value in range(30)])
    assert sorted(namespace for namespace, _ in harness.receiver.batches) == ["ns0", "ns1", "ns2"]


def test_an_old_point_is_stale_since_the_receiver_would_stamp_it_now(harness: Harness) -> None:
    now = harness.clock.time()
    points = [
        point(1, timestamp=now - 301),
        point(2, timestamp=now - 299),
        point(3, timestamp=int((now - 400) * 1000)),
    ]
    report = harness.handle(points)
    assert outcomes(report) == {"delivered": 1, "stale": 2}
    assert report["errors"][0]["pointer"] == "/0/timestamp"
    assert outcomes(make_harness(MAX_AGE_S="0").handle(points)) == {"delivered": 3}


def test_a_point_that_was_delivered_in_time_is_a_duplicate_and_not_stale_when_it_comes_late(
    harness: Harness,
) -> None:
    first = point(1, timestamp=harness.clock.time() - 200)
    assert outcomes(harness.handle(ckafka(first))) == {"delivered": 1}
    harness.clock.sleep(200)
    late = point(2, timestamp=harness.clock.time() - 400)
    report = harness.handle(ckafka(first, late))
    assert outcomes(report) == {"duplicate": 1, "stale": 1}
    assert [error["source"] for error in report["errors"]] == ["metrics/0@1"]


@pytest.mark.parametrize(
    "code",
    [None, ReturnCode.CLIENT_BLOCKED, ReturnCode.NO_VALID_DATA],
    ids=["delivered", "undelivered", "rejected"],
)
def test_a_point_that_is_repeated_within_the_event_is_a_duplicate_whatever_becomes_of_it(
    harness: Harness, code: ReturnCode | None
) -> None:
    harness.receiver.script.append(code)
    report = harness.handle(ckafka(point(4, id="b"), point(4, id="b")))
    fate = {None: "delivered", ReturnCode.CLIENT_BLOCKED: "undelivered"}.get(code, "rejected")
    assert outcomes(report) == {"duplicate": 1, fate: 1}
    assert [error["source"] for error in report["errors"]] == ([] if code is None else ["metrics/0@1"])


def test_every_point_that_is_reported_as_rejected_stale_or_spooled_is_kept(tmp_path: Path) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = _refusals
    old = point(1, id="a", timestamp=harness.clock.time() - 400)
    bad, late = point(2, "poison_a", id="b"), point(3, id="c", namespace="down")
    harness.receiver.refuse_if = lambda request: (
        ReturnCode.INTERNAL_FAILURE if request.namespace == "down" else _refusals(request)
    )
    report = harness.handle(ckafka(old, old, bad, bad, late, late))
    assert outcomes(report) == {"stale": 1, "rejected": 1, "spooled": 1, "duplicate": 3}
    records = [line for path in tmp_path.glob("*.jsonl") for line in path.read_text("utf-8").splitlines()[1:]]
    assert len(records) == 3


def test_two_messages_at_one_offset_are_two_messages_unless_they_say_the_same(harness: Harness) -> None:
    assert outcomes(harness.handle(ckafka(point(1)))) == {"delivered": 1}
    assert outcomes(harness.handle(ckafka(point(2)))) == {"delivered": 1}
    assert outcomes(harness.handle(ckafka(point(1)))) == {"duplicate": 1}
    assert values(harness.receiver.points) == [1, 2]


@pytest.mark.slow
def test_ten_thousand_points_arrive_in_order_per_series_within_the_limits(
    emulator: Emulator, connect: Callable[..., Application]
) -> None:
    series = [{"host": f"h{number}"} for number in range(50)]
    chosen = random.Random(1)
    messages = [point(number, dimensions=chosen.choice(series)) for number in range(10_000)]
    report = report_of(connect(emulator, BATCH_MAX_POINTS="300"), ckafka(*messages))
    assert outcomes(report) == {"delivered": 10_000}
    arrived: dict[str, list[Any]] = defaultdict(list)
    for stored in emulator.points():
        arrived[str(stored["dimensions"]["host"])].append(stored["value"])
    expected: dict[str, list[Any]] = defaultdict(list)
    for message in messages:
        expected[message["dimensions"]["host"]].append(message["value"])
    assert arrived == expected
    requests = emulator.requests()
    assert all((request["points"] or 0) <= 300 for request in requests)
    assert all(request["bytes"] <= 65_536 + 400 for request in requests)
    # Lanes may each end in a batch that is not full.
    assert len(requests) <= 10_000 / 300 + 4


def test_batches_stay_within_the_byte_limit() -> None:
    harness = make_harness(BATCH_MAX_BYTES="1000", BATCH_MAX_POINTS="1000")
    harness.handle([point(value, dimensions={"text": "é" * 20}) for value in range(100)])
    assert len(harness.receiver.points) == 100
    sizes = [len(json.dumps(json.loads(request.body or b"")["Data"], separators=(",", ":"))) for request in harness.receiver.requests]  # fmt: skip
    assert max(sizes) <= 1001
    assert max(sizes) > 800


def test_no_secret_signature_or_payload_is_written_anywhere(
    emulator: Emulator, connect: Callable[..., Application], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    caplog.set_level(0)
    key = "s3cret-key-that-must-never-show"
    marker = "payload-marker-which-is-long-enough-to-be-left-out"
    events = [
        point(1, dimensions={"ip": marker}),
        ckafka({"metricName": marker, "value": 1}, f'{{"metricName": "{marker}'),
        {"unknown": marker},
        {"Type": "Timer", "TriggerName": "t", "Time": "now", "Message": json.dumps(point(1, extra=marker))},
    ]
    texts = []
    for method in ("GET", "POST"):
        for wrong in ({}, {"SECRET_KEY": key}):
            application = connect(emulator, RECEIVER_METHOD=method, LOG_LEVEL="DEBUG", **wrong)
            for event in events:
                try:
                    texts.append(json.dumps(application.handle(event, CONTEXT)))
                except (DeliveryIncomplete, UnknownTrigger) as error:
                    texts.append(repr(error))
    # A proxy may answer with the request that it got.
    with AnsweringServer(lambda path, body: Reply(400 if path == "/write" else 200, body)) as proxy:
        to_prometheus = {"DESTINATION": "remote-write", "REMOTE_WRITE_URL": f"{proxy.url}/write"}
        to_prometheus |= {"REMOTE_WRITE_PASSWORD": key, "REMOTE_WRITE_CHECK": "off"}
        for wrong in ({"RECEIVER_URL": f"{proxy.url}/v2/index.php", "SECRET_KEY": key}, to_prometheus):
            application = connect(emulator, MAX_ATTEMPTS="1", LOG_LEVEL="DEBUG", **wrong)
            texts.append(json.dumps(application.handle(events[0], CONTEXT)))
        assert all(marker.encode() in body for body in proxy.bodies)
    captured = capfd.readouterr()
    seen = "\n".join([*texts, captured.out, captured.err, caplog.text])
    assert '"outcomes"' in captured.out
    for secret in (key, "exampleexample0000", marker, "Signature"):
        assert secret not in seen


VALID = st.builds(
    lambda value, metric, members: point(value, metric, **members),
    st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False)),
    st.sampled_from(["diskusage", "cpu", "poison_a", "poison_b"]),
    st.fixed_dictionaries({}, optional={"id": st.sampled_from(["a", "b", "c"]), "namespace": st.sampled_from(["pc", "gone"])}),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
BODY = st.one_of(
    VALID.map(json.dumps),
    st.lists(VALID | JSON, max_size=5).map(json.dumps),
    JSON,
    JSON.map(json.dumps),
    st.text(),
)


def _refusals(request: PutRequest) -> ReturnCode | None:
    if request.namespace == "gone":
        return ReturnCode.NAMESPACE_ILLEGAL
    if any(wire["metricName"].startswith("poison") for wire in request.data):
        return ReturnCode.DIMENSION_CHECK_FAILED
    return None


def _counts_for_one(body: Any) -> bool:
    """Whether a message holds a point at least: a text may be a comment of another format, which holds none."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return False
    return isinstance(body, dict)


@pytest.mark.slow
@given(
    bodies=st.lists(BODY, max_size=12),
    script=st.lists(st.sampled_from([None, *ReturnCode]), max_size=8),
    batch=st.integers(1, 6),
)
@settings(max_examples=300, deadline=None)
def test_outcomes_always_add_up_and_the_receiver_holds_what_was_delivered(
    bodies: list[Any], script: list[ReturnCode | None], batch: int
) -> None:
    harness = make_harness(BATCH_MAX_POINTS=str(batch))
    harness.receiver.refuse_if = _refusals
    harness.receiver.script.extend(step for step in script if step is not ReturnCode.OK)
    event = {"Records": [{"Ckafka": {"topic": "t", "partition": 0, "offset": n, "msgBody": body}} for n, body in enumerate(bodies)]}  # fmt: skip
    report = harness.handle(event)
    assert report["received"] >= sum(map(_counts_for_one, bodies))
    assert report["outcomes"]["delivered"] == len(harness.receiver.points)
    assert len(report["errors"]) <= 20
    harness.clock.sleep(60)
    again = harness.handle(event)
    harness.receiver.script.clear()
    harness.clock.sleep(60)
    final = harness.handle(event)
    assert again["received"] == final["received"] == report["received"]
    assert again["outcomes"]["invalid"] == final["outcomes"]["invalid"] == report["outcomes"]["invalid"]
    assert final["outcomes"]["undelivered"] == 0
    # Nothing arrives twice, whatever was redelivered.
    delivered = sum(each["outcomes"]["delivered"] for each in (report, again, final))
    assert delivered == len(harness.receiver.points)
    assert not any(wire["metricName"].startswith("poison") for _, wire in harness.receiver.points)


LOOKALIKES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "metricName": st.sampled_from(["m", "n", "no good", 1, None, ["m"]]),
        "dimensions": st.one_of(
            st.sampled_from([None, [], "ip", {}]),
            st.dictionaries(
                st.sampled_from(["ip", "disk", "no good"]),
                st.sampled_from(["1", "é", "\ud800", 1, 1.0, True, None, [], {}]),
                max_size=6,
            ),
        ),
        "value": st.sampled_from([0, 1.5, True, None, "1", 10**400, float("nan"), float("inf")]),
        "namespace": st.sampled_from(["pc", "other", "no good", None]),
        "timestamp": st.just(1),
        "typo": st.just(1),
    },
)


def fates(*bodies: Any) -> Counter[str]:
    """What arrives of these messages, and how many points end in each outcome."""
    harness = make_harness()
    report = harness.handle(ckafka(*bodies))
    return Counter(outcomes(report)) + Counter(map(str, harness.receiver.points))


@pytest.mark.slow
@given(st.lists(LOOKALIKES, min_size=1, max_size=6))
def test_a_point_fares_the_same_whatever_points_came_before_it(points: list[dict[str, Any]]) -> None:
    assert fates(*points) == sum(map(fates, points), Counter())


# Each kind is drawn as often as the other, what is right first.
DIMENSIONS = [
    ['{"ip":"1"}', '{"value":"1"}'],
    ['{"value":1}', '{"value":2}', '{"ip\\"value":"1"}', '{"ip":"\\"value\\":1"}'],
]
NUMBERS = [
    ["1", "2.5", "-0", "1e3"],
    ["1e999", "NaN", "01", "1.", '"1"', "true", "null", "9" * 400, "9" * 5000],
]
AROUND = [["{%}"], ["[{%}]", "[{%},{%}]", '{"points":[{%}]}'], ["{%} ", "{%", "{%}1"]]


def either(choices: list[list[str]]) -> st.SearchStrategy[str]:
    return st.one_of(*map(st.sampled_from, choices))


@st.composite
def alike(draw: st.DrawFn) -> list[str]:
    """Messages that are points, or nearly, and write their members alike: in one order, perhaps with one too many."""
    surplus = draw(st.sampled_from([(), (), (), ('"value"', "1"), ('"typo"', "1")]))
    members = [('"metricName"', '"m"'), ('"dimensions"', "$"), ('"value"', "#"), surplus]
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :"), (",", ":\n")]))
    text = comma.join(colon.join(member) for member in draw(st.permutations(members)) if member)
    return [
        around.replace("%", text).replace("$", dimensions).replace("#", number)
        for around, dimensions, number in draw(
            st.lists(st.tuples(*map(either, (AROUND, DIMENSIONS, NUMBERS))), min_size=2, max_size=10)
        )
    ]


@pytest.mark.slow
@given(alike())
@settings(max_examples=500)
def test_a_text_says_the_same_whatever_texts_came_before_it(bodies: list[str]) -> None:
    assert fates(*bodies) == sum(map(fates, bodies), Counter())


@pytest.mark.parametrize("known", ["1", 1, 1.0], ids=["text", "integer", "whole float"])
def test_a_known_series_lets_nothing_pass_that_only_equals_it(known: Any) -> None:
    good = {"metricName": "m", "dimensions": {"ip": known}, "value": 1}
    bad = [
        {**good, "value": True},
        {**good, "value": float("nan")},
        {**good, "dimensions": {"ip": True}},
    ]
    report = make_harness().handle(ckafka(good, good, *bad))
    assert outcomes(report) == {"delivered": 2, "invalid": 3}


def test_a_value_that_does_not_fit_is_found_in_a_known_series_too() -> None:
    names = {"metricName": "m", "dimensions": {"ip": "x" * 150}}
    report = make_harness(BATCH_MAX_BYTES="256").handle(
        ckafka({**names, "value": 1}, {**names, "value": 10**100})
    )
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert report["errors"][0]["rule"] == "maxBytes"


def test_a_schema_of_the_users_own_judges_every_value_of_a_known_series(tmp_path: Path) -> None:
    schema = tmp_path / "own.json"
    schema.write_text('{"properties": {"value": {"minimum": 10}}}')
    report = make_harness(SCHEMA=str(schema)).handle(ckafka(point(10), point(9)))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}


def test_workers_join_only_while_the_processor_is_idle() -> None:
    class BusyClock(FakeClock):
        """Every moment of the machine's time is computed in."""

        def process_time(self) -> float:
            return time.perf_counter()

    threads: dict[type[FakeClock], set[int]] = {}
    for make_clock in (BusyClock, FakeClock):
        clock = make_clock()
        receiver = InProcessReceiver(clock)
        seen = threads[make_clock] = set()

        def refuse_none(_request: object, seen: set[int] = seen) -> None:
            seen.add(threading.get_ident())
            time.sleep(0.01)

        receiver.refuse_if = refuse_none
        application = Application(environ(BATCH_MAX_POINTS="1"), clock, lambda r=receiver: r)  # type: ignore[misc]  # bound now
        report_of(application, [point(1, f"m{number}") for number in range(12)])
    assert len(threads[BusyClock]) == 1
    assert len(threads[FakeClock]) > 1


class Meeting:
    """A ``Transport`` that starts a second event while it answers the first one, and sees whether they meet."""

    def __init__(self, receiver: InProcessReceiver) -> None:
        self._receiver = receiver
        self._second: Callable[[], Any] | None = None
        self._under_way = 0
        self._other_arrived = threading.Event()
        self.patience_s = 0.5
        self.most_at_once = 0
        self.thread: threading.Thread | None = None

    def start_with_the_first_request(self, second: Callable[[], Any]) -> None:
        self._second = second

    def let_go(self) -> None:
        self._other_arrived.set()

    def send(self, request: Any, timeout_s: float) -> Any:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        if self._second is None:
            self._other_arrived.set()
        else:
            self.thread = threading.Thread(target=self._second)
            self._second = None
            self.thread.start()
            # Time enough for it to arrive here, if nothing holds it back.
            self._other_arrived.wait(self.patience_s)
        reply = self._receiver.send(request, timeout_s)
        self._under_way -= 1
        return reply


@pytest.mark.slow
def test_a_second_event_in_one_process_waits_until_the_first_is_handled() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    transport = Meeting(receiver)
    application = Application(environ(CONCURRENCY="1"), clock, lambda: transport)
    reports: list[dict[str, Any]] = []
    transport.start_with_the_first_request(lambda: reports.append(report_of(application, ckafka(point(2)))))
    reports.append(report_of(application, ckafka(point(1))))
    assert transport.thread is not None
    transport.thread.join()
    assert [outcomes(report) for report in reports] == [{"delivered": 1}, {"delivered": 1}]
    assert transport.most_at_once == 1


@pytest.mark.slow
def test_a_second_event_that_waited_too_long_is_refused_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    transport = Meeting(InProcessReceiver(clock))
    application = Application(environ(CONCURRENCY="1"), clock, lambda: transport)
    raised: list[Exception] = []

    def second() -> None:
        try:
            application.handle(ckafka(point(2)), {**CONTEXT, "time_limit_in_ms": 1000, "request_id": "b"})
        except InstanceBusy as busy:
            raised.append(busy)
        transport.let_go()

    transport.start_with_the_first_request(second)
    transport.patience_s = 30
    assert outcomes(report_of(application, ckafka(point(1)))) == {"delivered": 1}
    assert len(raised) == 1
    assert '"error":"InstanceBusy"' in capsys.readouterr().out
