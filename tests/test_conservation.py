"""The same promises at every destination: outcomes add up, what is called delivered is there, nothing is lost."""

import base64
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from metric_forwarder.clients.http import Failure, Fault, HttpReply
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.formats import Format, read
from metric_forwarder.formats.mapping import Mapper
from metric_forwarder.formats.samples import FilteredSample, FormatHint
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.fakes import START, Answer
from support.harness import (
    CONTEXT,
    Harness,
    RemoteWriteHarness,
    ckafka,
    make_harness,
    make_remote_write_harness,
    point,
)
from support.metric_families import COUNTER, delimited, family
from support.remote_write import encode_series

NOW_MS = round(START * 1000)
UNANSWERED = Failure(Fault.UNANSWERED, "timeout")
REPLAY = {"Type": "Timer", "TriggerName": "r", "Time": "2026-01-01T09:00:00Z", "Message": '{"replay": true}'}
POISON = "poison"


class Ground(Protocol):
    """A destination in this process, and an application that sends there; after each event a minute passes."""

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]: ...

    def reply(self, event: Any) -> dict[str, Any]:
        """What the function returns for an event."""

    def meet(self, steps: list[str]) -> None:
        """What the next requests meet; the last words on it."""

    def arrived(self) -> list[tuple[str, int]]:
        """Metric and value of what is stored, each series in the order of arrival."""


class ReceiverGround:
    def __init__(self, **given_settings: str) -> None:
        self._harness: Harness = make_harness(**given_settings)
        self._harness.receiver.refuse_if = lambda request: (
            ReturnCode.DIMENSION_CHECK_FAILED
            if any(wire["metricName"] == POISON for wire in request.data)
            else None
        )

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        report = self._harness.handle(event, time_limit_ms)
        self._harness.clock.sleep(60)
        return report

    def reply(self, event: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._harness.application.handle(event, CONTEXT)
        self._harness.clock.sleep(60)
        return reply

    def meet(self, steps: list[str]) -> None:
        receiver = self._harness.receiver
        table: dict[str, Any] = {
            "down": ReturnCode.INTERNAL_FAILURE,
            "busy": ReturnCode.TOO_MANY_REQUESTS,
            "closed": ReturnCode.CLIENT_BLOCKED,
            "odd": ReturnCode.PARAMETER_INVALID,
            **common_faults(receiver.process),
        }
        receiver.script.clear()
        receiver.script.extend(table[step] for step in steps)

    def arrived(self) -> list[tuple[str, int]]:
        return [(wire["metricName"], int(wire["value"])) for _, wire in self._harness.receiver.points]


class RemoteWriteGround:
    def __init__(self, *, is_partial: bool, **given_settings: str) -> None:
        self._harness: RemoteWriteHarness = make_remote_write_harness(is_partial=is_partial, **given_settings)
        self._harness.prometheus.refuse_if = lambda series: ("__name__", f"pc_{POISON}") in series.labels

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        report = self._harness.handle(event, time_limit_ms)
        self._harness.clock.sleep(60)
        return report

    def reply(self, event: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._harness.application.handle(event, CONTEXT)
        self._harness.clock.sleep(60)
        return reply

    def meet(self, steps: list[str]) -> None:
        prometheus = self._harness.prometheus
        table: dict[str, Any] = {
            "down": HttpReply(500, {}, b""),
            "busy": HttpReply(429, {}, b""),
            "closed": HttpReply(401, {}, b""),
            "odd": HttpReply(400, {}, b"out of order sample"),
            **common_faults(prometheus.process),
        }
        prometheus.script.clear()
        prometheus.script.extend(table[step] for step in steps)

    def arrived(self) -> list[tuple[str, int]]:
        return [
            (dict(labels)["__name__"].removeprefix("pc_"), int(value))
            for labels, samples in self._harness.prometheus.samples.items()
            for _, value in samples
        ]


def common_faults(process: Callable[[Any], Answer]) -> dict[str, Any]:
    def lose_answer(request: Any) -> Answer:
        process(request)
        return UNANSWERED

    return {
        "fine": None,
        "unreachable": Failure(Fault.UNREACHABLE, "refused"),
        "unanswered": UNANSWERED,
        "lost": lose_answer,
        "gateway": HttpReply(502, {}, b""),
    }


GROUNDS: dict[str, Callable[..., Ground]] = {
    "receiver": ReceiverGround,
    "remote-write": lambda **given_settings: RemoteWriteGround(is_partial=False, **given_settings),
    "remote-write, storing what is good": lambda **given_settings: RemoteWriteGround(
        is_partial=True, **given_settings
    ),
}
STEPS = st.lists(
    st.sampled_from(
        ["fine", "down", "busy", "closed", "odd", "unreachable", "unanswered", "lost", "gateway"]
    ),
    max_size=15,
)


def _is_left(report: dict[str, Any]) -> bool:
    return bool(report["outcomes"]["undelivered"] or report["outcomes"]["spooled"])


@pytest.mark.slow
@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@given(
    metrics=st.lists(st.sampled_from(["a", "b", "c", POISON]), max_size=20),
    order=st.randoms(use_true_random=False),
    steps=STEPS,
    batch=st.integers(1, 8),
    concurrency=st.sampled_from(["1", "4"]),
    spooling=st.booleans(),
    hold=st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_no_schedule_of_faults_loses_a_point_or_lies_about_one(
    ground: Callable[..., Ground],
    metrics: list[str],
    order: Any,
    steps: list[str],
    batch: int,
    concurrency: str,
    *,
    spooling: bool,
    hold: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = ground(
            BATCH_MAX_POINTS=str(batch),
            CONCURRENCY=concurrency,
            MAX_ATTEMPTS="2",
            UNCERTAIN="hold" if hold else "resend",
            MAX_AGE_S="0",
            **({"SPOOL": Path(folder).as_uri()} if spooling else {}),
        )
        bodies = [point(n, metric, timestamp=NOW_MS + n) for n, metric in enumerate(metrics)]
        order.shuffle(bodies)
        event = ckafka(*bodies)
        place.meet(steps)
        reports = [place.handle(event)]
        assert len(set(place.arrived())) >= reports[0]["outcomes"]["delivered"]
        assert not spooling or reports[0]["outcomes"]["undelivered"] == 0
        place.meet(steps[::-1])
        reports.append(place.handle(REPLAY if spooling else event))
        place.meet([])
        # After several refusals for coming too fast, an instance is slow for some minutes.
        while len(reports) < 12 and (len(reports) < 3 or _is_left(reports[-1])):
            reports.append(place.handle(REPLAY if spooling else event))
    told = json.dumps([report["outcomes"] for report in reports])
    assert not _is_left(reports[-1]), told
    arrived = place.arrived()
    expected = {(metric, n) for n, metric in enumerate(metrics)}
    lost = expected - set(arrived)
    # What was refused for good, or held by wish, is reported as such, and is no loss in silence.
    assert len(lost) <= sum(
        report["outcomes"]["rejected"] + report["outcomes"]["uncertain"] for report in reports
    ), told
    assert set(arrived) <= expected
    if hold or isinstance(place, RemoteWriteGround):
        assert max(Counter(arrived).values(), default=1) == 1, told
    if isinstance(place, RemoteWriteGround):
        for metric in set(metrics):
            values = [value for name, value in arrived if name == metric]
            assert values == sorted(values)
    elif not spooling:
        came = [body["value"] for body in bodies]
        for metric in set(metrics):
            first = list(dict.fromkeys(value for name, value in arrived if name == metric))
            assert first == sorted(first, key=came.index), "a point passed an earlier one of its series"


@pytest.mark.slow
@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@given(
    metrics=st.lists(st.sampled_from(["a", "b", "c", POISON]), max_size=25),
    steps=st.lists(st.sampled_from(["fine", "down", "busy", "lost", "unanswered"]), max_size=12),
    batch=st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_with_time_and_attempts_enough_exactly_the_poison_is_rejected(
    ground: Callable[..., Ground], metrics: list[str], steps: list[str], batch: int
) -> None:
    place = ground(BATCH_MAX_POINTS=str(batch), MAX_ATTEMPTS="20")
    place.meet(steps)
    event = ckafka(*[point(n, metric, timestamp=NOW_MS + n) for n, metric in enumerate(metrics)])
    # Each refusal doubles the pause: many of them take minutes of the clock that nobody waits for.
    report = place.handle(event, 7_200_000)
    poison = metrics.count(POISON)
    assert report["outcomes"]["rejected"] == poison
    assert report["outcomes"]["delivered"] == len(metrics) - poison


# --- every format ------------------------------------------------------------------------------------------------

# What a producer meant: a good sample, a bad one, or one that the format's own mapping leaves out.
KINDS = ("good", "bad", "left out")
MAPPING = json.dumps({"name": "/n", "value": "/v/*", "time": "/t", "unit": "s"})
Made = tuple[str | bytes, Counter[str]]


def _influx(kinds: list[str]) -> Made:
    value = {"good": "1", "bad": "x", "left out": '"text"'}
    lines = [f"m{n} f={value[kind]} {NOW_MS + n}000000" for n, kind in enumerate(kinds)]
    return "# from a test\n" + "\n".join(lines) + "\n", Counter(kinds)


def _telegraf(kinds: list[str]) -> Made:
    value: dict[str, Any] = {"good": 1, "bad": None, "left out": "text"}
    metrics = [
        {"name": f"m{n}", "fields": {"f": value[kind]}, "timestamp": NOW_MS + n}
        for n, kind in enumerate(kinds)
    ]
    return json.dumps({"metrics": metrics}), Counter(kinds)


def _open_metrics(kinds: list[str]) -> Made:
    """An exemplar is left out, and its sample goes."""
    line = {"good": "1 {}", "bad": "one {}", "left out": '1 {} # {{id="x"}} 5'}
    lines = [f"m{n} " + line[kind].format((NOW_MS + n) / 1000) for n, kind in enumerate(kinds)]
    counts = Counter(kinds)
    return "\n".join(["# TYPE m gauge", *lines, "# EOF", ""]), counts + Counter(good=counts["left out"])


def _families(kinds: list[str]) -> Made:
    """An exemplar is left out, and its sample goes."""
    holds: dict[str, dict[str, Any]] = {
        "good": {"counter": {"value": 1}},
        "bad": {"gauge": {"value": 1}},
        "left out": {"counter": {"value": 1, "exemplar": {"value": 1}}},
    }
    families = [
        family(f"m{n}", COUNTER, {**holds[kind], "timestamp_ms": NOW_MS + n}) for n, kind in enumerate(kinds)
    ]
    counts = Counter(kinds)
    return delimited(families), counts + Counter(good=counts["left out"])


def _otlp(kinds: list[str]) -> Made:
    points: dict[str, Any] = {
        "good": {"asInt": "1"},
        "bad": {},
        "left out": {"asDouble": 1.5, "exemplars": [{"asDouble": 1}]},
    }
    metrics = [
        {"name": f"m{n}", "gauge": {"dataPoints": [points[kind] | {"timeUnixNano": (NOW_MS + n) * 10**6}]}}
        for n, kind in enumerate(kinds)
    ]
    counts = Counter(kinds)
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
    return body, counts + Counter(good=counts["left out"])


def _otlp_protobuf(kinds: list[str]) -> Made:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for n, kind in enumerate(kinds):
        data_point = scope.metrics.add(name=f"m{n}").gauge.data_points.add(
            time_unix_nano=(NOW_MS + n) * 10**6
        )
        if kind != "bad":
            data_point.as_double = 1.5
        if kind == "left out":
            data_point.exemplars.add(as_int=1)
    counts = Counter(kinds)
    return bytes(request.SerializeToString()), counts + Counter(good=counts["left out"])


def _adapter(kinds: list[str]) -> Made:
    """Nothing of it is left out."""
    kinds = ["good" if kind == "left out" else kind for kind in kinds]
    samples = [
        {
            "timestamp": (NOW_MS + n),
            "value": "1" if kind == "good" else "one",
            "labels": {"__name__": f"m{n}"},
        }
        for n, kind in enumerate(kinds)
    ]
    return "\n".join(map(json.dumps, samples)) or "[]", Counter(kinds)


def _remote_write(kinds: list[str]) -> Made:
    """An exemplar is left out, and its sample goes."""
    series = []
    for n, kind in enumerate(kinds):
        labels = encode_labels([("job" if kind == "bad" else "__name__", f"m{n}")])
        series.append(
            encode_series(labels + (b"\x1a\x00" if kind == "left out" else b""), [(1.0, NOW_MS + n)])
        )
    counts = Counter(kinds)
    return compress(series), counts + Counter(good=counts["left out"])


def _mapping(kinds: list[str]) -> Made:
    value: dict[str, Any] = {"good": {"f": 1}, "bad": 5, "left out": {"f": None}}
    items = [{"n": f"m{n}", "v": value[kind], "t": (NOW_MS + n) / 1000} for n, kind in enumerate(kinds)]
    return json.dumps(items), Counter(kinds)


def _own(kinds: list[str]) -> Made:
    """Nothing of it is left out."""
    kinds = ["good" if kind == "left out" else kind for kind in kinds]
    points = [
        point(1 if kind == "good" else "one", f"m{n}", timestamp=NOW_MS + n) for n, kind in enumerate(kinds)
    ]
    return json.dumps(points), Counter(kinds)


MAKERS: dict[Format, Callable[[list[str]], Made]] = {
    Format.JSON: _own,
    Format.INFLUX: _influx,
    Format.TELEGRAF_JSON: _telegraf,
    Format.PROMETHEUS_TEXT: _open_metrics,
    Format.PROMETHEUS_PROTOBUF: _families,
    Format.OTLP_JSON: _otlp,
    Format.OTLP_PROTOBUF: _otlp_protobuf,
    Format.KAFKA_ADAPTER: _adapter,
    Format.REMOTE_WRITE: _remote_write,
    Format.MAPPING: _mapping,
}
WISHES: dict[str, Callable[..., Ground]] = {name: GROUNDS[name] for name in ("receiver", "remote-write")}


class HttpGround:
    """A ground that is reached over HTTP, which alone carries bytes."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.meet = ground.meet

    def handle(self, body: str | bytes) -> dict[str, Any]:
        content = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        event = {
            "httpMethod": "POST",
            "path": "/",
            "headers": {},
            "body": base64.b64encode(content).decode(),
            "isBase64Encoded": True,
        }
        report: dict[str, Any] = json.loads(self._ground.reply(event)["body"])
        return report


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("ground", WISHES.values(), ids=WISHES)
@given(kinds=st.lists(st.sampled_from(KINDS), max_size=12), steps=STEPS)
@settings(max_examples=10, deadline=None)
def test_every_sample_of_every_format_ends_in_one_outcome_whatever_the_destination_does(
    ground: Callable[..., Ground], name: Format, kinds: list[str], steps: list[str]
) -> None:
    place = HttpGround(
        ground(HTTP_AUTH="cam", FORMAT=name.value, MAPPING=MAPPING, MAX_ATTEMPTS="2", BATCH_MAX_POINTS="3")
    )
    body, meant = MAKERS[name](kinds)
    for fates in (steps, [], []):
        place.meet(fates)
        report = place.handle(body)
        outcomes = report["outcomes"]
        assert report["received"] == sum(outcomes.values()) == meant.total()
        assert outcomes["invalid"] == meant["bad"]
        assert outcomes["filtered"] == meant["left out"] == sum(each["count"] for each in report["filtered"])
    assert outcomes["delivered"] + outcomes["duplicate"] + outcomes["rejected"] == meant["good"]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("ground", WISHES.values(), ids=WISHES)
def test_one_bad_sample_among_a_thousand_costs_one_invalid_and_names_its_place(
    ground: Callable[..., Ground], name: Format
) -> None:
    kinds = ["good"] * 1_000
    kinds[499] = "bad"
    place = HttpGround(ground(HTTP_AUTH="cam", FORMAT=name.value, MAPPING=MAPPING))
    report = place.handle(MAKERS[name](kinds)[0])
    assert {outcome: count for outcome, count in report["outcomes"].items() if count} == {
        "delivered": 999,
        "invalid": 1,
    }
    (error,) = report["errors"]
    assert re.search(r"\b(499|500|501)\b", error["pointer"]), error["pointer"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5), data=st.data())
@settings(max_examples=20, deadline=None)
def test_received_equals_the_readings_of_any_mutated_message(
    name: Format, kinds: list[str], data: Any
) -> None:
    body, _ = MAKERS[name](kinds)
    content = body if isinstance(body, bytes) else body.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 4))
        content = (
            content[:at] + data.draw(st.binary(max_size=3) | st.sampled_from(PIECES)) + content[at + cut :]
        )
    place = HttpGround(WISHES["remote-write"](HTTP_AUTH="cam", FORMAT=name.value, MAPPING=MAPPING))
    report = place.handle(content)
    assert report["received"] == sum(report["outcomes"].values())
    if name is not Format.JSON:
        told = list(
            read(name, content, FormatHint(resource_attributes="filtered"), Mapper(json.loads(MAPPING)))
        )
        assert report["received"] == len(told)
        assert report["outcomes"]["filtered"] == sum(isinstance(each, FilteredSample) for each in told)


PIECES = (b"{", b'"', b"\n", b"#", b",", b"=", b"\\", b"NaN", b"-1e999", b"\xff", b"\x00", b"}]", b" # EOF\n")
