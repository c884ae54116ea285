"""Dead letters: what is still refused stays, and what many of them share is kept once."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.policies import MAX_DEAD_LETTER_BYTES, MAX_DEAD_LETTERS
from metric_forwarder.spool.store import SpoolRecord
from support.harness import Harness, ckafka, make_harness, outcomes, point, values

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}
REPLAY_ALL = {**REPLAY, "Message": '{"replay": true, "deadLetters": true}'}
MB = 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spooling(folder: Path) -> Harness:
    return make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")


def letters(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("dead-*.jsonl")):
        for line in file.read_text().splitlines()[1:]:
            yield json.loads(line)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def complaints(report: dict[str, Any]) -> list[str]:
    return [error["message"] for error in report["errors"] if error["rule"] == "spool"]


def dead(payload: Any, **members: Any) -> SpoolRecord:
    return SpoolRecord(json.dumps(payload), "s", None, None, "invalid", "bad")._replace(**members)


# --- what is still refused stays ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dead_letter_with_more_bad_points_than_are_kept_and_those_behind_it_stay(
    spooling: Harness, folder: Path
) -> None:
    many = [1] * (MAX_DEAD_LETTERS + 5)
    FileSpool(folder).write([], [dead(many), *(dead(point(str(n))) for n in range(3)), dead(point(7))])
    report = spooling.handle(REPLAY_ALL)
    assert outcomes(report) == {"invalid": len(many) + 3, "delivered": 1}
    assert FileSpool(folder).waiting(dead_letters=True) == 4
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": len(many) + 3}


@pytest.mark.slow
def test_a_point_that_is_refused_in_a_replay_stays_where_there_is_no_room_for_a_dead_letter(
    spooling: Harness, folder: Path
) -> None:
    many = [1] * (MAX_DEAD_LETTERS + 5)
    # Points of the spool are valid as they were written, but a schema may have changed since.
    bad = SpoolRecord(many, "s", None, None, "undelivered", "")
    FileSpool(folder).write([bad, bad._replace(payload=point("x")), bad._replace(payload=point(7))], [])
    assert outcomes(spooling.handle(REPLAY)) == {"invalid": len(many) + 1, "delivered": 1}
    assert FileSpool(folder).waiting(dead_letters=True) == 2
    assert len(list(letters(folder))) == 0


def test_a_dead_letter_keeps_only_the_points_that_a_replay_did_not_deliver(
    spooling: Harness, folder: Path
) -> None:
    payload = {"namespace": "pc", "dimensions": {"a": "b"}, "points": [{"metricName": "m", "value": v} for v in (1, "x", 3, "y")]}  # fmt: skip
    FileSpool(folder).write([], [dead(payload, coordinates="t/0@1", places=["/points/5", "/points/6", "/points/7", "/points/8"])])  # fmt: skip
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"delivered": 2, "invalid": 2}
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": 2}
    assert values(spooling.receiver.points) == [1, 3]
    kept = list(letters(folder))
    assert [place for letter in kept for place in letter["places"]] == ["/points/6", "/points/8"]
    assert {letter["coordinates"] for letter in kept} == {"t/0@1"}


def test_points_of_a_dead_letter_that_cannot_be_delivered_now_are_spooled(
    spooling: Harness, folder: Path
) -> None:
    several = [point(value, namespace=f"n{value}") for value in range(3)]
    FileSpool(folder).write([], [dead(several, coordinates="place")])
    spooling.receiver.script.extend([None, ReturnCode.NOT_READY])
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"delivered": 1, "spooled": 2}
    assert list(letters(folder)) == []
    assert outcomes(spooling.handle(REPLAY)) == {"delivered": 2}


def test_a_point_of_an_envelope_is_the_same_as_a_dead_letter_and_when_it_comes_again(
    spooling: Harness, folder: Path, tmp_path: Path
) -> None:
    schema = tmp_path / "narrow.json"
    schema.write_text(json.dumps({"properties": {"value": {"maximum": 5}}}))
    narrow = make_harness(SPOOL=folder.as_uri(), SCHEMA=str(schema))
    points = [{"metricName": "m", "value": value} for value in (1, 10, 2, 20)]
    event = ckafka({"namespace": "pc", "dimensions": {"a": "b"}, "points": points})
    assert outcomes(narrow.handle(event)) == {"delivered": 2, "invalid": 2}
    # The schema was corrected.
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"delivered": 2}
    assert values(spooling.receiver.points) == [10, 20]
    assert outcomes(spooling.handle(event)) == {"delivered": 2, "duplicate": 2}


# --- bounds -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_an_envelope_gives_to_its_points_is_kept_once(spooling: Harness, folder: Path) -> None:
    # Written out for each point it would be 14 MB.
    shared = {f"d{n}": "x" * 30 for n in range(90)}
    event = ckafka({"dimensions": shared, "points": [{"metricName": "m", "value": "bad"}] * 4000})
    make_harness().handle(ckafka(point("bad")))  # what explains is loaded now, and not counted
    tracemalloc.start()
    try:
        report = spooling.handle(event)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcomes(report) == {"invalid": 4000}
    assert complaints(report) == []
    assert size(folder) < MB
    assert peak < 8 * MB
    assert sum(len(letter["places"]) for letter in letters(folder)) == 4000
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": 4000}


@pytest.mark.slow
def test_dead_letters_of_an_event_are_bounded_in_bytes_and_the_rest_is_reported(
    spooling: Harness, folder: Path
) -> None:
    big = "[" + "x" * (5 * MB)
    report = spooling.handle(ckafka(big, big, big, "{"))
    assert outcomes(report) == {"invalid": 4}
    assert 3 * len(big) > MAX_DEAD_LETTER_BYTES
    (told,) = complaints(report)
    assert told.startswith("1 invalid point is not kept as a dead letter")
    assert [len(letter["payload"]) for letter in letters(folder)] == [len(big), len(big), 1]


def test_texts_that_json_writes_with_six_times_the_bytes_are_counted_so(
    spooling: Harness, folder: Path
) -> None:
    report = spooling.handle(ckafka(*["[" + "界" * MB] * 4))
    assert outcomes(report) == {"invalid": 4}
    assert size(folder) < MAX_DEAD_LETTER_BYTES
    assert len(complaints(report)) == 1


# --- other versions -----------------------------------------------------------------------------------------------

# As the first version wrote it, its header included.
OLD_FILE = "dead-001767225600000-c91b3d1eff1f-0000000.jsonl"
OLD_LINES = (
    '{"payload":{"metricName":"m","dimensions":{},"value":1},"source":"t/0@1","coordinates":"t/0@1","time_ms":1767225600000,"outcome":"rejected","reason":"r"}',
    '{"payload":{"metricName":"m","dimensions":{},"value":"2"},"source":"t/0@2","coordinates":"t/0@2#/1","time_ms":1767225600000,"outcome":"invalid","reason":"r"}',
    '{"payload":"{","source":"t/0@3","coordinates":null,"time_ms":null,"outcome":"invalid","reason":"r"}',
    '{"payload":[{"metricName":"m","dimensions":{},"value":4}],"source":"t/0@4","coordinates":"t/0@4","time_ms":1767225600000,"outcome":"invalid","reason":"r"}',
)


def test_dead_letters_that_the_first_version_wrote_are_replayed(spooling: Harness, folder: Path) -> None:
    lines = "".join(f"{line}\n" for line in OLD_LINES)
    header = {"format": "metric-forwarder spool 1", "count": 4, "sha256": hashlib.sha256(lines.encode()).hexdigest()}  # fmt: skip
    folder.mkdir()
    (folder / OLD_FILE).write_text(f"{json.dumps(header)}\n{lines}")
    report = spooling.handle(REPLAY_ALL)
    assert outcomes(report) == {"delivered": 2, "invalid": 2}
    assert [error["source"] for error in report["errors"]] == ["t/0@3", "t/0@2"]
    assert values(spooling.receiver.points) == [1, 4]


def test_what_the_first_version_can_read_has_no_member_that_it_does_not_know(
    spooling: Harness, folder: Path
) -> None:
    spooling.handle(ckafka(point("1"), "{", [point("2"), point("3")], b"x".decode()))
    known = {"payload", "source", "coordinates", "time_ms", "outcome", "reason"}
    assert [set(letter) for letter in letters(folder)] == [known] * 5


def test_members_that_a_later_version_adds_are_ignored(spooling: Harness, folder: Path) -> None:
    lines = json.dumps({**dead(point(1))._asdict(), "later": [1]}) + "\n"
    header = {"format": "metric-forwarder spool 1", "count": 1, "sha256": hashlib.sha256(lines.encode()).hexdigest(), "later": 1}  # fmt: skip
    folder.mkdir()
    (folder / OLD_FILE).write_text(f"{json.dumps(header)}\n{lines}")
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"delivered": 1}
