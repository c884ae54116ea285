"""The events that the repository ships work as they are, today and in a year, against a receiver that checks them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.dry_run import dry_run
from metric_forwarder.settings.settings import Settings
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator

# What the samples hold on purpose: a text in the place of a number, and texts that no destination takes.
INVALID = {"ckafka": 1}
FILTERED = {"influx": 2, "telegraf": 1}
EVENTS = sorted((Path(__file__).parents[2] / "events").glob("*.json"))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def report_of(receiver: Emulator, event: Any) -> dict[str, Any]:
    environ = {
        "MF_RECEIVER_URL": receiver.url,
        "MF_SECRET_ID": EXAMPLE_SECRET_ID,
        "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
        "MF_REGION": "gz",
        "MF_NAMESPACE": "demo",
        "MF_HTTP_TOKEN": "sample-token-of-the-docs",
    }
    answer = Application(environ).handle(event, {})
    report: dict[str, Any] = json.loads(answer["body"]) if "statusCode" in answer else answer
    return report


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_a_sample_event_is_delivered_and_none_of_its_points_can_go_stale(
    receiver: Emulator, path: Path
) -> None:
    receiver.clear()
    report = report_of(receiver, json.loads(path.read_text()))
    outcomes = report["outcomes"]
    assert outcomes["invalid"] == INVALID.get(path.stem, 0)
    assert outcomes["filtered"] == FILTERED.get(path.stem, 0)
    left_out = outcomes["invalid"] + outcomes["filtered"]
    assert outcomes["delivered"] == report["received"] - left_out == len(receiver.points())
    assert not re.search(r'timestamp\\"|timeUnixNano', path.read_text())


def test_there_is_a_sample_event_of_each_trigger_that_needs_no_network() -> None:
    names = {"ckafka", "cls", "cmq", "dead-letter", "direct", "eventbridge", "http", "timer"}
    assert {path.stem for path in EVENTS} >= names


def test_the_formats_that_others_write_into_queues_have_a_sample_event() -> None:
    formats = set()
    for path in EVENTS:
        tried = dry_run(json.loads(path.read_text()), Settings.read({"MF_NAMESPACE": "demo"}, to_send=False))
        formats |= {message.format for message in tried.messages}
    assert formats >= {"json", "influx", "telegraf-json", "otlp-json"}
