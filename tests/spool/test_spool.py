"""What cannot be delivered now is kept, replayed and only then let go; real files, real processes, really killed."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application, Outside
from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import NotJson
from metric_forwarder.formats.payload import read_payload
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.spool.file_system import SystemFiles
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.spool_file import MAX_BYTES, MAX_FILES
from metric_forwarder.spool.store import (
    SpoolError,
    SpoolRecord,
    by_time,
    decode_record,
    encode_record,
    payload_text,
)
from metric_forwarder.times import nanoseconds, rfc3339
from receiver_emulator import Emulator, EmulatorOptions
from support import small_disk
from support.fakes import FakeClock, InProcessReceiver, machine_of
from support.harness import (
    CONTEXT,
    Harness,
    ckafka,
    environ,
    make_harness,
    make_remote_write_harness,
    outcomes,
    point,
    report_of,
    values,
)
from support.killable import Nursery

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}
# As the reason of a record: no other record is replayed beside it.
FILLS_A_CHUNK = "x" * MAX_BYTES
REPLAY_ALL = {**REPLAY, "Message": '{"replay": true, "deadLetters": true}'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spooling(folder: Path) -> Harness:
    return make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1", BATCH_MAX_POINTS="10", CONCURRENCY="1")


def down(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY


def up(harness: Harness) -> None:
    harness.receiver.refuse_if = lambda _: None


def test_undeliverable_points_are_spooled_and_replayed_in_order(spooling: Harness, folder: Path) -> None:
    down(spooling)
    event = ckafka(*(point(value) for value in range(25)))
    assert outcomes(spooling.handle(event)) == {"spooled": 25}
    assert outcomes(spooling.handle(REPLAY)) == {"spooled": 25}
    up(spooling)
    assert outcomes(spooling.handle(REPLAY)) == {"delivered": 25}
    assert values(spooling.receiver.points) == list(range(25))
    assert spooling.handle(REPLAY)["status"] == "empty"
    assert [path.name for path in folder.iterdir()] == [".lock"]


def letters(folder: Path) -> list[dict[str, Any]]:
    """The dead letters in a folder."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("dead-*.jsonl"))
        for line in file.read_text().splitlines()[1:]
    ]


def test_a_replay_goes_through_dedupe_and_so_does_a_redelivery_after_it(spooling: Harness) -> None:
    down(spooling)
    bodies = [
        [point(1), point(2)],
        point(3, id="x"),
        {"dimensions": {"a": "b"}, "points": [{"metricName": "m", "value": 4}]},
    ]
    event = ckafka(*bodies)
    assert outcomes(spooling.handle(event)) == {"spooled": 4}
    up(spooling)
    assert outcomes(spooling.handle(event)) == {"delivered": 4}
    assert outcomes(spooling.handle(REPLAY)) == {"duplicate": 4}
    assert outcomes(spooling.handle(event)) == {"duplicate": 4}
    assert len(spooling.receiver.points) == 4


def test_what_may_have_arrived_is_said_before_its_record_is_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    class Watched(SystemFiles):
        def remove(self, path: Path) -> None:
            said.append(capsys.readouterr().out)
            super().remove(path)

    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    given = environ(SPOOL=folder.as_uri(), UNCERTAIN="hold", MAX_ATTEMPTS="1")
    application = Application(given, clock, lambda: receiver, outside=Outside(files=Watched()))
    receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert outcomes(report_of(application, ckafka(point(1), point(2)))) == {"spooled": 2}
    receiver.refuse_if = lambda _: None
    receiver.script.extend([Failure(Fault.UNANSWERED, "reset")] * 2)
    clock.sleep(60)
    capsys.readouterr()
    said.clear()
    assert outcomes(report_of(application, REPLAY)) == {"uncertain": 2}
    line = json.loads(said[0].splitlines()[-1])
    assert (line["level"], line["event"]) == ("ERROR", "uncertain")
    assert "not sent again (MF_UNCERTAIN=hold): 2;" in line["message"]


def test_a_replay_delivers_what_a_redelivery_has_not(folder: Path) -> None:
    first = make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    down(first)
    first.handle(ckafka([point(1), point(2)], topic="t"))
    up(first)
    assert outcomes(first.handle(REPLAY)) == {"delivered": 2}
    assert outcomes(first.handle(ckafka([point(1), point(2)], topic="t"))) == {"duplicate": 2}


def test_a_point_says_the_same_after_the_spool(spooling: Harness) -> None:
    down(spooling)
    now = spooling.clock.time()
    sent = point(0.1, dimensions={"host": "ü\U0001f600"}, timestamp=int(now * 1000) - 5, id="key")
    assert outcomes(spooling.handle(sent)) == {"spooled": 1}
    up(spooling)
    assert outcomes(spooling.handle(REPLAY)) == {"delivered": 1}
    assert spooling.receiver.points[0][1]["dimensions"] == {"host": "ü\U0001f600"}
    assert outcomes(spooling.handle(sent)) == {"duplicate": 1}


def test_dead_letters_are_kept_with_their_reason_and_skipped_unless_asked(
    spooling: Harness, folder: Path
) -> None:
    spooling.receiver.refuse_if = lambda request: (
        ReturnCode.NO_VALID_DATA if any(wire["metricName"] == "unknown" for wire in request.data) else None
    )
    event = ckafka(
        point("1"),
        "{",
        point(1, "unknown"),
        point(2, timestamp=1),
        point(3),
        {"points": [point(4)], "typo": 1},
    )
    report = spooling.handle(event)
    assert outcomes(report) == {"delivered": 1, "invalid": 3, "rejected": 1, "stale": 1}
    (file,) = folder.glob("dead-*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert sorted(record["outcome"] for record in records) == [
        "invalid",
        "invalid",
        "invalid",
        "rejected",
        "stale",
    ]
    assert all(record["reason"] for record in records)
    assert spooling.handle(REPLAY)["received"] == 0
    up(spooling)
    again = spooling.handle(REPLAY_ALL)
    assert outcomes(again) == {"delivered": 1, "invalid": 3, "stale": 1}
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": 3, "stale": 1}


def test_a_bad_envelope_is_kept_whole(spooling: Harness, folder: Path) -> None:
    envelope = {"points": [point(1), point(2)], "namespce": "elsewhere"}
    assert outcomes(spooling.handle(ckafka(envelope))) == {"invalid": 2}
    (file,) = folder.glob("dead-*.jsonl")
    (record,) = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert json.loads(record["payload"]) == envelope
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": 2}


def test_a_point_that_goes_bad_in_the_spool_becomes_a_dead_letter(spooling: Harness, folder: Path) -> None:
    down(spooling)
    spooling.handle([point(1), point(2, timestamp=spooling.clock.time())])
    spooling.clock.sleep(301)
    spooling.receiver.refuse_if = lambda _: ReturnCode.NAMESPACE_ILLEGAL
    assert outcomes(spooling.handle(REPLAY)) == {"rejected": 1, "stale": 1}
    assert list(folder.glob("points-*")) == []
    (file,) = folder.glob("dead-*.jsonl")
    assert len(file.read_text().splitlines()) == 3


def test_a_point_that_goes_bad_where_there_is_no_room_for_a_dead_letter_stays_in_the_spool(
    folder: Path,
) -> None:
    harness = make_harness(SPOOL=folder.as_uri() + "?max_mb=1", MAX_ATTEMPTS="1")
    down(harness)
    big = [point(value, dimensions={"text": "x" * 40_000}) for value in range(15)]
    assert outcomes(harness.handle(big)) == {"spooled": 15}
    harness.receiver.refuse_if = lambda _: ReturnCode.NAMESPACE_ILLEGAL
    report = harness.handle(REPLAY)
    assert outcomes(report) == {"rejected": 15}
    assert any("the spool is full" in error["message"] for error in report["errors"])
    up(harness)
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 15}


def test_a_dead_letter_with_several_points_keeps_only_those_not_delivered(
    spooling: Harness, folder: Path
) -> None:
    several = [point(value, namespace=f"n{value}") for value in range(3)]
    FileSpool(folder).write([], [SpoolRecord(several, "s", "place", None, "invalid", "")])
    spooling.receiver.script.extend([None, ReturnCode.NOT_READY])
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"delivered": 1, "spooled": 2}
    assert outcomes(spooling.handle(REPLAY)) == {"delivered": 2}
    assert spooling.handle(REPLAY_ALL)["status"] == "empty"


@pytest.mark.parametrize(
    ("properties", "members"),
    [
        ({}, {}),
        ({"dimensions": {"additionalProperties": {"type": "integer"}}}, {"dimensions": {"port": 8080}}),
        ({"timestamp": {"type": "string"}}, {"timestamp": "2026-01-01T00:00:00Z"}),
        ({"id": {"type": "integer"}}, {"id": 7}),
    ],
    ids=["no namespace", "integers as dimensions", "times as text", "integers as ids"],
)
def test_a_point_that_a_custom_schema_accepted_is_not_validated_by_it_again(
    tmp_path: Path, properties: dict[str, Any], members: dict[str, Any]
) -> None:
    written = point(1, **members)
    schema = tmp_path / "own.json"
    known = {name: {} for name in written} | properties
    schema.write_text(json.dumps({"properties": known, "additionalProperties": False}))
    harness = make_harness(SCHEMA=str(schema), SPOOL=(tmp_path / "spool").as_uri(), MAX_ATTEMPTS="1")
    down(harness)
    assert outcomes(harness.handle(ckafka(written))) == {"spooled": 1}
    up(harness)
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1}
    harness.receiver.script.append(ReturnCode.PARAMETER_INVALID)
    another = {**written, "value": 2, **({"id": 8} if "id" in written else {})}
    assert outcomes(harness.handle(ckafka(another, first_offset=1))) == {"rejected": 1}
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1}


def test_a_spool_that_cannot_be_written_leaves_points_undelivered_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    harness = make_harness(SPOOL=(tmp_path / "file" / "spool").as_uri(), MAX_ATTEMPTS="1")
    down(harness)
    report = harness.handle(ckafka(point()))
    assert outcomes(report) == {"undelivered": 1}
    assert "MF_SPOOL" in report["errors"][0]["message"]
    up(harness)
    assert outcomes(harness.handle(ckafka(point(), "{"))) == {"delivered": 1, "invalid": 1}


def test_a_full_spool_says_so_and_takes_nothing_more(folder: Path) -> None:
    harness = make_harness(SPOOL=folder.as_uri() + "?max_mb=1", MAX_ATTEMPTS="1")
    down(harness)
    big = [point(value, dimensions={"text": "x" * 30_000}) for value in range(20)]
    assert outcomes(harness.handle(big)) == {"spooled": 20}
    report = harness.handle(big)
    assert outcomes(report) == {"undelivered": 20}
    assert "the spool is full" in report["errors"][0]["message"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20


def test_a_spool_of_very_many_files_is_full_until_they_are_replayed_or_removed(folder: Path) -> None:
    folder.mkdir()
    for number in range(20_000):
        (folder / f"dead-{number}-x-0.jsonl").touch()
    harness = make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    down(harness)
    report = harness.handle(ckafka(point()))
    assert outcomes(report) == {"undelivered": 1}
    assert "the spool is full" in report["errors"][0]["message"]
    assert "remove its dead letters" in report["errors"][0]["message"]
    (folder / "dead-0-x-0.jsonl").unlink()
    assert outcomes(harness.handle(ckafka(point()))) == {"spooled": 1}


@pytest.mark.slow
def test_time_is_kept_back_for_writing_dead_letters_too(tmp_path: Path) -> None:
    def took_ms(folder: Path, *bodies: Any) -> int:
        harness = make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="50", DEADLINE_MARGIN_MS="0")

        def hang(_request: HttpRequest) -> Failure:
            harness.clock.sleep(harness.receiver.timeouts[-1])
            return Failure(Fault.UNANSWERED, "no answer in time")

        harness.receiver.script.extend([hang] * 50)
        report = harness.handle(ckafka(*bodies), time_limit_ms=5000)
        assert report["outcomes"]["spooled"] == 1
        took: int = report["durationMs"]
        return took

    few = took_ms(tmp_path / "few", point(1))
    many = took_ms(tmp_path / "many", point(1), *[point("bad")] * 6000)
    assert few - many == pytest.approx(6000 * FileSpool.per_record_s * 1000, abs=20)


@pytest.mark.parametrize("damage", ["cut", "bytes", "foreign", "empty", "other JSON", "nested"])
def test_a_torn_or_foreign_file_is_set_aside_and_reported(
    spooling: Harness, folder: Path, damage: str
) -> None:
    down(spooling)
    spooling.handle(point(1))
    spooling.handle(point(2))
    first, _ = sorted(folder.glob("points-*.jsonl"))
    content = first.read_bytes()
    first.write_bytes({"cut": content[:-9], "bytes": b"\xff" + content, "foreign": b"hello\n", "empty": b"", "other JSON": b"[]\n", "nested": b"[" * 10_000}[damage])  # fmt: skip
    up(spooling)
    report = spooling.handle(REPLAY)
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert first.with_suffix(".set-aside").exists()
    assert first.stem in report["errors"][0]["source"]
    assert spooling.handle(REPLAY)["status"] == "empty"


def test_old_drafts_of_killed_instances_are_removed_and_recent_ones_stay(folder: Path) -> None:
    folder.mkdir()
    (folder / "points-3.ack").write_text("1\n")
    old, recent = folder / "points-1.draft", folder / "points-2.draft"
    for draft in (old, recent):
        draft.write_text("half a rec")
    os.utime(old, (0, 0))
    assert list(FileSpool(folder).replay(dead_letters=True)) == []
    assert (old.exists(), recent.exists()) == (False, True)
    assert not (folder / "points-3.ack").exists()


def test_points_of_an_instance_whose_clock_is_ahead_were_not_spooled_in_the_future(folder: Path) -> None:
    ahead = FakeClock(time.time() + 3 * 3600)
    FileSpool(folder, machine=machine_of(ahead)).write(
        [SpoolRecord(point(), "s", None, None, "undelivered", "")], []
    )
    assert FileSpool(folder).measure().oldest_ms == pytest.approx(time.time() * 1000, abs=60_000)


@pytest.mark.parametrize("hours", [-3, 3])
def test_drafts_are_judged_by_the_clock_of_the_file_system(folder: Path, hours: int) -> None:
    folder.mkdir()
    old, recent = folder / "points-1.draft", folder / "points-2.draft"
    for draft in (old, recent):
        draft.write_text("half a rec")
    long_ago = time.time() - 3600
    os.utime(old, (long_ago, long_ago))
    here = FakeClock()
    here.sleep(time.time() - here.time() + hours * 3600)
    assert list(FileSpool(folder, machine=machine_of(here)).replay(dead_letters=True)) == []
    assert (old.exists(), recent.exists()) == (False, True)


def test_only_one_replay_runs_at_a_time(folder: Path) -> None:
    spool = FileSpool(folder)
    spool.write([SpoolRecord(point(), "s", None, None, "undelivered", "")], [])
    chunks = spool.replay(dead_letters=False)
    next(chunks)
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder).replay(dead_letters=False))


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_replay_that_runs_is_left_alone_whatever_time_it_is_here(folder: Path, hours: int) -> None:
    FileSpool(folder).write([SpoolRecord(point(), "s", None, None, "undelivered", "")], [])
    chunks = FileSpool(folder).replay(dead_letters=False)
    next(chunks)
    here = FakeClock()
    here.sleep(time.time() - here.time() + hours * 3600)
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder, machine=machine_of(here)).replay(dead_letters=False))


def test_a_lock_that_was_held_for_longer_than_any_invocation_stops_no_replay(folder: Path) -> None:
    FileSpool(folder).write([SpoolRecord(point(), "s", None, None, "undelivered", "")], [])
    frozen = FileSpool(folder).replay(dead_letters=False)
    next(frozen)
    long_ago = time.time() - 901
    os.utime(folder / ".lock", (long_ago, long_ago))
    assert next(FileSpool(folder).replay(dead_letters=False))


def test_a_replay_that_ended_keeps_no_other_from_the_spool_although_a_frozen_instance_holds_the_lock(
    folder: Path,
) -> None:
    FileSpool(folder).write([SpoolRecord(point(), "s", None, None, "undelivered", "")], [])
    frozen = FileSpool(folder).replay(dead_letters=False)
    next(frozen)
    long_ago = time.time() - 901
    os.utime(folder / ".lock", (long_ago, long_ago))
    passing = FileSpool(folder).replay(dead_letters=False)
    next(passing)
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder).replay(dead_letters=False))
    passing.close()
    assert next(FileSpool(folder).replay(dead_letters=False))


def test_a_frozen_instance_that_goes_on_with_its_replay_keeps_others_from_the_spool_again(
    folder: Path,
) -> None:
    for number in range(MAX_FILES + 1):
        FileSpool(folder).write([SpoolRecord(point(number), "s", None, None, "undelivered", "")], [])
    frozen = FileSpool(folder).replay(dead_letters=False)
    next(frozen)
    long_ago = time.time() - 901
    os.utime(folder / ".lock", (long_ago, long_ago))
    passing = FileSpool(folder).replay(dead_letters=False)
    next(passing)
    next(frozen)
    passing.close()
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder).replay(dead_letters=False))


def test_a_replay_without_a_spool_is_a_configuration_error(harness: Harness) -> None:
    with pytest.raises(ConfigError, match="MF_SPOOL"):
        harness.handle(REPLAY)


@pytest.mark.parametrize(
    "message",
    [
        {"replay": True, "deadletters": True},
        {"replay": True, "deadLetters": "true"},
        {"Replay": True},
        {"replay": "yes"},
        {"replay": False},
    ],
    ids=str,
)
def test_a_misspelt_replay_job_is_invalid_and_the_error_says_how_to_write_it(
    spooling: Harness, message: dict[str, Any]
) -> None:
    report = spooling.handle({**REPLAY, "Message": json.dumps(message)})
    assert outcomes(report) == {"invalid": 1}
    assert 'it must be {"replay": true}' in report["errors"][0]["message"]


def test_acknowledged_records_never_come_back_even_if_the_replay_dies(folder: Path) -> None:
    spool = FileSpool(folder)
    spool.write([SpoolRecord(point(value), "s", None, None, "undelivered", "") for value in range(5)], [])
    chunk = next(spool.replay(dead_letters=False))
    chunk.acknowledge([0, 3])
    with (folder / (next(folder.glob("points-*.ack")).name)).open("ab") as file:
        file.write(b"4")  # cut off in the writing
    del chunk
    again = next(FileSpool(folder).replay(dead_letters=False))
    assert [message.body["value"] for message in again.messages] == [1, 2, 4]


KILLED_WHILE_REMOVING = """
import os, signal, sys
from pathlib import Path
from metric_forwarder.spool.files import FileSpool

left = int(sys.argv[2])

def kill(event, _arguments):
    global left
    if event == "os.remove":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

for chunk in FileSpool(Path(sys.argv[1])).replay(dead_letters=False):
    chunk.acknowledge([0, 1])
    sys.addaudithook(kill)
    chunk.acknowledge([2])
"""


@pytest.mark.parametrize(("removal", "left"), [(1, [2]), (2, [])], ids=["the file", "its rows"])
def test_a_replay_that_is_killed_while_it_removes_what_it_replayed_brings_nothing_back(
    folder: Path, removal: int, left: list[int]
) -> None:
    spool = FileSpool(folder)
    spool.write([SpoolRecord(point(value), "s", None, None, "undelivered", "") for value in range(3)], [])
    program = [sys.executable, "-c", KILLED_WHILE_REMOVING, str(folder), str(removal)]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    assert spool.waiting(dead_letters=False) == len(left)
    chunks = spool.replay(dead_letters=False)
    assert [message.body["value"] for chunk in chunks for message in chunk.messages] == left


@pytest.mark.slow
@given(
    records=st.lists(
        st.builds(
            SpoolRecord,
            payload=st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            ),
            source=st.text(),
            coordinates=st.none() | st.text(),
            time_ms=st.none() | st.integers(0, 10**14),
            outcome=st.just("undelivered"),
            reason=st.text(),
            places=st.lists(st.text(), max_size=3).map(tuple),
            format=st.none() | st.sampled_from([each.value for each in Format]),
            hint=st.none(),
            is_base64=st.just(False),
        ),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_are_read_as_they_were_written(tmp_path: Path, records: list[SpoolRecord]) -> None:
    spool = FileSpool(tmp_path / "spool")
    spool.write(records, [])
    for chunk in spool.replay(dead_letters=False):
        expected = by_time(
            [
                Message(
                    r.source,
                    r.payload,
                    r.coordinates,
                    r.time_ms,
                    receipt=row,
                    already_validated=True,
                    places=tuple(r.places),
                    format=r.format,
                )
                for row, r in enumerate(records)
            ]
        )
        assert chunk.messages == expected
        chunk.acknowledge(range(len(records)))
        chunk.close()


# --- a disk that is full ----------------------------------------------------------------------------------------


def on_a_small_disk(scene: str, folder: Path, most_bytes: int) -> list[dict[str, Any]]:
    """What a scene left on disks that take from no byte of a file to almost so many."""
    command = [sys.executable, small_disk.__file__, scene, str(folder), str(most_bytes)]
    told: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return told


@pytest.mark.slow
def test_a_write_that_is_cut_off_at_any_byte_keeps_nothing(tmp_path: Path) -> None:
    FileSpool(tmp_path / "whole").write([small_disk.record(0)], [small_disk.record(1), small_disk.record(2)])
    size = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    told = on_a_small_disk("write", tmp_path, size + 1)
    assert told[:-1] == [{"kept": False, "left": [], "drafts": []}] * size
    assert told[-1] == {"kept": True, "left": [0, 1, 2], "drafts": []}


@pytest.mark.parametrize("scene", ["acknowledge", "acknowledge-next"])
def test_an_acknowledgement_that_is_cut_off_at_any_byte_stands_for_no_other_row(
    tmp_path: Path, scene: str
) -> None:
    everything = set(range(small_disk.ROWS))
    known, cut = {*small_disk.BEFORE, *small_disk.AFTER}, set(small_disk.CUT)
    size = len("20\n21\n119\n")
    for told in on_a_small_disk(scene, tmp_path, size + 1):
        left = set(told["left"])
        assert left | cut == everything - known
        assert not (told["written"] and left & cut)
        # What could not be written down is with the next that can, unless another replay met it first.
        assert scene == "acknowledge-next" or not left & cut
        assert told["waiting"] == len(left)
    assert told["written"]


def test_a_replayed_file_is_removed_even_if_the_disk_is_too_full_for_its_acknowledgements(
    tmp_path: Path,
) -> None:
    assert on_a_small_disk("finish", tmp_path, 20) == [{"left": [], "files": []}] * 20


def test_acknowledged_rows_that_a_file_does_not_have_are_ignored(folder: Path) -> None:
    spool = FileSpool(folder)
    spool.write([SpoolRecord(point(value), "s", None, None, "undelivered", "") for value in range(3)], [])
    (file,) = folder.glob("points-*.jsonl")
    file.with_suffix(".ack").write_bytes(b"1\n77\n\0\0\n-2\n")
    assert spool.waiting(dead_letters=False) == 2
    chunk = next(spool.replay(dead_letters=False))
    assert [message.body["value"] for message in chunk.messages] == [0, 2]


@contextmanager
def coming_and_going(folder: Path) -> Iterator[None]:
    """Files that a replay beside this would finish with."""
    ended = threading.Event()

    def churn(name: str) -> None:
        while not ended.is_set():
            (folder / name).write_bytes(b"1\n")
            (folder / name).unlink()

    threads = [threading.Thread(target=churn, args=(f"points-1-{number}.ack",)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_replay_beside_a_write_does_not_make_it_fail(folder: Path) -> None:
    folder.mkdir()
    spool = FileSpool(folder)
    with coming_and_going(folder):
        for value in range(150):
            spool.write([], [SpoolRecord(point(value), "s", None, None, "invalid", "")])
    assert len(letters(folder)) == 150


# --- what cannot be read ----------------------------------------------------------------------------------------


def test_a_replay_treats_a_missing_folder_as_empty_and_does_not_make_it(
    spooling: Harness, folder: Path
) -> None:
    assert spooling.handle(REPLAY)["status"] == "empty"
    assert not folder.exists()
    with pytest.raises(SpoolError, match=f"no folder {folder}: mount it"):
        FileSpool(folder).waiting(dead_letters=False)


def test_a_file_that_is_removed_during_a_replay_does_not_end_it_for_the_others(folder: Path) -> None:
    spool = FileSpool(folder)
    for row in range(3):
        spool.write([small_disk.record(row)._replace(reason=FILLS_A_CHUNK)], [])
    third = sorted(folder.glob("points-*"))[2]
    replayed = []
    for chunk in spool.replay(dead_letters=False):
        replayed += [message.body["row"] for message in chunk.messages]
        third.unlink(missing_ok=True)
    assert len(replayed) == 2


@pytest.mark.parametrize("below", ["", "/spool"])
def test_a_replay_of_an_unreadable_spool_has_failed_and_says_so(
    tmp_path: Path, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    harness = make_harness(SPOOL=f"file://{tmp_path}/file{below}")
    report = harness.handle(REPLAY)
    assert (report["status"], report["received"]) == ("failed", 0)
    assert "the spool cannot be read" in report["errors"][0]["message"]
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["level"]) for line in logged] == [("spool", "ERROR"), ("report", "ERROR")]


def test_a_replay_that_is_not_read_to_its_end_says_nothing_of_the_rest(folder: Path) -> None:
    harness = make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    spool = FileSpool(folder)
    for value in range(3):
        spool.write([SpoolRecord(point(value), "s", None, None, "undelivered", FILLS_A_CHUNK)], [])
    harness.receiver.refuse_if = lambda _: harness.clock.sleep(29)
    report = harness.handle(REPLAY)
    assert (report["status"], outcomes(report)) == ("ok", {"delivered": 2})
    harness.receiver.refuse_if = lambda _: None
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1}


# --- whose records ----------------------------------------------------------------------------------------------


def test_a_replay_leaves_alone_what_another_function_wrote_into_the_folder(folder: Path) -> None:
    harness = make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    production = {**CONTEXT, "namespace": "default", "function_name": "production"}
    staging = {**production, "function_name": "staging.2"}
    down(harness)
    assert outcomes(report_of(harness.application, point(1), context=production)) == {"spooled": 1}
    up(harness)
    other = make_harness(SPOOL=folder.as_uri())
    assert report_of(other.application, REPLAY_ALL, context=staging)["status"] == "empty"
    assert FileSpool(folder, "default/staging.2").others() == ["default/production"]
    assert FileSpool(folder, "default/production").others() == []
    assert outcomes(report_of(harness.application, REPLAY, context=production)) == {"delivered": 1}


def test_a_file_that_names_no_function_is_replayed_by_any(folder: Path) -> None:
    harness = make_harness(SPOOL=folder.as_uri())
    FileSpool(folder).write([SpoolRecord(point(1), "s", None, None, "undelivered", "")], [])
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1}


# --- dead letters keep what the producer wrote ------------------------------------------------------------------

TWICE = '{"metricName":"m","dimensions":{"a":"b","a":"c"},"value":1,"value":2}'
NOT_FINITE = '{"metricName":"m","dimensions":{"a":"b"},"value":-Infinity}'


def test_what_json_does_not_allow_is_kept_as_it_was_written(spooling: Harness, folder: Path) -> None:
    report = spooling.handle(ckafka(f"[{TWICE},{NOT_FINITE},{json.dumps(point(3))}]"))
    assert outcomes(report) == {"invalid": 2, "delivered": 1}
    assert [letter["payload"] for letter in letters(folder)] == [TWICE, NOT_FINITE]
    again = spooling.handle(REPLAY_ALL)
    assert outcomes(again) == {"invalid": 2}
    assert [error["message"] for error in again["errors"]] == [error["message"] for error in report["errors"]]


def test_an_unreadable_point_of_an_envelope_is_kept_with_what_it_would_have_inherited(
    spooling: Harness, folder: Path
) -> None:
    around = '{"namespace":"ns","dimensions":{"ip":"10.0.0.1"},"points":['
    report = spooling.handle(ckafka(f'{around}{{"metricName":"m","value":1}},{TWICE}]}}'))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert [letter["payload"] for letter in letters(folder)] == [f"{around}{TWICE}]}}"]
    assert outcomes(spooling.handle(REPLAY_ALL)) == {"invalid": 1}


@pytest.mark.parametrize(
    ("body", "kept", "said"),
    [
        (b'{"metricName":"\xc3\xbc"}', '{"metricName":"ü"}', ""),
        (b'{"metricName":"\xff"}', base64.b64encode(b'{"metricName":"\xff"}').decode(), "base64"),
    ],
    ids=["text", "no text"],
)
def test_bytes_are_kept_as_text_or_else_as_base64(folder: Path, body: bytes, kept: str, said: str) -> None:
    harness = make_harness(SPOOL=folder.as_uri(), HTTP_AUTH="cam")
    request = {
        "httpMethod": "POST",
        "headers": {},
        "path": "/",
        "body": base64.b64encode(b"[" + body).decode(),
        "isBase64Encoded": True,
    }
    harness.application.handle(request, CONTEXT)
    (letter,) = letters(folder)
    whole = kept if said else f"[{kept}"
    assert letter["payload"] == (base64.b64encode(b"[" + body).decode() if said else whole)
    assert said in letter["reason"]


def shown(value: Any) -> Any:
    """Decoded JSON as something that can be compared, with what JSON does not allow."""
    if isinstance(value, NotJson):
        return ("not JSON", value.raw if isinstance(value.raw, str) else shown_members(value.raw))
    if isinstance(value, dict):
        return shown_members(value.items())
    return [shown(item) for item in value] if isinstance(value, list) else (type(value), value)


def shown_members(pairs: Any) -> Any:
    return [(name, shown(value)) for name, value in pairs]


def joined(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}: {value}" for name, value in members) + "}"


JSON_TEXTS = st.recursive(
    st.sampled_from(
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "null",
            "true",
            "1",
            "-0.0",
            "1e-7",
            '"\\ud800"',
            "123456789012345678901",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda texts: f"[{', '.join(texts)}]")
        | st.lists(st.tuples(st.sampled_from(["a", "b", 'ü"']), inner), max_size=4).map(joined)
    ),
)


@pytest.mark.slow
@given(JSON_TEXTS)
def test_whatever_stands_in_a_dead_letter_is_read_again_as_it_was(text: str) -> None:
    for raw in read_payload(f"[{text}]").points:
        kept, remark = payload_text(raw)
        record = SpoolRecord(kept, "s", None, 1, "invalid", "why")
        assert decode_record(encode_record(record).encode("ascii")) == record
        (again,) = read_payload(f"[{kept}]").points
        assert (shown(again), remark) == (shown(raw), "")


def test_a_dead_letter_without_a_time_is_of_the_moment_it_was_received(folder: Path) -> None:
    harness = make_remote_write_harness(SPOOL=folder.as_uri())
    received_ms = round(harness.clock.time() * 1000)
    assert outcomes(harness.handle(point("1"))) == {"invalid": 1}
    harness.clock.sleep(3600)
    assert letters(folder)[0]["time_ms"] == received_ms


@pytest.mark.parametrize(
    "timestamp",
    [
        "1969-12-31T23:59:59.5Z",
        "2026-01-01T00:00:00.1234567Z",
        "0001-01-01T00:00:00+23:59",
        1.25,
        1_000_000_000_000,
    ],
)
def test_any_time_that_is_valid_is_the_same_after_the_spool(folder: Path, timestamp: str | float) -> None:
    harness = make_remote_write_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")
    harness.prometheus.script.append(HttpReply(503, {}, b""))
    sent = point(1, timestamp=timestamp)
    assert outcomes(harness.handle(sent)) == {"spooled": 1}
    assert outcomes(harness.handle(REPLAY)) == {"delivered": 1}
    assert outcomes(harness.handle(sent)) == {"duplicate": 1}


@given(st.integers(-62_135_683_140 * 10**9, 253_402_387_140 * 10**9 - 1))
def test_a_time_is_written_as_it_is_read(time_ns: int) -> None:
    assert nanoseconds(rfc3339(time_ns)) == time_ns


# --- killed -----------------------------------------------------------------------------------------------------

EVENT_POINTS = 80
ROUNDS = 15


def _run_to_its_end(
    nursery: Nursery, settings: dict[str, str], event: dict[str, Any], chosen: random.Random
) -> int:
    """How often it was killed before; each time it is given longer, as fast or slow as the machine is."""
    killed, longest_s = 0, 0.05
    while not nursery.run(settings, event, chosen.uniform(0, longest_s)):
        killed += 1
        longest_s *= 1.5
    return killed


@pytest.mark.slow
def test_killed_at_any_moment_of_delivery_or_replay_nothing_is_lost(folder: Path) -> None:
    chosen = random.Random(3)
    with Emulator(EmulatorOptions(latency_s=0.003)) as emulator, Nursery() as nursery:
        settings = environ(
            RECEIVER_URL=emulator.url,
            SPOOL=folder.as_uri(),
            BATCH_MAX_POINTS="5",
            MAX_ATTEMPTS="1",
            CONCURRENCY="2",
        )
        killed = 0
        for round_ in range(ROUNDS):
            event = ckafka(
                *(point(value, f"round{round_}") for value in range(EVENT_POINTS)), topic=f"t{round_}"
            )
            emulator.fault(
                "code", chosen.choice([1002, 1003]), times=None, rate=chosen.choice([0.0, 0.1, 0.5])
            )
            killed += _run_to_its_end(nursery, settings, event, chosen)
            emulator.clear_faults()
            killed += _run_to_its_end(nursery, settings, REPLAY, chosen)
        assert killed > ROUNDS
        arrived = {(stored["metricName"], stored["value"]) for stored in emulator.points()}
    assert arrived == {(f"round{round_}", value) for round_ in range(ROUNDS) for value in range(EVENT_POINTS)}
    assert list(folder.glob("points-*.jsonl")) == []
