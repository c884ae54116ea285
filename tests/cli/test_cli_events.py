"""``events``: what is wrapped is unwrapped again."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.cli.dry_run import read_event
from metric_forwarder.cli.events import SAMPLE
from metric_forwarder.cli.sample_events import TEMPLATES, split
from metric_forwarder.cli.sample_formats import SAMPLE_FORMATS
from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.formats.payload import read_payload
from metric_forwarder.jobs import Replay, asks_for_doctor, read_job
from receiver_emulator import Emulator
from support.command_line import point, run, settings_for

AT = datetime(2026, 3, 2, 9, 30, tzinfo=timezone.utc)
_TEXTS = st.text('aé"\\/{\n😀', max_size=4)
_ANY_POINTS = st.lists(
    st.fixed_dictionaries(
        {
            "metricName": _TEXTS,
            "dimensions": st.dictionaries(_TEXTS, _TEXTS, max_size=2),
            "value": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        }
    ),
    min_size=1,
    max_size=8,
)


def _is_known(kind: str) -> bool:
    try:
        read_event(TEMPLATES[kind].wrap(["{}"], AT))
    except UnknownTrigger:
        return False
    return True


# The others are wrapped for decoders still to come.
KNOWN = [kind for kind in TEMPLATES if not TEMPLATES[kind].is_payload and _is_known(kind)]


def test_at_least_the_platforms_plain_triggers_are_known() -> None:
    assert {"timer", "ckafka", "cmq"} <= set(KNOWN)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KNOWN)
@given(points=_ANY_POINTS, messages=st.integers(1, 4))
def test_what_an_event_wraps_decoding_unwraps(kind: str, points: list[Any], messages: int) -> None:
    parts = split(points, messages) if TEMPLATES[kind].many else [points]
    event = TEMPLATES[kind].wrap([json.dumps(part) for part in parts], AT)
    found = list(read_event(json.loads(json.dumps(event))).messages)
    assert [list(read_payload(message.body).points) for message in found] == parts
    coordinates = [message.coordinates for message in found]
    assert None not in coordinates
    assert len(set(coordinates)) == len(found)


@pytest.mark.slow
@given(points=_ANY_POINTS)
def test_a_direct_event_is_the_payload(points: list[Any]) -> None:
    (message,) = read_event(TEMPLATES["direct"].wrap([json.dumps(points)], AT)).messages
    assert list(read_payload(message.body).points) == points


@given(points=st.lists(st.integers()), messages=st.integers(1, 9))
def test_splitting_keeps_every_point_in_order_and_is_even(points: list[int], messages: int) -> None:
    parts = split(points, messages)
    assert len(parts) == min(messages, len(points) or 1)
    assert [p for part in parts for p in part] == points
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind_is_printed_with_sample_points(kind: str) -> None:
    done = run("events", kind)
    assert done.status == 0
    assert done.printed
    assert done.err == ""


@pytest.mark.parametrize("kind", [kind for kind in TEMPLATES if not TEMPLATES[kind].many])
def test_a_kind_that_has_one_message_says_so(kind: str) -> None:
    done = run("events", kind, "--messages", "2")
    assert done.status == 2
    assert "has one message" in done.err


@pytest.mark.parametrize("kind", KNOWN)
def test_an_event_made_later_does_not_look_like_a_redelivery(kind: str) -> None:
    events = [TEMPLATES[kind].wrap(["{}"], at) for at in (AT, AT + timedelta(seconds=1))]
    first, second = ([message.coordinates for message in read_event(event).messages] for event in events)
    assert first != second


def test_a_payload_in_one_message_is_wrapped_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{ not JSON", encoding="utf-8")
    event = run("events", "timer", "--points", str(path)).printed
    assert event["Message"] == "{ not JSON"


def test_points_of_an_envelope_are_spread_with_its_defaults() -> None:
    envelope = {
        "namespace": "shop",
        "points": [point() | {"namespace": "own"}, {"metricName": "n", "value": 2}],
    }
    done = run("events", "ckafka", "--points", "-", "--messages", "2", given=json.dumps(envelope))
    bodies = [json.loads(record["Ckafka"]["msgBody"]) for record in done.printed["Records"]]
    assert [[p["namespace"] for p in body] for body in bodies] == [["own"], ["shop"]]


@pytest.mark.parametrize(
    ("words", "given_text", "told"),
    [
        pytest.param(("direct", "--points", "-"), "{", "- is not JSON", id="direct and no JSON"),
        pytest.param(
            ("cmq", "--points", "-", "--messages", "2"), "{", "only the forwarder's own JSON can", id="no JSON"
        ),
        pytest.param(
            ("cmq", "--points", "-", "--messages", "2"), '[{"value": NaN}]', "NaN is not a JSON number", id="a NaN"
        ),
        pytest.param(("smoke-signal",), "", "is not one of", id="no such kind"),
        pytest.param(("timer", "--points", "/nonexistent"), "", "/nonexistent cannot be read", id="no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_wrapped_ends_with_status_2(
    words: tuple[str, ...], given_text: str, told: str
) -> None:
    done = run("events", *words, given=given_text)
    assert (done.status, done.out) == (2, "")
    assert told in done.err.replace("standard input", "-")


@pytest.mark.parametrize("kind", ["http", "apigw"])
def test_an_http_event_is_let_in_the_way_the_help_says(emulator: Emulator, kind: str) -> None:
    assert "invoke it with MF_HTTP_AUTH=cam" in " ".join(run("events", "--help").out.split())
    event = run("events", kind).out
    assert run("invoke", "-", given=event, **settings_for(emulator), HTTP_AUTH="cam").status == 0


def test_the_sample_points_are_valid() -> None:
    assert run("check", "-", given=json.dumps(SAMPLE)).status == 0


# --- other formats ------------------------------------------------------------------------------------------

TEXTS = [each.value for each, form in SAMPLE_FORMATS.items() if not form.is_binary]
BINARY = [each.value for each, form in SAMPLE_FORMATS.items() if form.is_binary]
HTTP_KINDS = [kind for kind in TEMPLATES if TEMPLATES[kind].is_http]
# What no format may lose: characters that some of them escape, numbers of both kinds, a time of the point's own.
_ODD = [
    {"metricName": "odd_1", "dimensions": {"a": 'x,y=z "q" \\ 北京'}, "value": 2**53 - 1, "timestamp": 1767225600123},
    {"metricName": "odd_2", "dimensions": {"b": "c", "d": 7}, "value": -0.125, "timestamp": 1767225600},
]  # fmt: skip


def _checked(event: str, **settings: str) -> dict[str, Any]:
    done = run("check", "-", given=event, NAMESPACE="pc", **settings)
    (found,) = done.printed
    assert (done.status, found["errors"]) == (0, []), found["errors"]
    checked: dict[str, Any] = found
    return checked


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", TEMPLATES)
def test_an_event_of_any_kind_carries_any_text_format(kind: str, name: str) -> None:
    found = _checked(run("events", kind, "--format", name).out)
    assert {message["format"] for message in found["messages"]} == {name}
    told = [(p["metricName"], p["dimensions"], p["value"]) for p in found["points"]]
    assert told == [(p["metricName"], p["dimensions"], p["value"]) for p in SAMPLE]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", HTTP_KINDS)
def test_a_request_of_a_client_carries_a_binary_format(kind: str, name: str) -> None:
    found = _checked(run("events", kind, "--format", name).out)
    assert {message["format"] for message in found["messages"]} == {name}
    assert [p["value"] for p in found["points"]] == [p["value"] for p in SAMPLE]


@pytest.mark.parametrize("name", [*TEXTS, *BINARY])
def test_names_values_and_times_of_points_survive_every_format(name: str) -> None:
    written = run("events", "http", "--format", name, "--points", "-", given=json.dumps(_ODD))
    found = _checked(written.out, DESTINATION="remote-write")
    told = [(p["metricName"], p["dimensions"], p["value"]) for p in found["points"]]
    assert told == [("odd_1", _ODD[0]["dimensions"], 2**53 - 1), ("odd_2", {"b": "c", "d": "7"}, -0.125)]
    # Telegraf writes seconds.
    fraction = "" if name == "telegraf-json" else ".123"
    assert found["points"][0]["timestamp"].startswith(f"2026-01-01T00:00:00{fraction}")


@pytest.mark.parametrize("name", ["influx", "prometheus-text", "otlp-json"])
def test_points_in_another_format_are_spread_over_messages_too(name: str) -> None:
    done = run("events", "ckafka", "--format", name, "--messages", "3")
    assert len(done.printed["Records"]) == 3
    assert _checked(done.out)["valid"] == 3


@pytest.mark.parametrize("name", TEXTS)
def test_no_message_is_empty_if_there_are_fewer_points_than_messages(name: str) -> None:
    done = run("events", "ckafka", "--format", name, "--messages", "5")
    assert len(done.printed["Records"]) == len(SAMPLE)
    assert _checked(done.out)["valid"] == len(SAMPLE)


def test_a_payload_that_cannot_be_written_in_another_format_is_not_called_invalid() -> None:
    otlp = run("events", "timer", "--format", "otlp-json").printed["Message"]
    done = run("events", "timer", "--format", "influx", "--points", "-", given=otlp)
    assert "only a valid point in the forwarder's own JSON can be written in another format" in done.err


@pytest.mark.parametrize(
    ("words", "given_text", "told"),
    [
        pytest.param(("ckafka", "--format", "remote-write"), "", "choose http or apigw", id="binary in Kafka"),
        pytest.param(("replay", "--format", "influx"), "", "has no points", id="a job"),
        pytest.param(("timer", "--format", "smoke"), "", "is not one of", id="no such format"),
        pytest.param(("timer", "--format", "influx", "--points", "-"), "{", "cannot be spread over", id="no JSON"),
        pytest.param(("timer", "--format", "influx", "--points", "-"), '{"metricName": "a"}', "only a valid point", id="no point"),
        pytest.param(("timer", "--format", "influx", "--points", "-"), '[{"metricName": "a", "value": "1"}]', "only a valid point", id="a text"),
        pytest.param(("ckafka", "--messages", "3", "--points", "-"), "load1 1\n", "only the forwarder's own JSON can", id="another format"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_in_a_format_ends_with_status_2(
    words: tuple[str, ...], given_text: str, told: str
) -> None:
    done = run("events", *words, given=given_text)
    assert (done.status, done.out) == (2, "")
    assert told in done.err


# --- jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("replay", Replay(False)), ("replay-dead-letters", Replay(True)), ("doctor", None)],
)
def test_the_event_that_asks_for_a_job_is_printed_and_understood(kind: str, asked: Replay | None) -> None:
    event = run("events", kind).printed
    assert read_job(event) == asked
    assert asks_for_doctor(event) == (asked is None)


@pytest.mark.parametrize("option", [("--points", "-"), ("--messages", "2")], ids=" ".join)
def test_an_event_that_asks_for_a_job_has_no_points(option: tuple[str, str]) -> None:
    done = run("events", "replay", *option, given="{}")
    assert done.status == 2
    assert "has no points" in done.err
