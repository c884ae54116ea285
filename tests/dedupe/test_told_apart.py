"""Readings that end in one series are told apart by all that their producer wrote, also by what a format or a rule took away."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.intake.relabel import Relabeller
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.fakes import START
from support.harness import ckafka, make_harness, make_remote_write_harness, outcomes, point

NOW_NS = int(START) * 10**9
DROP_CPU = '[{"action":"labeldrop","regex":"cpu"}]'
REPLAY_ALL = {
    "Type": "Timer",
    "TriggerName": "r",
    "Time": "t",
    "Message": '{"replay":true,"deadLetters":true}',
}


def pods(*values: float, attributes: int = 1) -> dict[str, Any]:
    """A scrape of the kubelet: only the resource says which pod a data point is about."""

    def group(number: int, value: float) -> dict[str, Any]:
        named = [("k8s.pod.name", f"pod-{number}"), *((f"a{n}", "x") for n in range(1, attributes))]
        data_point = {"asDouble": value, "timeUnixNano": str(NOW_NS)}
        return {
            "resource": {"attributes": [{"key": key, "value": {"stringValue": text}} for key, text in named]},
            "scopeMetrics": [{"metrics": [{"name": "cpu", "gauge": {"dataPoints": [data_point]}}]}],
        }

    return {"resourceMetrics": [group(number, value) for number, value in enumerate(values)]}


def cpus(*values: float, **members: Any) -> list[dict[str, Any]]:
    dimensions = [{"host": "a", "cpu": f"cpu{number}"} for number in range(len(values))]
    both = zip(dimensions, values, strict=True)
    return [point(value, dimensions=each, timestamp=int(START), **members) for each, value in both]


def influx(*values: float) -> str:
    lines = [f"cpu,host=a,cpu=cpu{number} idle={value} {NOW_NS}" for number, value in enumerate(values)]
    return "\n".join(lines)


def test_readings_of_several_resources_with_one_time_are_all_delivered() -> None:
    harness = make_harness()
    event = ckafka(pods(0, 0, 0.25, 0))
    assert outcomes(harness.handle(event)) == {"delivered": 4, "filtered": 4}
    assert [body["value"] for _, body in harness.receiver.points] == [0, 0, 0.25, 0]
    # By another offset: the collector has sent its request again.
    assert outcomes(harness.handle(ckafka(pods(0, 0, 0.25, 0), first_offset=9))) == {
        "duplicate": 4,
        "filtered": 4,
    }


def gauges(*names: str) -> dict[str, Any]:
    data = {"dataPoints": [{"asInt": 5, "timeUnixNano": str(NOW_NS)}]}
    return {
        "resourceMetrics": [
            {"scopeMetrics": [{"metrics": [{"name": name, "gauge": data} for name in names]}]}
        ]
    }


def with_attribute(key: str, text: str) -> dict[str, Any]:
    """A request of a service whose resource has one more attribute."""
    named = [
        {"key": name, "value": {"stringValue": value}} for name, value in (("service.name", "s"), (key, text))
    ]
    return {**gauges("a")["resourceMetrics"][0], "resource": {"attributes": named}}


def fields(**members: Any) -> dict[str, Any]:
    return {"fields": {"v": 5}, "name": "m", "tags": {}, "timestamp": int(START), **members}


@pytest.mark.parametrize(
    "body",
    [
        f"m read-ops=5,read_ops=5 {NOW_NS}",
        f"m,a=1 v=5 {NOW_NS}\nm_v,a=1 value=5 {NOW_NS}",
        f"a_b c=5 {NOW_NS}\na b_c=5 {NOW_NS}",
        f"m,a-b=1 v=5 {NOW_NS}\nm,a_b=1 v=5 {NOW_NS}",
        fields(fields={"read-ops": 5, "read_ops": 5}),
        [fields(tags={"a-b": "1"}), fields(tags={"a_b": "1"})],
        gauges("a.b", "a_b"),
        {"resourceMetrics": [with_attribute("job", "x"), with_attribute("job", "y")]},
        {"resourceMetrics": [with_attribute("a.b", "x"), with_attribute("a_b", "x")]},
        f'{{"a.b"}} 5 {START:.0f}000\na_b 5 {START:.0f}000',
        f'm{{"a.b"="1"}} 5 {START:.0f}000\nm{{a_b="1"}} 5 {START:.0f}000',
        [{"labels": {"__name__": name}, "value": "5", "timestamp": int(START)} for name in ("a.b", "a_b")],
    ],
)
def test_equal_values_of_two_names_that_become_one_are_two_readings(body: Any) -> None:
    harness = make_harness(OTLP_RESOURCE="labels")
    assert outcomes(harness.handle(ckafka(body)))["delivered"] == 2
    assert outcomes(harness.handle(ckafka(body, first_offset=9)))["duplicate"] >= 2


def test_a_report_says_how_attributes_become_labels_and_that_helps() -> None:
    report = make_remote_write_harness().handle(ckafka(pods(0, 0.25)))
    assert outcomes(report) == {"delivered": 1, "rejected": 1, "filtered": 2}
    (error,), filtered = report["errors"], report["filtered"]
    assert all("MF_OTLP_RESOURCE=labels" in each["message"] for each in (error, *filtered))
    helped = make_remote_write_harness(OTLP_RESOURCE="labels").handle(ckafka(pods(0, 0.25)))
    assert outcomes(helped) == {"delivered": 2}


@pytest.mark.parametrize("body", [cpus(100, 100, 20), influx(100, 100, 20)], ids=["our own JSON", "influx"])
def test_readings_of_labels_that_a_rule_drops_are_all_delivered(body: Any) -> None:
    harness = make_harness(RELABEL=DROP_CPU)
    assert outcomes(harness.handle(ckafka(body))) == {"delivered": 3}
    assert [stored["dimensions"] for _, stored in harness.receiver.points] == [{"host": "a"}] * 3
    assert outcomes(harness.handle(ckafka(body, first_offset=9))) == {"duplicate": 3}


def test_an_id_that_is_used_for_several_labels_that_a_rule_drops_is_that_of_several_readings() -> None:
    harness = make_harness(RELABEL=DROP_CPU)
    assert outcomes(harness.handle(ckafka(cpus(7, 7, id="batch 1")))) == {"delivered": 2}
    assert outcomes(harness.handle(ckafka(cpus(7, 7, id="batch 1"), first_offset=9))) == {"duplicate": 2}


def test_equal_readings_without_a_time_are_two_readings_whatever_a_rule_drops() -> None:
    harness = make_harness(RELABEL=DROP_CPU)
    reading = point(7, dimensions={"host": "a", "cpu": "cpu0"})
    assert outcomes(harness.handle(ckafka(reading, reading))) == {"delivered": 2}


def test_with_coarse_times_equal_readings_in_two_messages_are_two_readings_whatever_a_rule_drops() -> None:
    harness = make_harness(RELABEL=DROP_CPU, DEDUPE_BY="message")
    assert outcomes(harness.handle(ckafka(cpus(7), cpus(7)))) == {"delivered": 2}


def test_a_label_that_a_point_has_and_one_that_a_setting_adds_are_two_things() -> None:
    harness = make_harness(LABELS="env=prod")
    plain, labelled = cpus(1)[0], cpus(1)[0]
    labelled["dimensions"]["env"] = "prod"
    assert outcomes(harness.handle(ckafka(plain, labelled))) == {"delivered": 2}
    assert outcomes(harness.handle(ckafka(plain, labelled, first_offset=9))) == {"duplicate": 2}


def test_a_rule_that_changes_nothing_leaves_the_identity_as_it_was() -> None:
    # So no point is sent again when such a rule comes while its event is redelivered.
    point_ = point(1, dimensions={"host": "a", "port": 80, "empty": ""}, namespace="pc")
    nothing = {"action": "labeldrop", "regex": "x"}
    assert Relabeller([nothing], {}).relabel(point_, "pc") == (
        {**point_, "dimensions": {"host": "a", "port": "80", "empty": ""}},
        "",
    )
    for rule in ({"action": "labeldrop", "regex": "host"}, {"target_label": "__name__", "replacement": "m"}):
        assert Relabeller([rule], {}).relabel(point_, "pc")[1]


@pytest.mark.parametrize(
    "body", [pods(0, 0), cpus(1, 1), influx(1, 1)], ids=["OTLP", "our own JSON", "influx"]
)
def test_spooled_readings_are_told_apart_and_are_known_when_their_event_comes_again(
    body: Any, tmp_path: Path
) -> None:
    harness = make_harness(RELABEL=DROP_CPU, SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert outcomes(harness.handle(ckafka(body)))["spooled"] == 2
    harness.receiver.refuse_if = lambda _: None
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 2}
    assert outcomes(harness.handle(ckafka(body)))["duplicate"] == 2


def test_dead_letters_are_told_apart(tmp_path: Path) -> None:
    too_many = pods(0, 0, attributes=6)
    strict = make_harness(SPOOL=tmp_path.as_uri(), OTLP_RESOURCE="filtered", RELABEL=json.dumps([
        {"target_label": f"l{n}", "replacement": "x"} for n in range(6)
    ]))  # fmt: skip
    assert outcomes(strict.handle(ckafka(too_many)))["invalid"] == 2
    corrected = make_harness(SPOOL=tmp_path.as_uri())
    assert outcomes(corrected.handle(REPLAY_ALL)) == {"delivered": 2}


READINGS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1]), st.sampled_from([0, 1])), max_size=8
)


@given(READINGS)
def test_two_readings_are_one_if_and_only_if_they_were_written_alike(
    readings: list[tuple[str, int, int]],
) -> None:
    harness = make_harness(RELABEL=DROP_CPU)
    written = [
        point(value, dimensions={"cpu": cpu}, timestamp=int(START) - age) for cpu, value, age in readings
    ]
    found = outcomes(harness.handle(ckafka(*written)))
    assert found.get("delivered", 0) == len(set(readings))
