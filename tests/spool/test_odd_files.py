"""One odd thing in the spool's folder stops no replay: it is set aside and named, and the rest goes on."""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.spool.file_system import SystemFiles
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.spool_file import odd_file, set_aside
from metric_forwarder.spool.store import SpoolError, SpoolRecord
from support.harness import Harness, make_harness, outcomes, point

REPLAY_ALL = {
    "Type": "Timer",
    "TriggerName": "replay",
    "Time": "2026-01-31T08:00:00Z",
    "Message": '{"replay": true, "deadLetters": true}',
}
ODD = "points-000000000000001-odd.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def harness(folder: Path) -> Harness:
    return make_harness(SPOOL=folder.as_uri(), MAX_ATTEMPTS="1")


def good(value: int = 1) -> SpoolRecord:
    return SpoolRecord(point(value), "s", f"place{value}", None, "undelivered", "")


def record(**members: Any) -> bytes:
    """A file of one record that has these members in place of its own, and a header that fits."""
    line = json.dumps({**good()._asdict(), **members}).encode() + b"\n"
    return with_header(line)


def with_header(lines: bytes, **members: Any) -> bytes:
    header = {
        "format": "metric-forwarder spool 1",
        "count": lines.count(b"\n"),
        "sha256": hashlib.sha256(lines).hexdigest(),
    }
    return json.dumps({**header, **members}).encode() + b"\n" + lines


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # Its path may be too long for an address.
        os.chdir(path.parent)
        listening.bind(path.name)


def containing(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


THINGS: dict[str, Callable[[Path], Any]] = {
    "a folder": lambda path: (path / "inside").mkdir(parents=True),
    "a fifo": os.mkfifo,
    "a socket": a_socket,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "not UTF-8": containing(b"\xff\xfe" * 100),
    "no header": containing(good().source.encode()),
    "a long line": containing(b"[" * 100_000),
    "a torn line in the middle": containing(with_header(b"").replace(b'"count": 0', b'"count": 3') + b'{"payl\n{}\n'),
    "a number as its source": containing(record(source=5)),
    "a list as its reason": containing(record(reason=[])),
    "a text as its time": containing(record(time_ms="now")),
    "true as its time": containing(record(time_ms=True)),
    "a huge time": containing(record(time_ms=10**400)),
    "an object as its coordinates": containing(record(coordinates={})),
    "a number as its outcome": containing(record(outcome=0)),
    "a number as its places": containing(record(places=7)),
    "a huge count": containing(with_header(b"", count=10**300)),
    "a negative count": containing(with_header(b"", count=-1)),
    "a text as its count": containing(with_header(b"", count="1")),
    "a record that is a list": containing(with_header(b"[]\n")),
    "a record that is nested": containing(with_header(b"[" * 100_000 + b"\n")),
    "a record of too many values": containing(with_header(b'{"payload":[' + b"[]," * 600_000 + b"[]]}\n")),
}  # fmt: skip


@pytest.mark.parametrize("name", THINGS)
def test_an_odd_thing_is_set_aside_and_named_once_and_the_rest_is_replayed(
    harness: Harness, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    FileSpool(folder).write([good()], [])
    THINGS[name](folder / ODD)
    assert FileSpool(folder).waiting(dead_letters=True) >= 1
    report = harness.handle(REPLAY_ALL)
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    (error,) = report["errors"]
    assert error["source"] == f"spool/{ODD.removesuffix('.jsonl')}.set-aside"
    assert "set aside" in error["message"]
    assert os.path.lexists(folder / error["source"].removeprefix("spool/"))
    assert harness.handle(REPLAY_ALL)["status"] == "empty"


def test_what_is_set_aside_replaces_nothing(harness: Harness, folder: Path) -> None:
    folder.mkdir()
    for _ in range(3):
        (folder / ODD).write_text("foreign")
        assert outcomes(harness.handle(REPLAY_ALL)) == {"invalid": 1}
    assert len(list(folder.glob("*.set-aside"))) == 3


ACKNOWLEDGEMENTS: dict[str, Callable[[Path], Any]] = {
    "5,000 digits": containing(b"9" * 5000 + b"\n"),
    "not UTF-8": containing(b"\xff\n" * 10),
    "digits of another script": containing("٣\n".encode()),
    "too much": containing(b"1" * 2**21),
    "a folder": Path.mkdir,
    "a fifo": os.mkfifo,
    "a socket": a_socket,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", ACKNOWLEDGEMENTS)
def test_odd_acknowledgements_stop_no_replay(
    harness: Harness, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    FileSpool(folder).write([good(1), good(2)], [])
    (file,) = folder.glob("points-*.jsonl")
    ACKNOWLEDGEMENTS[name](file.with_suffix(".ack"))
    assert FileSpool(folder).waiting(dead_letters=False) in {1, 2}
    report = harness.handle(REPLAY_ALL)
    assert report["outcomes"]["delivered"] == 2
    assert harness.handle(REPLAY_ALL)["status"] == "empty"
    assert not list(folder.glob("points-*.jsonl"))


@pytest.mark.parametrize("name", ["a folder", "a fifo", "a socket", "a dangling link"])
def test_an_odd_lock_stops_no_replay(
    harness: Harness, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    FileSpool(folder).write([good()], [])
    THINGS[name](folder / ".lock")
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1}


class OfAnotherUser(SystemFiles):
    """What is in the folder belongs to somebody else: who reads or writes these files is told the error."""

    def __init__(self, suffix: str, number: int) -> None:
        self._suffix, self._number = suffix, number

    def open(self, path: Path, flags: int) -> BinaryIO:
        if path.name.endswith(self._suffix):
            raise OSError(self._number, os.strerror(self._number))
        return super().open(path, flags)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_lock_that_may_not_be_written_keeps_a_replay_out_and_stays_locked(
    folder: Path, number: int
) -> None:
    FileSpool(folder).write([good()], [])
    running = FileSpool(folder).replay(dead_letters=False)
    next(running)
    other = FileSpool(folder, files=OfAnotherUser(".lock", number))
    with pytest.raises(SpoolError, match=rf"{os.strerror(number)}.*must be allowed to write"):
        next(other.replay(dead_letters=False))
    with pytest.raises(SpoolError, match="another replay"):
        next(FileSpool(folder).replay(dead_letters=False))
    running.close()


def test_points_that_a_user_may_not_read_stay_for_one_who_may(folder: Path) -> None:
    FileSpool(folder).write([good()], [])
    (chunk,) = FileSpool(folder, files=OfAnotherUser(".jsonl", errno.EACCES)).replay(dead_letters=False)
    assert "Permission denied" in (chunk.messages[0].broken or "")
    (chunk,) = FileSpool(folder).replay(dead_letters=False)
    assert [message.body for message in chunk.messages] == [good().payload]


def test_a_file_of_a_later_version_that_is_put_back_is_replayed_without_its_acknowledged_records(
    folder: Path,
) -> None:
    FileSpool(folder).write([good(1), good(2)], [])
    first = FileSpool(folder).replay(dead_letters=False)
    next(first).acknowledge([0])
    first.close()
    (file,) = folder.glob("points-*.jsonl")
    content = file.read_bytes()
    file.write_bytes(content.replace(b"metric-forwarder spool 1", b"metric-forwarder spool 2"))
    for _ in range(2):
        list(FileSpool(folder).replay(dead_letters=False))
    assert not file.exists()
    (aside,) = folder.glob("*.set-aside")
    aside.unlink()
    file.write_bytes(content)
    (chunk,) = FileSpool(folder).replay(dead_letters=False)
    assert [message.body for message in chunk.messages] == [good(2).payload]


def test_odd_drafts_stop_no_replay_and_no_write(harness: Harness, folder: Path) -> None:
    folder.mkdir()
    (folder / "points-1.draft").mkdir()
    (folder / "points-2.ack").mkdir()
    os.mkfifo(folder / "points-3.draft")
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    FileSpool(folder).write([good()], [])
    assert outcomes(harness.handle(REPLAY_ALL)) == {"delivered": 1}


def test_records_of_a_file_that_cannot_be_removed_are_not_replayed_again(folder: Path) -> None:
    FileSpool(folder).write([good(1), good(2)], [])
    (file,) = folder.glob("points-*.jsonl")
    content = file.read_bytes()
    chunks = FileSpool(folder).replay(dead_letters=False)
    chunk = next(chunks)
    file.unlink()
    file.mkdir()
    chunk.acknowledge([0, 1])
    chunks.close()
    file.rmdir()
    file.write_bytes(content)
    assert FileSpool(folder).waiting(dead_letters=False) == 0
    assert list(FileSpool(folder).replay(dead_letters=False)) == []
    assert not list(folder.glob("points-*.jsonl"))


CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*SpoolRecord._fields, "format", "count", "sha256"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode() + b"\n"),
)


@pytest.mark.slow
@given(
    lines=st.lists(CONTENTS, max_size=4).map(b"".join),
    fits=st.booleans(),
    acknowledgements=st.binary(max_size=30),
    dead=st.booleans(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_a_file_the_others_are_replayed(
    harness: Harness, folder: Path, lines: bytes, acknowledgements: bytes, *, fits: bool, dead: bool
) -> None:
    FileSpool(folder).write([good()], [])
    odd = folder / (ODD.replace("points", "dead") if dead else ODD)
    odd.write_bytes(with_header(lines) if fits else lines)
    odd.with_suffix(".ack").write_bytes(acknowledgements)
    report = harness.handle(REPLAY_ALL)
    assert report["outcomes"]["delivered"] + report["outcomes"]["duplicate"] >= 1
    assert FileSpool(folder).waiting(dead_letters=False) == 0
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.slow
@given(name=st.binary(min_size=1, max_size=30), prefix=st.sampled_from(["", "points-", "dead-"]), suffix=st.sampled_from(["", ".jsonl", ".ack", ".draft"]))  # fmt: skip
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_is_called_the_others_are_replayed(
    harness: Harness, folder: Path, name: bytes, prefix: str, suffix: str
) -> None:
    FileSpool(folder).write([good()], [])
    called = os.fsencode(prefix) + name.replace(b"/", b"_").replace(b"\0", b"_") + os.fsencode(suffix)
    if called in {b".", b".."}:
        return
    path = folder / os.fsdecode(called)
    path.write_bytes(b"odd")
    FileSpool(folder).others()
    report = harness.handle(REPLAY_ALL)
    json.dumps(report).encode()
    assert report["outcomes"]["delivered"] + report["outcomes"]["duplicate"] == 1
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("number", "stays"),
    [
        (errno.EIO, True),
        (errno.ESTALE, True),
        (errno.EMFILE, True),
        (errno.EACCES, True),
        (errno.EROFS, True),
        (errno.ELOOP, False),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if type(value) is int else "",
)
def test_a_file_stays_where_it_is_if_the_file_system_or_the_user_has_the_problem(
    tmp_path: Path, number: int, *, stays: bool
) -> None:
    path = tmp_path / ODD
    path.write_text("somebody's points")
    told = set_aside(SystemFiles(), path, odd_file(OSError(number, os.strerror(number))))
    assert path.exists() == stays
    assert os.strerror(number) in (told.broken or "")
    assert ("stays where it is" in (told.broken or "")) == stays


def test_what_cannot_be_renamed_is_named_and_skipped(harness: Harness, folder: Path) -> None:
    FileSpool(folder).write([good()], [])
    # No name is left for it: with one more character a name is too long.
    odd = folder / f"points-1-{'x' * 240}.jsonl"
    odd.mkdir()
    for _ in range(2):
        report = harness.handle(REPLAY_ALL)
        (error,) = report["errors"]
        assert error["source"] == f"spool/{odd.name}"
        assert "cannot be renamed" in error["message"]
    assert odd.exists()
    assert len(harness.receiver.points) == 1
