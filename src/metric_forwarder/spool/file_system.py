"""What the spool asks of a file system: handed in, so that tests have one that crashes, fills up and hangs."""

import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol


class NotRegular(OSError):
    """What was to be opened is a folder, a fifo or a device."""


class Files(Protocol):
    """A file system; what fails raises ``OSError``, as the functions of ``os`` do."""

    def names(self, folder: Path) -> list[str]: ...

    def status(self, path: Path) -> os.stat_result:
        """As ``os.lstat``."""

    def is_folder(self, path: Path) -> bool: ...

    def make_folder(self, path: Path) -> None: ...

    def open(self, path: Path, flags: int) -> BinaryIO:
        """Open a regular file and nothing else, without waiting for anything; the flags are those of ``os.open``."""

    def sync(self, file: BinaryIO) -> None:
        """Return when what was written to a file survives a crash."""

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder survive a crash."""

    def lock(self, file: BinaryIO) -> None:
        """Keep everybody else from locking a file until this one closes it; raises ``BlockingIOError``."""

    def rename(self, path: Path, new: Path) -> None: ...

    def remove(self, path: Path) -> None: ...


class SystemFiles:
    """The file systems of this machine."""

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)  # noqa: PTH208 - names are needed

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

    def rename(self, path: Path, new: Path) -> None:
        path.rename(new)

    def remove(self, path: Path) -> None:
        path.unlink()
