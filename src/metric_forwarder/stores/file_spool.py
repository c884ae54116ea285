"""The spool as files in a folder: a mounted CFS file system, or a disk.

Layout: each write makes one file of points and one of dead letters, as needed::

    points-<milliseconds>-<random>-<row>.jsonl   a header with the SHA-256 of the rest, then a record a line
    dead-<milliseconds>-<random>-<row>.jsonl     the same
    <either>.ack                                 the rows already replayed, one number a line
    <either>.set-aside                           what was no such file, or torn: kept for a person to look at
    .lock                                        held while a replay runs

A file is written under another name, synced, renamed and the folder synced: it is there whole or not at all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.spool import Record, SpoolError, decode_record, encode_record

DEFAULT_MAX_BYTES = 256 * 2**20
_FORMAT = "metric-forwarder spool 1"
# A file of more records would not fit into a small function's memory when it is replayed.
_MAX_RECORDS = 5_000
_FIRST_GUESS_S_PER_POINT = 50e-6
_FIXED_S = 0.1
# No instance lives longer than 900 s.
_LONGEST_WRITE_S = 1800


class FileSpool:
    """Keeps records in a folder, made on first use.

    Args:
        folder: an absolute path.
        max_bytes: the size of the folder's files beyond which nothing is added.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._seconds_per_point = _FIRST_GUESS_S_PER_POINT

    def write(self, points: Sequence[Record], dead_letters: Sequence[Record]) -> None:
        started = time.perf_counter()
        stem = f"{time.time_ns() // 1_000_000:015d}-{secrets.token_hex(6)}"
        files = [
            (f"{kind}-{stem}-{start:07d}.jsonl", _encode(records[start : start + _MAX_RECORDS]))
            for kind, records in (("points", points), ("dead", dead_letters))
            for start in range(0, len(records), _MAX_RECORDS)
        ]
        written: list[Path] = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room(sum(len(content) for _, content in files))
            for name, content in files:
                written.append(self._write_file(name, content))
            _sync_folder(self._folder)
        except OSError as error:
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise SpoolError(f"the spool cannot be written: {error.strerror}; check MF_SPOOL") from None
        if points:
            measured = (time.perf_counter() - started) / len(points)
            self._seconds_per_point = max(measured, self._seconds_per_point * 0.8 + measured * 0.2)

    def reserve_s(self, points: int) -> float:
        return _FIXED_S + points * self._seconds_per_point

    def replay(self, *, dead_letters: bool) -> Iterator["FileChunk"]:
        try:
            with self._locked():
                self._sweep()
                for path in self._files("points"):
                    yield FileChunk.open(path, dead=False)
                for path in self._files("dead") if dead_letters else ():
                    yield FileChunk.open(path, dead=True)
        except OSError as error:
            raise SpoolError(f"the spool cannot be read: {error.strerror}; check MF_SPOOL") from None

    def waiting(self, *, dead_letters: bool) -> int:
        kinds = ("points", "dead") if dead_letters else ("points",)
        try:
            return sum(_waiting(path) for kind in kinds for path in self._files(kind))
        except OSError as error:
            raise SpoolError(f"the spool cannot be read: {error.strerror}; check MF_SPOOL") from None

    def size(self) -> tuple[int, int]:
        """Files of points and of dead letters."""
        return len(self._files("points")), len(self._files("dead"))

    def _files(self, kind: str) -> list[Path]:
        return sorted(self._folder.glob(f"{kind}-*.jsonl"))

    def _sweep(self) -> None:
        """Remove the drafts of instances that were killed while writing: nobody called them spooled."""
        for draft in self._folder.glob("*.draft"):
            if time.time() - draft.stat().st_mtime > _LONGEST_WRITE_S:
                draft.unlink(missing_ok=True)

    def _check_room(self, added: int) -> None:
        used = sum(entry.stat().st_size for entry in os.scandir(self._folder) if entry.is_file())
        if used + added > self._max_bytes:
            raise SpoolError(
                f"the spool is full: {used} of {self._max_bytes} bytes are used; replay it, remove its dead letters, "
                "or allow more with MF_SPOOL=file:///path?max_mb=…"
            )

    def _write_file(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        draft = path.with_suffix(".draft")
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        return path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpoolError("another replay of this spool is running: wait for it to end") from None
            yield


class FileChunk:
    """One file of the spool, being replayed."""

    def __init__(self, path: Path, messages: Sequence[Message], *, dead: bool) -> None:
        self._path = path
        self._open_rows = {message.receipt for message in messages}
        self.messages = messages
        self.dead = dead

    @classmethod
    def open(cls, path: Path, *, dead: bool) -> "FileChunk":
        """Read a file; one that is torn or foreign is set aside and becomes one broken message."""
        try:
            records = _decode(path.read_bytes())
        except ValueError:
            aside = path.with_suffix(".set-aside")
            path.rename(aside)
            reason = "is no whole file of this spool: it was set aside beside it, for a person to look at"
            return cls(path, [Message(f"spool/{aside.name}", None, broken=reason)], dead=True)
        done = _acknowledged(path.with_suffix(".ack"))
        messages = [
            Message(record.source, record.payload, record.coordinates, record.time_ms, receipt=row)
            for row, record in enumerate(records)
            if row not in done
        ]
        return cls(path, messages, dead=dead)

    def acknowledge(self, receipts: Sequence[int]) -> None:
        new = [receipt for receipt in receipts if receipt in self._open_rows]
        if not new:
            return
        try:
            with self._path.with_suffix(".ack").open("ab") as file:
                file.write(b"".join(b"%d\n" % row for row in new))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SpoolError(
                f"the spool cannot be written: {error.strerror}; points may be sent twice"
            ) from None
        self._open_rows.difference_update(new)

    def close(self) -> None:
        if not self._open_rows:
            # The acknowledgements go last: without them the file would be replayed.
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".ack").unlink(missing_ok=True)


def _encode(records: Sequence[Record]) -> bytes:
    rest = "".join(encode_record(record) + "\n" for record in records).encode("ascii")
    header = {"format": _FORMAT, "count": len(records), "sha256": hashlib.sha256(rest).hexdigest()}
    return json.dumps(header, separators=(",", ":")).encode("ascii") + b"\n" + rest


def _decode(content: bytes) -> list[Record]:
    """Read a file of the spool; raises ``ValueError`` if it is none, or not whole."""
    first, _, rest = content.partition(b"\n")
    header: Any = json.loads(first)
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError("foreign")
    if header.get("sha256") != hashlib.sha256(rest).hexdigest():
        raise ValueError("torn")
    return [decode_record(line) for line in rest.splitlines()]


def _waiting(path: Path) -> int:
    """Records of a file that are not acknowledged, by its header alone; one that is no such file counts as one."""
    try:
        with path.open("rb") as file:
            count = json.loads(file.readline())["count"]
        return int(count) - len(_acknowledged(path.with_suffix(".ack")))
    except FileNotFoundError:
        # A replay that runs just now has finished with it.
        return 0
    except (ValueError, LookupError, TypeError):
        return 1


def _acknowledged(path: Path) -> set[int]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return set()
    # What follows the last line break was cut off in the writing.
    return {int(line) for line in lines[:-1] if line.isdigit()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
