"""Jobs: what a message asks for instead of bringing points, by a timer or by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.errors import ConfigError, UnknownTrigger
from metric_forwarder.jobs import read_job
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.harness import CONTEXT, Harness, ckafka, make_harness, outcomes, point

REPLAY = {"replay": True}
WITH_DEAD_LETTERS = {"replay": True, "deadLetters": True}


def filled(tmp_path: Path) -> Harness:
    """An application whose spool holds one point and one dead letter."""
    harness = make_harness(SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    harness.receiver.script.extend([ReturnCode.INTERNAL_FAILURE, ReturnCode.NO_VALID_DATA])
    assert outcomes(harness.handle(ckafka(point(1)))) == {"spooled": 1}
    assert outcomes(harness.handle(ckafka(point(2, "undeclared")))) == {"rejected": 1}
    return harness


@pytest.mark.parametrize("as_text", [False, True], ids=["decoded", "as text"])
@pytest.mark.parametrize(
    ("job", "delivered"), [(REPLAY, 1), (WITH_DEAD_LETTERS, 2)], ids=["points", "dead letters too"]
)
def test_a_replay_can_be_asked_for_by_invoking_the_function_with_the_job(
    tmp_path: Path, job: dict[str, bool], delivered: int, *, as_text: bool
) -> None:
    harness = filled(tmp_path)
    report = harness.application.handle(json.dumps(job) if as_text else job, CONTEXT)
    assert (report["trigger"], report["status"]) == ("direct", "ok")
    assert outcomes(report) == {"delivered": delivered}


def test_a_job_that_is_asked_for_by_hand_and_misspelt_says_how_to_ask(harness: Harness) -> None:
    report = harness.handle({"replay": "yes"})
    assert outcomes(report) == {"invalid": 1}
    assert '{"replay": true}' in report["errors"][0]["message"]


@pytest.mark.parametrize("event", [{"Replay": True}, {"deadLetters": True}, {"keep": ["a"]}], ids=str)
def test_the_error_for_an_event_that_resembles_a_job_shows_the_jobs(
    harness: Harness, event: dict[str, Any]
) -> None:
    with pytest.raises(UnknownTrigger, match=r'asked for with \{"replay": true\}'):
        harness.application.handle(event, CONTEXT)


def test_an_event_of_another_kind_gets_no_hint_about_jobs(harness: Harness) -> None:
    with pytest.raises(UnknownTrigger) as raised:
        harness.application.handle({"Type": "Gauge"}, CONTEXT)
    assert "replay" not in str(raised.value)


def test_a_replay_without_a_spool_is_a_config_error_for_every_trigger(harness: Harness) -> None:
    with pytest.raises(ConfigError, match="MF_SPOOL is empty"):
        harness.application.handle(REPLAY, CONTEXT)


def test_a_message_of_another_trigger_never_starts_a_job(tmp_path: Path) -> None:
    harness = filled(tmp_path)
    assert outcomes(harness.handle(ckafka(REPLAY))) == {"invalid": 1}
    assert harness.receiver.points == []


@pytest.mark.parametrize(
    "payload",
    [
        point(1, "replay_lag"),
        point(1, replay=True),
        [point(1), {"replay": True}],
        {"points": [{"replay": True}], "dimensions": {"scrape": "x"}},
    ],
    ids=["a name", "an unknown member", "a list", "an envelope"],
)
def test_a_payload_that_mentions_a_job_is_still_a_payload(payload: Any) -> None:
    assert read_job(payload) is None
    assert read_job(json.dumps(payload)) is None


@given(
    st.dictionaries(
        st.sampled_from(["replay", "Replay", "deadLetters", "scrape", "keep", "job", "namespace", "typo"]),
        st.sampled_from([True, False, None, 1, "x", [], ["x"], ["x", 1], {}]),
    )
)
def test_a_job_says_the_same_as_text_and_decoded_and_is_never_taken_for_points(asked: dict[str, Any]) -> None:
    assert read_job(asked) == read_job(json.dumps(asked))
    assert (read_job(asked) is None) == ({name.lower() for name in asked}.isdisjoint({"replay", "scrape"}))
