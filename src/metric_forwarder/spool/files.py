"""The spool as files in a folder: a mounted CFS file system, or a disk.

Layout: each write makes one file of points and one of dead letters, as needed::

    points-<milliseconds>-<random>-<row>.<function>.jsonl   a header with the SHA-256 of the rest, then a record a line
    dead-<milliseconds>-<random>-<row>.<function>.jsonl     the same
    <either>.ack                                            the rows already replayed, one number a line
    <either>.set-aside                                      what was no such file, or torn: kept for a person to look at
    .lock                                                   held while a replay runs

A file is written under another name, synced, renamed and the folder synced: it is there whole or not at all. Of an
``.ack`` file a write that failed may leave a part; what follows its last line break is no row, and is cut off before
the next is added.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from metric_forwarder.model import Message
from metric_forwarder.spool.store import SpoolError, SpoolRecord, decode_record, encode_record, message_of

DEFAULT_MAX_BYTES = 256 * 2**20
_FORMAT = "metric-forwarder spool 1"
# A file of more records would not fit into a small function's memory when it is replayed.
_MAX_RECORDS = 5_000
# A file's name has 255 bytes: what kind, time and suffix leave for the function.
_MAX_NAME = 160
# No instance lives longer than 900 s.
_LONGEST_WRITE_S = 1800


class FileSpool:
    """Keeps records in a folder, made when the first is written.

    Args:
        folder: an absolute path.
        function: namespace and name of the function whose records these are: those of others are not replayed.
        max_bytes: the size of the folder's files beyond which nothing is added.
    """

    # A file system in the network answers a dozen questions for a file.
    fixed_s = 0.5
    per_record_s = 50e-6

    def __init__(self, folder: Path, function: str = "", max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._folder = folder
        self._function = quote(function, safe="")[:_MAX_NAME]
        self._max_bytes = max_bytes

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        stem = f"{time.time_ns() // 1_000_000:015d}-{secrets.token_hex(6)}"
        suffix = f".{self._function}.jsonl" if self._function else ".jsonl"
        files = [
            (f"{kind}-{stem}-{start:07d}{suffix}", _encode(records[start : start + _MAX_RECORDS]))
            for kind, records in (("points", list(points)), ("dead", list(dead_letters)))
            for start in range(0, len(records), _MAX_RECORDS)
        ]
        written: list[Path] = []
        try:
            _make_folder(self._folder)
            self._check_room(sum(len(content) for _, content in files))
            for name, content in files:
                written.append(self._write_file(name, content))
            _sync_folder(self._folder)
        except OSError as error:
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise SpoolError(f"the spool cannot be written: {error.strerror}; check MF_SPOOL") from None

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator["FileChunk", None, None]:  # noqa: ARG002 - a lock that ends with its process needs no lease
        try:
            with self._locked():
                self._sweep()
                for path in self._files("points"):
                    yield FileChunk.open(path, dead=False)
                for path in self._files("dead") if dead_letters else ():
                    yield FileChunk.open(path, dead=True)
        except FileNotFoundError:
            # Nothing was written yet: a replay makes no folder, least of all where one is to be mounted.
            return
        except OSError as error:
            raise _unreadable(error) from None

    def waiting(self, *, dead_letters: bool) -> int:
        kinds = ("points", "dead") if dead_letters else ("points",)
        try:
            return sum(_waiting(path) for kind in kinds for path in self._files(kind))
        except (FileNotFoundError, NotADirectoryError):
            raise SpoolError(f"no folder {self._folder}: mount it, or correct the path in MF_SPOOL") from None
        except OSError as error:
            raise _unreadable(error) from None

    def others(self) -> Sequence[str]:
        try:
            tags = {_tag(path) for kind in ("points", "dead") for path in self._all_files(kind)}
        except OSError as error:
            raise _unreadable(error) from None
        return sorted(unquote(tag) for tag in tags - {"", self._function})

    def _files(self, kind: str) -> list[Path]:
        """Those of this function, and those that name none, in the order in which they were written."""
        return [path for path in self._all_files(kind) if _tag(path) in {"", self._function}]

    def _all_files(self, kind: str) -> list[Path]:
        files = self._folder.iterdir()
        return sorted(path for path in files if path.name.startswith(f"{kind}-") and path.suffix == ".jsonl")

    def _sweep(self) -> None:
        """Remove what instances left that were killed: drafts, which nobody called spooled, and rows of no file."""
        for draft in self._folder.glob("*.draft"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _LONGEST_WRITE_S:
                    draft.unlink()
        for rows in self._folder.glob("*.ack"):
            if not rows.with_suffix(".jsonl").exists():
                rows.unlink(missing_ok=True)

    def _check_room(self, added: int) -> None:
        used = 0
        for entry in os.scandir(self._folder):
            # A replay beside this may have finished with it.
            with contextlib.suppress(FileNotFoundError):
                used += entry.stat().st_size if entry.is_file() else 0
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
        with (self._folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpoolError("another replay of this spool is running: wait for it to end") from None
            yield


class FileChunk:
    """One file of the spool, being replayed.

    Args:
        whole: how many bytes of its acknowledgements are whole lines.
    """

    def __init__(self, path: Path, messages: Sequence[Message], *, dead: bool, whole: int = 0) -> None:
        self._path = path
        self._open_rows = {message.receipt for message in messages}
        self._unwritten: list[int] = []
        self._whole = whole
        self.messages = messages
        self.dead = dead

    @classmethod
    def open(cls, path: Path, *, dead: bool) -> "FileChunk":
        """Read a file; one that is torn or foreign is set aside and becomes one broken message."""
        try:
            records = _decode(path.read_bytes())
        except FileNotFoundError:
            # Somebody has removed it meanwhile; those after it are still there.
            return cls(path, [], dead=dead)
        except ValueError:
            aside = path.with_suffix(".set-aside")
            path.rename(aside)
            reason = "is no whole file of this spool: it was set aside beside it, for a person to look at"
            return cls(path, [Message(f"spool/{aside.name}", None, broken=reason)], dead=True)
        lines = _whole_lines(path.with_suffix(".ack"))
        done = _rows(lines)
        messages = [message_of(record, row) for row, record in enumerate(records) if row not in done]
        return cls(path, messages, dead=dead, whole=len(lines))

    def acknowledge(self, receipts: Sequence[int]) -> None:
        self._unwritten += [receipt for receipt in receipts if receipt in self._open_rows]
        self._open_rows.difference_update(receipts)
        if not self._unwritten:
            return
        lines = b"".join(b"%d\n" % row for row in self._unwritten)
        try:
            with self._path.with_suffix(".ack").open("ab") as file:
                # A number that an earlier write left without its line break would become part of the next one.
                file.truncate(self._whole)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SpoolError(
                f"the spool cannot be written: {error.strerror}; points may be sent twice"
            ) from None
        self._whole += len(lines)
        self._unwritten.clear()

    def close(self) -> None:
        if self._open_rows:
            return
        # A disk that is too full to write the last of them down has room again afterwards.
        try:
            # The acknowledgements go last: without them the file would be replayed.
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".ack").unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"the spool cannot be written: {error.strerror}; check MF_SPOOL") from None


def _unreadable(error: OSError) -> SpoolError:
    return SpoolError(f"the spool cannot be read: {error.strerror}; check MF_SPOOL")


def _encode(records: Sequence[SpoolRecord]) -> bytes:
    rest = "".join(encode_record(record) + "\n" for record in records).encode("ascii")
    header = {"format": _FORMAT, "count": len(records), "sha256": hashlib.sha256(rest).hexdigest()}
    return json.dumps(header, separators=(",", ":")).encode("ascii") + b"\n" + rest


def _decode(content: bytes) -> list[SpoolRecord]:
    """Read a file of the spool; raises ``ValueError`` if it is none, or not whole."""
    first, _, rest = content.partition(b"\n")
    try:
        header: Any = json.loads(first)
    except RecursionError:
        raise ValueError("foreign") from None
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
        return len(set(range(int(count))) - _rows(_whole_lines(path.with_suffix(".ack"))))
    except FileNotFoundError:
        # A replay that runs just now has finished with it.
        return 0
    except (ValueError, LookupError, TypeError):
        return 1


def _whole_lines(path: Path) -> bytes:
    """Acknowledgements; what follows the last line break was cut off in the writing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]


def _rows(lines: bytes) -> set[int]:
    return {int(line) for line in lines.split(b"\n") if line.isdigit()}


def _tag(path: Path) -> str:
    """The function that wrote a file; empty if its name does not say."""
    return path.name.removesuffix(".jsonl").partition(".")[2]


def _make_folder(folder: Path) -> None:
    """Make it if it is not there, so that a crash of the machine does not undo it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
