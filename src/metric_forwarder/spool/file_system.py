"""The file system of the spool, which is passed in, so that tests can use one that crashes, fills up and hangs."""

import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol


class NotRegular(OSError):
    """The path is a folder, a fifo or a device."""


class Files(Protocol):
    """A file system; its methods raise ``OSError``, like the functions of ``os``."""

    def names(self, folder: Path) -> list[str]: ...

    def status(self, path: Path) -> os.stat_result:
        """As ``os.lstat``."""

    def is_folder(self, path: Path) -> bool: ...

    def make_folder(self, path: Path) -> None: ...

    def open(self, path: Path, flags: int) -> BinaryIO:
        """Open a regular file, without waiting; the flags are those of ``os.open``."""

    def sync(self, file: BinaryIO) -> None:
        """Return when the contents of a file survive a crash."""

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder survive a crash."""

    def lock(self, file: BinaryIO) -> None:
        """Lock a file until it is closed; raise ``BlockingIOError`` if it is locked already."""

    def touch(self, path: Path) -> None:
        """Say that a file was changed now."""

    def age(self, path: Path) -> None:
        """Say that a file was changed long ago."""

    def rename(self, path: Path, new: Path) -> None: ...

    def remove(self, path: Path) -> None: ...


class SystemFiles:
    """The file systems of this machine."""

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)  # noqa: PTH208 - only names are needed

    def status(self, path: Path) -> os.stat_result:
        return path.lstat()

    def is_folder(self, path: Path) -> bool:
        return path.is_dir()

    def make_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def open(self, path: Path, flags: int) -> BinaryIO:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotRegular
        return open(descriptor, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "wb")  # noqa: PTH123 - a descriptor has no path

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def touch(self, path: Path) -> None:
        os.utime(path)

    def age(self, path: Path) -> None:
        os.utime(path, (0, 0))

    def rename(self, path: Path, new: Path) -> None:
        path.rename(new)

    def remove(self, path: Path) -> None:
        path.unlink()
