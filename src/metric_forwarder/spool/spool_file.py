"""One file of the spool: writing, reading, acknowledging, and setting aside a file that cannot be read.

Nothing here waits for a file: a fifo without a writer, or a device, is noticed and refused.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from metric_forwarder.model import Message
from metric_forwarder.spool.file_system import Files, NotRegular
from metric_forwarder.spool.store import (
    SpoolError,
    SpoolRecord,
    by_time,
    decode_record,
    encode_in_batches,
    message_of,
)

FORMAT = "metric-forwarder spool 1"
# Replaying a file with more records or bytes takes too much memory of a small function.
MAX_RECORDS = 5_000
MAX_BYTES = 2 * 2**20
# Each takes a network file system some round trips before the first record is delivered.
MAX_FILES = 50
_MAX_HEADER_BYTES = 1_000
# Longer than any written line, since the dead letters of an event are limited.
_MAX_LINE_BYTES = 32 * 2**20
_MAX_ACK_BYTES = 2**20
# More rows than any file has.
_MAX_ROW_DIGITS = 9
# Errors of the file system itself, or of this user's rights; the file may be fine.
_PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
    | {errno.EACCES, errno.EPERM, errno.EROFS}
)


class OddFile(Exception):
    """A path with the name of a spool file that cannot be read as one; the text continues a sentence about it.

    Attributes:
        is_passing: whether it may be read the next time.
    """

    def __init__(self, reason: str, *, is_passing: bool = False) -> None:
        self.is_passing = is_passing
        super().__init__(reason)


def open_regular(files: Files, path: Path, flags: int) -> BinaryIO:
    """Open a regular file and nothing else.

    Raises:
        FileNotFoundError: there is none.
        OddFile: it cannot be opened, or is not a regular file.
    """
    try:
        return files.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise odd_file(error) from None


def odd_file(error: OSError | ValueError) -> OddFile:
    """Say why a file could not be read."""
    if isinstance(error, NotRegular):
        return OddFile("is not a regular file")
    if isinstance(error, OSError):
        return OddFile(f"cannot be read ({error.strerror})", is_passing=error.errno in _PASSING)
    return OddFile("is not a whole file of this spool")


def set_aside(files: Files, path: Path, odd: OddFile) -> Message:
    """Rename a file that cannot be read, for a person to look at; return the message for the report."""
    if odd.is_passing:
        return _broken(path, f"{odd}; it stays where it is")
    try:
        aside = _free_name(files, path)
        files.rename(path, aside)
    except OSError as error:
        return _broken(path, f"{odd}, and cannot be renamed ({error.strerror}): remove it")
    return _broken(aside, f"{odd}: it was set aside under this name, for a person to look at")


def exists(files: Files, path: Path) -> bool:
    """Whether anything has this name."""
    try:
        files.status(path)
    except FileNotFoundError:
        return False
    return True


def encode_files(records: Iterable[SpoolRecord]) -> Iterator[tuple[int, bytes]]:
    """Yield the contents of files for records: the number of records before, and the content."""
    before = 0
    for lines in encode_in_batches(records, MAX_RECORDS, MAX_BYTES):
        yield before, _content(lines)
        before += len(lines)


def count_waiting(files: Files, path: Path) -> int:
    """Count the records of a file that are not acknowledged, by its header; a bad file counts as one."""
    try:
        with open_regular(files, path, os.O_RDONLY) as file:
            count = _read_header(file)[0]
        return count - sum(row < count for row in set(_read_rows(_read_acknowledgements(files, path))))
    except FileNotFoundError:
        # A concurrent replay has removed it.
        return 0
    except (OSError, ValueError, OddFile):
        return 1


class SpoolFile:
    """A file of the spool that is being replayed.

    Args:
        path: it has been read once, and is whole.
        count: how many records it holds.
        acknowledged: the rows of complete lines in its ``.ack`` file.
    """

    def __init__(self, files: Files, path: Path, count: int, acknowledged: bytes) -> None:
        self._files = files
        self._path = path
        self._open_rows = set(range(count)) - set(_read_rows(acknowledged))
        self._whole = len(acknowledged)
        self._unwritten: list[int] = []

    @classmethod
    def check(cls, files: Files, path: Path) -> "tuple[SpoolFile, list[Message]]":
        """Read a whole file once; also return messages about files that were set aside.

        Raises:
            FileNotFoundError: it has been removed.
            OddFile: it is not a whole file of this spool.
        """
        try:
            with open_regular(files, path, os.O_RDONLY) as file:
                count = _check(file)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise odd_file(error) from None
        try:
            return cls(files, path, count, _read_acknowledgements(files, path)), []
        except OddFile as odd:
            if odd.is_passing:
                raise
            # Without them its records are sent again, which is better than not at all.
            return cls(files, path, count, b""), [set_aside(files, path.with_suffix(".ack"), odd)]

    def records(self) -> Iterator[tuple[int, int, Message]]:
        """The records that are not acknowledged: row, size in bytes, message."""
        with contextlib.suppress(SpoolError):
            self.remove_if_done()
        with (
            contextlib.suppress(FileNotFoundError),
            open_regular(self._files, self._path, os.O_RDONLY) as file,
        ):
            file.readline(_MAX_HEADER_BYTES)
            for row, line in enumerate(_lines(file)):
                if row in self._open_rows:
                    yield row, len(line), message_of(decode_record(line))

    def acknowledge(self, rows: Iterable[int]) -> None:
        """Never replay these rows again.

        Raises:
            SpoolError: it could not be written.
        """
        new = self._open_rows.intersection(rows)
        self._open_rows -= new
        self._unwritten += sorted(new)
        try:
            self._note()
        except OSError as error:
            raise SpoolError(
                f"the spool cannot be written: {error.strerror}; points may be sent twice"
            ) from None
        except OddFile as odd:
            raise SpoolError(
                f"the spool cannot be written: the .ack beside {self._path.name} {odd}; points may be sent twice"
            ) from None

    def remove_if_done(self) -> None:
        """Remove a file whose records are all acknowledged.

        Raises:
            SpoolError: it cannot be removed.
        """
        if not self._open_rows:
            self.acknowledge(())

    def _note(self) -> None:
        """Remove the file if all its rows are acknowledged; otherwise, or if that fails, write the rows."""
        if not self._open_rows:
            try:
                self._remove()
            except OSError:
                if not self._unwritten:
                    raise
            else:
                return
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        lines = b"".join(b"%d\n" % row for row in self._unwritten)
        rows = self._path.with_suffix(".ack")
        with open_regular(self._files, rows, os.O_WRONLY | os.O_CREAT) as file:
            # A number without a line break, from an earlier write, would become part of the next one.
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(lines)
            self._files.sync(file)
        self._whole += len(lines)
        self._unwritten.clear()

    def _remove(self) -> None:
        # A disk that is too full for acknowledgements has room again afterwards. They go last: without them the file would
        # be replayed.
        for path in (self._path, self._path.with_suffix(".ack")):
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(path)
        self._unwritten.clear()


class FileChunk:
    """Some records of one or more files, being replayed.

    Args:
        rows: file, row and message of each.
        broken: messages for the report about files that could not be read.
    """

    def __init__(
        self, rows: Sequence[tuple[SpoolFile, int, Message]], broken: Sequence[Message], *, dead: bool
    ) -> None:
        self._rows = [(file, row) for file, row, _ in rows]
        numbered = (message._replace(receipt=receipt) for receipt, (_, _, message) in enumerate(rows))
        self.messages = [*broken, *by_time(numbered)]
        self.dead = dead

    def acknowledge(self, receipts: Sequence[int]) -> None:
        by_file: dict[SpoolFile, list[int]] = {}
        for receipt in receipts:
            file, row = self._rows[receipt]
            by_file.setdefault(file, []).append(row)
        failures = [failure for file, rows in by_file.items() if (failure := _failure(file, rows))]
        if failures:
            raise failures[0]

    def close(self) -> None:
        for file in dict.fromkeys(file for file, _ in self._rows):
            file.remove_if_done()


def _failure(file: SpoolFile, rows: Sequence[int]) -> SpoolError | None:
    """Acknowledge rows; return an error instead of raising it, so that rows of other files are acknowledged, too."""
    try:
        file.acknowledge(rows)
    except SpoolError as error:
        return error
    return None


def _content(lines: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    header = {"format": FORMAT, "count": len(lines), "sha256": digest.hexdigest()}
    return b"".join([json.dumps(header, separators=(",", ":")).encode("ascii") + b"\n", *lines])


def _check(file: BinaryIO) -> int:
    """Count the records of a file; raises ``ValueError`` if it is not complete."""
    count, sha256 = _read_header(file)
    digest, rows = hashlib.sha256(), 0
    for line in _lines(file):
        digest.update(line)
        decode_record(line)
        rows += 1
    if (rows, digest.hexdigest()) != (count, sha256):
        raise ValueError("torn")
    return count


def _read_header(file: BinaryIO) -> tuple[int, Any]:
    try:
        header = json.loads(file.readline(_MAX_HEADER_BYTES))
        count, sha256 = header["count"], header["sha256"]
        is_ours = header["format"] == FORMAT and type(count) is int and 0 <= count <= 10**_MAX_ROW_DIGITS
    except (TypeError, LookupError, RecursionError):
        raise ValueError("foreign") from None
    if not is_ours:
        raise ValueError("foreign")
    return count, sha256


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_MAX_LINE_BYTES):
        yield line


def _read_acknowledgements(files: Files, path: Path) -> bytes:
    """The acknowledged rows; text after the last line break is an incomplete write."""
    try:
        with open_regular(files, path.with_suffix(".ack"), os.O_RDONLY) as file:
            content = file.read(_MAX_ACK_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise odd_file(error) from None
    if len(content) > _MAX_ACK_BYTES:
        raise OddFile("is too long for a list of rows")
    return content[: content.rfind(b"\n") + 1]


def _read_rows(lines: bytes) -> Iterator[int]:
    return (int(line) for line in lines.split(b"\n") if line.isdigit() and len(line) <= _MAX_ROW_DIGITS)


def _free_name(files: Files, path: Path) -> Path:
    """A name that is not used yet, so that files that were set aside before are kept."""
    stem = path.name.removesuffix(".jsonl")
    aside, number = path.with_name(f"{stem}.set-aside"), 1
    while exists(files, aside):
        number += 1
        aside = path.with_name(f"{stem}-{number}.set-aside")
    return aside


def _broken(path: Path, reason: str) -> Message:
    return Message(f"spool/{path.name}", None, broken=reason)
