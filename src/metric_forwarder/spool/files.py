"""The spool as files in a folder: a mounted CFS file system, or a disk.

Layout: each write makes files of points and of dead letters, as needed::

    points-<number>-<random>-<row>.<function>.jsonl   a header with the SHA-256 of the rest, then a record a line
    dead-<number>-<random>-<row>.<function>.jsonl     the same
    <either>.ack                                      the rows already replayed, one number a line
    <either>.set-aside                                a file that cannot be read: kept for a person to look at
    .lock                                             held while a replay runs, which changes its time with every chunk

The number is the time of the write in Unix milliseconds, but always larger than that of every earlier write that its writer
knows: its own, and those in the folder. So setting a clock back does not change the order.

A file is written under another name, synced and renamed, and the folder synced: it exists completely or not at all. A
failed write may leave a part of a line in an ``.ack`` file; text after the last line break is not a row, and is cut off
before the next row is added.
"""

import contextlib
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, unquote

from metric_forwarder.machine import Machine, system_machine
from metric_forwarder.model import Message
from metric_forwarder.spool.file_system import Files, SystemFiles
from metric_forwarder.spool.spool_file import (
    MAX_BYTES,
    MAX_FILES,
    MAX_RECORDS,
    FileChunk,
    OddFile,
    SpoolFile,
    count_waiting,
    encode_files,
    exists,
    odd_file,
    open_regular,
    set_aside,
)
from metric_forwarder.spool.store import SpoolError, SpoolLevel, SpoolRecord

DEFAULT_MAX_BYTES = 256 * 2**20
# Each write looks at all of them: on a local disk that takes most of a second, and a network is slower.
MAX_FOLDER_FILES = 20_000
# A file's name has 255 bytes; this is the room for the function, besides kind, number and suffix.
_MAX_NAME = 160
# A file system may keep the time of a change in whole seconds, or even pairs of them.
_COARSE_MS = 2_000
_LOCK = ".lock"
# No invocation takes longer than 900 s.
_LONGEST_WRITE_S = 1800
_LEASE_S = 900
# A larger number, beyond the year 30,490, is not a time.
_MAX_NUMBER = 9 * 10**14
_NUMBER = re.compile(r"(?:points|dead)-(\d{1,18})-", re.ASCII)


class FileSpool:
    """Keeps records in a folder, made when the first is written.

    Args:
        folder: an absolute path.
        function: namespace and name of the function whose records these are: those of others are not replayed.
        max_bytes: the limit for the size of all files in the folder.
        machine: the order of files does not depend on its clock; None: this machine.
        files: where the folder is; None: on this machine.
    """

    # A network file system needs a dozen round trips for a file.
    fixed_s = 0.5
    per_record_s = 50e-6

    def __init__(
        self,
        folder: Path,
        function: str = "",
        max_bytes: int = DEFAULT_MAX_BYTES,
        machine: Machine | None = None,
        files: Files | None = None,
    ) -> None:
        self._folder = folder
        self._function = quote(function, safe="")[:_MAX_NAME]
        self._max_bytes = max_bytes
        self._machine = machine or system_machine()
        self._system = files or SystemFiles()
        self._last_number = 0
        self._is_durable = False

    def write(self, points: Iterable[SpoolRecord], dead_letters: Iterable[SpoolRecord]) -> None:
        written: list[Path] = []
        try:
            self._make_folder(self._folder)
            self._is_durable = True
            survey = self._survey()
            stem = f"{self._next_number(survey):015d}-{self._machine.chance.token(6).hex()}"
            used = survey.used
            for kind, records in (("points", points), ("dead", dead_letters)):
                for row, content in encode_files(records):
                    self._check_room(survey.files, used, len(content))
                    used += len(content)
                    written.append(self._write_file(f"{kind}-{stem}-{row:07d}", content))
            self._system.sync_folder(self._folder)
        except OSError as error:
            self._take_back(written)
            raise SpoolError(f"the spool cannot be written: {error.strerror}; check MF_SPOOL") from None
        except BaseException:
            self._take_back(written)
            raise

    def replay(self, *, dead_letters: bool, lease_s: float = 900) -> Generator[FileChunk, None, None]:  # noqa: ARG002 - the lock ends with its process, so it needs no lease
        try:
            with self._locked() as lock:
                self._sweep()
                # Records that the replay itself writes are for the next replay.
                points, dead = self._files("points"), self._files("dead") if dead_letters else ()
                for paths, is_dead in ((points, False), (dead, True)):
                    for chunk in _chunks(self._system, paths, dead=is_dead):
                        lock.renew()
                        yield chunk
        except FileNotFoundError:
            # Nothing was written yet; a replay must not make the folder, which may have to be mounted.
            return
        except OSError as error:
            raise _unreadable(error) from None

    def waiting(self, *, dead_letters: bool) -> int:
        kinds = ("points", "dead") if dead_letters else ("points",)
        try:
            return sum(count_waiting(self._system, path) for kind in kinds for path in self._files(kind))
        except (FileNotFoundError, NotADirectoryError):
            raise SpoolError(f"no folder {self._folder}: mount it, or correct the path in MF_SPOOL") from None
        except OSError as error:
            raise _unreadable(error) from None

    def measure(self) -> SpoolLevel:
        try:
            points = self._files("points")
            dead_letters = sum(count_waiting(self._system, path) for path in self._files("dead"))
            used = self._survey().used
            oldest_ms = self._oldest_ms(points)
        except FileNotFoundError:
            # Nothing was written yet.
            return SpoolLevel(0, None, 0)
        except OSError as error:
            raise _unreadable(error) from None
        return SpoolLevel(used, oldest_ms, dead_letters)

    def _oldest_ms(self, points: Iterable[Path]) -> int | None:
        """When the first file was written: its number, unless numbers run ahead after an instance whose clock did."""
        for path in points:
            # A concurrent replay may have removed it.
            with contextlib.suppress(FileNotFoundError):
                number, changed_ms = _order(path.name)[0], int(self._system.status(path).st_mtime * 1000)
                return changed_ms if number > changed_ms + _COARSE_MS else number
        return None

    def others(self) -> Sequence[str]:
        try:
            tags = {_tag(path) for kind in ("points", "dead") for path in self._all_files(kind)}
        except OSError as error:
            raise _unreadable(error) from None
        return sorted(unquote(tag) for tag in tags - {"", self._function})

    def _files(self, kind: str) -> list[Path]:
        """The files of this function, and those that name none, in the order in which they were written."""
        return [path for path in self._all_files(kind) if _tag(path) in {"", self._function}]

    def _all_files(self, kind: str) -> list[Path]:
        names = (name for name in self._system.names(self._folder) if name.startswith(f"{kind}-"))
        return [self._folder / name for name in sorted(names, key=_order) if name.endswith(".jsonl")]

    def _next_number(self, survey: "_Survey") -> int:
        now_ms = int(self._machine.clock.time() * 1000)
        self._last_number = max(now_ms, survey.highest + 1, self._last_number + 1)
        return self._last_number

    def _sweep(self) -> None:
        """Remove the leftovers of killed instances: drafts, whose points were not reported as spooled, and rows without a file.

        The file system tells the time, by the lock that was just taken, since the clock of an instance may be wrong.
        """
        for path in map(self._folder.joinpath, self._system.names(self._folder)):
            with contextlib.suppress(OSError):
                if path.suffix == ".draft":
                    changed_s = self._system.status(path).st_mtime
                    now_s = self._system.status(self._folder / _LOCK).st_mtime
                    is_left = now_s - changed_s > _LONGEST_WRITE_S
                else:
                    # A file that was set aside may be put back under its name.
                    owners = (path.with_suffix(suffix) for suffix in (".jsonl", ".set-aside"))
                    is_left = path.suffix == ".ack" and not any(
                        exists(self._system, owner) for owner in owners
                    )
                if is_left:
                    self._system.remove(path)

    def _check_room(self, files: int, used: int, added: int) -> None:
        if files >= MAX_FOLDER_FILES:
            raise SpoolError(
                f"the spool is full: it has {files} files; replay it, or remove its dead letters"
            )
        if used + added > self._max_bytes:
            raise SpoolError(
                f"the spool is full: {used} of {self._max_bytes} bytes are used; replay it, remove its dead letters, "
                "or allow more with MF_SPOOL=file:///path?max_mb=…"
            )

    def _write_file(self, stem: str, content: bytes) -> Path:
        path = self._folder / (f"{stem}.{self._function}.jsonl" if self._function else f"{stem}.jsonl")
        draft = path.with_suffix(".draft")
        try:
            with self._system.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                file.write(content)
                self._system.sync(file)
            self._system.rename(draft, path)
        except OSError:
            self._take_back([draft, path])
            raise
        return path

    @contextlib.contextmanager
    def _locked(self) -> "Iterator[_Lock]":
        with self._open_lock() as file:
            path, is_left = self._folder / _LOCK, False
            try:
                self._system.lock(file)
            except BlockingIOError:
                is_left = self._is_left(path)
                if not is_left:
                    raise SpoolError("another replay of this spool is running: wait for it to end") from None
            lock = _Lock(self._system, path, is_left=is_left)
            lock.renew()
            try:
                yield lock
            finally:
                lock.leave()

    def _is_left(self, lock: Path) -> bool:
        """Whether the replay that holds the lock ended long ago: an instance that is frozen keeps it.

        The file system tells the time, since the clock of an instance may be wrong.
        """
        self._system.touch(self._folder)
        now_s = self._system.status(self._folder).st_mtime
        return now_s - self._system.status(lock).st_mtime >= _LEASE_S

    def _open_lock(self) -> BinaryIO:
        path, flags = self._folder / _LOCK, os.O_RDWR | os.O_CREAT
        try:
            return open_regular(self._system, path, flags)
        except OddFile as odd:
            if odd.is_passing:
                # Another replay may hold it: under another name it would keep nobody out.
                raise SpoolError(
                    f"the spool cannot be locked: {path} {odd}; a replay must be allowed to write to it"
                ) from None
            found = set_aside(self._system, path, odd)
        try:
            return open_regular(self._system, path, flags)
        except OddFile:
            raise SpoolError(f"the spool cannot be read: {found.source} {found.broken}") from None

    def _survey(self) -> "_Survey":
        used, highest, files = 0, 0, 0
        for name in self._system.names(self._folder):
            highest = max(highest, _order(name)[0])
            # A concurrent replay may have removed it.
            with contextlib.suppress(FileNotFoundError):
                status = self._system.status(self._folder / name)
                if stat.S_ISREG(status.st_mode):
                    used += status.st_size
                    files += 1
        return _Survey(used, highest, files)

    def _take_back(self, written: Iterable[Path]) -> None:
        for path in written:
            with contextlib.suppress(OSError):
                self._system.remove(path)

    def _make_folder(self, folder: Path) -> None:
        """Make the folder if it does not exist, so that it survives a crash of the machine."""
        if not self._system.is_folder(folder):
            self._make_folder(folder.parent)
            self._system.make_folder(folder)
        elif self._is_durable:
            return
        # Also if it existed: its maker may have been killed before this. The parent may not be readable.
        with contextlib.suppress(PermissionError):
            self._system.sync_folder(folder.parent)


class _Lock:
    """The lock of a replay that runs.

    Args:
        is_left: an instance that is frozen holds it still, so that only its time keeps others out.
    """

    def __init__(self, files: Files, path: Path, *, is_left: bool) -> None:
        self._system = files
        self._path = path
        self._is_left = is_left
        self._renewed_s = 0.0

    def renew(self) -> None:
        """Say that the replay runs."""
        self._system.touch(self._path)
        if self._is_left:
            self._renewed_s = self._system.status(self._path).st_mtime

    def leave(self) -> None:
        """Let the next replay begin at once, unless the instance that holds the lock has gone on meanwhile."""
        if not self._is_left:
            return
        with contextlib.suppress(OSError):
            if self._system.status(self._path).st_mtime == self._renewed_s:
                self._system.age(self._path)


class _Survey(NamedTuple):
    """The bytes in a folder's files, the highest number of a write, and how many files there are."""

    used: int
    highest: int
    files: int


def _order(name: str) -> tuple[int, str]:
    """The sort key of a file, by its name."""
    found = _NUMBER.match(name)
    number = int(found[1]) if found else 0
    return (number if number < _MAX_NUMBER else 0, name)


class _ChunkBuilder:
    """Collects records of files into chunks that fit the time and the memory of a small function."""

    def __init__(self, files: Files, *, dead: bool) -> None:
        self._system = files
        self._dead = dead
        self._rows: list[tuple[SpoolFile, int, Message]] = []
        self._broken: list[Message] = []
        self._files = 0
        self._size = 0

    def read(self, path: Path) -> Iterator[FileChunk]:
        """Add the records of a file; yield the chunks that become full."""
        if self._files == MAX_FILES:
            yield from self.rest()
        self._files += 1
        try:
            file, broken = SpoolFile.check(self._system, path)
            self._broken += broken
            for row, size, message in file.records():
                if self._rows and (self._size + size > MAX_BYTES or len(self._rows) == MAX_RECORDS):
                    yield from self.rest()
                self._rows.append((file, row, message))
                self._size += size
        except FileNotFoundError:
            # It was removed meanwhile; the files after it still exist.
            return
        except OddFile as odd:
            self._broken.append(set_aside(self._system, path, odd))
        except (OSError, ValueError) as error:
            self._broken.append(set_aside(self._system, path, odd_file(error)))

    def rest(self) -> Iterator[FileChunk]:
        """Yield the collected chunk, unless it is empty, and begin the next one."""
        rows, broken = self._rows, self._broken
        self._rows, self._broken, self._files, self._size = [], [], 0, 0
        if rows or broken:
            yield FileChunk(rows, broken, dead=self._dead)


def _chunks(files: Files, paths: Iterable[Path], *, dead: bool) -> Iterator[FileChunk]:
    builder = _ChunkBuilder(files, dead=dead)
    for path in paths:
        yield from builder.read(path)
    yield from builder.rest()


def _unreadable(error: OSError) -> SpoolError:
    return SpoolError(f"the spool cannot be read: {error.strerror}; check MF_SPOOL")


def _tag(path: Path) -> str:
    """The function that wrote a file; empty if its name does not say."""
    return path.name.removesuffix(".jsonl").partition(".")[2]
