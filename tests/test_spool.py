"""What cannot be delivered now is kept, replayed and only then let go; real files, real processes, really killed."""

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Harness, ckafka, environ, make_harness, outcomes, point, values
from killable import Nursery
from metric_forwarder.core.return_codes import ReturnCode
from metric_forwarder.errors import ConfigError
from metric_forwarder.model import Message
from metric_forwarder.spool import Record, SpoolError
from metric_forwarder.stores.file_spool import FileSpool
from receiver_emulator import Emulator, EmulatorOptions

REPLAY = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true}',
}
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


def test_what_cannot_be_delivered_now_is_spooled_and_replayed_in_order(
    spooling: Harness, folder: Path
) -> None:
    down(spooling)
    event = ckafka(*(point(value) for value in range(25)))
    assert outcomes(spooling.handle(event)) == {"spooled": 25}
    assert outcomes(spooling.handle(REPLAY)) == {"spooled": 25}
    up(spooling)
    assert outcomes(spooling.handle(REPLAY)) == {"delivered": 25}
    assert values(spooling.receiver.points) == list(range(25))
    assert spooling.handle(REPLAY)["status"] == "empty"
    assert [path.name for path in folder.iterdir()] == [".lock"]


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


@pytest.mark.parametrize("damage", ["cut", "bytes", "foreign", "empty", "other JSON"])
def test_a_torn_or_foreign_file_is_set_aside_and_reported(
    spooling: Harness, folder: Path, damage: str
) -> None:
    down(spooling)
    spooling.handle(point(1))
    spooling.handle(point(2))
    first, _ = sorted(folder.glob("points-*.jsonl"))
    content = first.read_bytes()
    first.write_bytes({"cut": content[:-9], "bytes": b"\xff" + content, "foreign": b"hello\n", "empty": b"", "other JSON": b"[]\n"}[damage])  # fmt: skip
    up(spooling)
    report = spooling.handle(REPLAY)
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert first.with_suffix(".set-aside").exists()
    assert first.stem in report["errors"][0]["source"]
    assert spooling.handle(REPLAY)["status"] == "empty"


def test_drafts_of_killed_instances_are_swept_and_recent_ones_are_not(folder: Path) -> None:
    folder.mkdir()
    old, recent = folder / "points-1.draft", folder / "points-2.draft"
    for draft in (old, recent):
        draft.write_text("half a rec")
    os.utime(old, (0, 0))
    assert list(FileSpool(folder).replay(dead_letters=True)) == []
    assert (old.exists(), recent.exists()) == (False, True)


def test_only_one_replay_runs_at_a_time(folder: Path) -> None:
    spool = FileSpool(folder)
    spool.write([Record(point(), "s", None, None, "undelivered", "")], [])
    chunks = spool.replay(dead_letters=False)
    next(chunks)
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder).replay(dead_letters=False))


def test_a_replay_without_a_spool_is_a_configuration_error(harness: Harness) -> None:
    with pytest.raises(ConfigError, match="MF_SPOOL"):
        harness.handle(REPLAY)


def test_acknowledged_records_never_come_back_even_if_the_replay_dies(folder: Path) -> None:
    spool = FileSpool(folder)
    spool.write([Record(point(value), "s", None, None, "undelivered", "") for value in range(5)], [])
    chunk = next(spool.replay(dead_letters=False))
    chunk.acknowledge([0, 3])
    with (folder / (next(folder.glob("points-*.ack")).name)).open("ab") as file:
        file.write(b"4")  # cut off in the writing
    del chunk
    again = next(FileSpool(folder).replay(dead_letters=False))
    assert [message.receipt for message in again.messages] == [1, 2, 4]


@given(
    records=st.lists(
        st.builds(
            Record,
            payload=st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            ),
            source=st.text(),
            coordinates=st.none() | st.text(),
            time_ms=st.none() | st.integers(),
            outcome=st.just("undelivered"),
            reason=st.text(),
        ),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_what_is_read(tmp_path: Path, records: list[Record]) -> None:
    spool = FileSpool(tmp_path / "spool")
    spool.write(records, [])
    for chunk in spool.replay(dead_letters=False):
        expected = [
            Message(r.source, r.payload, r.coordinates, r.time_ms, receipt=row)
            for row, r in enumerate(records)
        ]
        assert chunk.messages == expected
        chunk.acknowledge(range(len(records)))
        chunk.close()


EVENT_POINTS = 80
ROUNDS = 30


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
            while not nursery.run(settings, event, chosen.uniform(0, 0.2)):
                killed += 1
            emulator.clear_faults()
            while not nursery.run(settings, REPLAY, chosen.uniform(0, 0.2)):
                killed += 1
        assert killed > ROUNDS / 2
        arrived = {(stored["metricName"], stored["value"]) for stored in emulator.points()}
    assert arrived == {(f"round{round_}", value) for round_ in range(ROUNDS) for value in range(EVENT_POINTS)}
    assert list(folder.glob("points-*.jsonl")) == []
