"""A file system in this process, with the meaning of a crash: what was not synced may be lost, torn, or kept in another order.

It stands in for the port of ``metric_forwarder.spool.file_system``. A ``Disk`` is what all instances share; a ``Mount`` is the view
of one instance, which may be killed. ``test_disk.py`` holds it to a real file system.
"""

import errno
import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from metric_forwarder.spool.file_system import NotRegular

_T = TypeVar("_T")

Step = Callable[[str], None]
"""Called before each operation with its name, in the middle of a write, and after each operation with ``… done``.

It may let time pass or another task run, and raise an ``OSError`` in place of the operation, or after it was done.
"""


@dataclass(frozen=True)
class _Change:
    """A write of bytes at a place, or, without bytes, the cut of a file to a size."""

    at: int
    data: bytes | None

    def apply(self, content: bytes) -> bytes:
        before = content[: self.at].ljust(self.at, b"\0")
        return before if self.data is None else before + self.data + content[self.at + len(self.data) :]

    def torn(self, choose: Callable[[int], int]) -> "_Change":
        """The first bytes of a write; the others are missing, or zeros that nobody wrote."""
        if not self.data:
            return self
        kept = self.data[: choose(len(self.data) + 1)]
        return _Change(self.at, kept.ljust(len(self.data), b"\0") if choose(2) else kept)


@dataclass(eq=False)
class _Node:
    """A file or a folder, whatever it is called.

    Attributes:
        content: what a reader sees now.
        durable: what a crash leaves at least.
        pending: the changes that are not durable, the oldest first.
        lock: the open file that holds the lock.
        synced_s: when it was synced, if nothing was written since.
    """

    is_folder: bool
    changed_s: float
    content: bytes = b""
    durable: bytes = b""
    pending: list[_Change] = field(default_factory=list)
    lock: "OpenFile | None" = None
    synced_s: float | None = None

    def change(self, change: _Change, now: float) -> None:
        self.synced_s = None
        self.content = change.apply(self.content)
        self.pending.append(change)
        self.changed_s = now

    def sync(self) -> None:
        for change in self.pending:
            self.durable = change.apply(self.durable)
        self.pending.clear()

    def crash(self, choose: Callable[[int], int]) -> None:
        """Keep the first of the pending changes, of the next one a part, and of the others nothing."""
        kept = len(self.pending) - choose(len(self.pending) + 1)
        for number, change in enumerate(self.pending[: kept + 1]):
            if number < kept:
                self.durable = change.apply(self.durable)
            elif choose(2):
                self.durable = change.torn(choose).apply(self.durable)
        self.pending.clear()
        self.content = self.durable
        self.lock = None


@dataclass(frozen=True)
class _Naming:
    """A change of names: the node gets the new name, if there is one, and loses the old one, if there is one."""

    node: _Node
    old: str | None
    new: str | None

    def apply(self, names: dict[str, _Node]) -> None:
        if self.old is not None and names.get(self.old) is self.node:
            del names[self.old]
        if self.new is not None:
            names[self.new] = self.node


class Disk:
    """What is stored, and what of it would survive.

    Args:
        now: the clock of the file system, Unix seconds.
        choose: a whole number from 0 to below its argument; 0 is always the plain case.

    Attributes:
        free: how many bytes can still be written.
        locks_work: whether a lock keeps others out; some mounts accept locks that have no effect.
        syncs_work: whether a sync makes anything durable; some disks only say so.
    """

    def __init__(
        self, now: Callable[[], float] = lambda: 0.0, choose: Callable[[int], int] = lambda _: 0
    ) -> None:
        self._now = now
        self.choose = choose
        root = _Node(is_folder=True, changed_s=now())
        self._names: dict[str, _Node] = {"/": root}
        self._durable: dict[str, _Node] = {"/": root}
        self._renamings: list[_Naming] = []
        self.free = 2**40
        self.locks_work = True
        self.syncs_work = True

    def mount(self, step: Step = lambda _: None) -> "Mount":
        """The view of an instance."""
        return Mount(self, step)

    def contents(self) -> dict[str, bytes]:
        """The files that can be seen now: path → content."""
        return {path: node.content for path, node in sorted(self._names.items()) if not node.is_folder}

    def all_names(self) -> list[str]:
        """The paths that can be seen now."""
        return list(self._names)

    def synced_s(self, path: str) -> float | None:
        """When the file of this name was synced, if there is one and nothing was written to it since."""
        node = self._names.get(path)
        return None if node is None else node.synced_s

    def crash(self, *, names: bool = True) -> None:
        """Let the machine of the file system crash: what was not synced may be gone.

        Args:
            names: whether names may be lost, too; False: the machine that crashed mounted a file system of another one.
        """
        if names:
            for naming in self._renamings:
                if not self.choose(2):
                    naming.apply(self._durable)
            self._renamings.clear()
            self._names = {path: node for path, node in self._durable.items() if self._is_reachable(path)}
        for node in {id(node): node for node in (*self._names.values(), *self._durable.values())}.values():
            node.crash(self.choose)

    def _is_reachable(self, path: str) -> bool:
        """Whether the folders of a file survived."""
        return all(str(parent) in self._durable for parent in Path(path).parents)

    # --- what mounts do ----------------------------------------------------------------------------------------

    def find(self, path: Path) -> _Node:
        self._folder_of(path)
        node = self._names.get(str(path))
        if node is None:
            raise _error(FileNotFoundError, errno.ENOENT)
        return node

    def names(self, folder: Path) -> list[str]:
        if not self.find(folder).is_folder:
            raise _error(NotADirectoryError, errno.ENOTDIR)
        return [Path(path).name for path in self._names if path != "/" and Path(path).parent == folder]

    def add(self, path: Path, *, is_folder: bool) -> _Node:
        self._folder_of(path)
        if str(path) in self._names:
            raise _error(FileExistsError, errno.EEXIST)
        node = _Node(is_folder=is_folder, changed_s=self._now())
        self._name(_Naming(node, None, str(path)))
        return node

    def make_folder(self, path: Path) -> None:
        there = self._names.get(str(path))
        if there is None or not there.is_folder:
            self.add(path, is_folder=True)

    def touch(self, path: Path) -> None:
        self.find(path).changed_s = self._now()

    def age(self, path: Path) -> None:
        self.find(path).changed_s = 0.0

    def rename(self, path: Path, new: Path) -> None:
        node = self.find(path)
        self._folder_of(new)
        self._name(_Naming(node, str(path), str(new)))

    def remove(self, path: Path) -> None:
        node = self.find(path)
        if node.is_folder:
            raise _error(IsADirectoryError, errno.EISDIR)
        self.free += len(node.content)
        self._name(_Naming(node, str(path), None))

    def sync_folder(self, folder: Path) -> None:
        """Make the names of a folder durable."""
        self.find(folder)
        if not self.syncs_work:
            return
        mine = [
            naming
            for naming in self._renamings
            if str(folder) == str(Path(naming.new or naming.old or "").parent)
        ]
        for naming in mine:
            naming.apply(self._durable)
        self._renamings = [naming for naming in self._renamings if naming not in mine]

    def write(self, node: _Node, at: int, data: bytes) -> None:
        """Write bytes, as many as there is room for."""
        added = max(0, at + len(data) - len(node.content))
        missing = max(0, added - self.free)
        kept = data[: len(data) - missing]
        self.free -= added - missing
        node.change(_Change(at, kept), self._now())
        if missing:
            raise _error(OSError, errno.ENOSPC)

    def cut(self, node: _Node, size: int) -> None:
        self.free += len(node.content) - size
        node.change(_Change(size, None), self._now())

    def sync(self, node: _Node) -> None:
        if self.syncs_work:
            node.sync()
            node.synced_s = self._now()

    def fail_sync(self, node: _Node) -> None:
        """What happens to a file whose sync failed: its changes may be forgotten, though a reader still sees them."""
        if self.choose(2):
            node.pending.clear()

    def _name(self, naming: _Naming) -> None:
        naming.apply(self._names)
        self._renamings.append(naming)

    def _folder_of(self, path: Path) -> None:
        parent = self._names.get(str(path.parent))
        if parent is None:
            raise _error(FileNotFoundError, errno.ENOENT)
        if not parent.is_folder:
            raise _error(NotADirectoryError, errno.ENOTDIR)


class Mount:
    """The file system as one instance uses it: a ``Files``.

    Attributes:
        is_killed: its files stay open until ``crash`` is called, whatever the code does on its way out.
    """

    def __init__(self, disk: Disk, step: Step) -> None:
        self.disk = disk
        self.step = step
        self._open: dict[OpenFile, None] = {}
        self.is_killed = False

    def kill(self) -> None:
        """End the process: its files are closed, its locks are free; what it wrote can still be read."""
        for file in list(self._open):
            file.close()

    def crash(self) -> int:
        """End the machine: of its open files, what was not synced may be gone; return how many there were."""
        files = list(self._open)
        for file in files:
            file.node.crash(self.disk.choose)
        self._open.clear()
        return len(files)

    def names(self, folder: Path) -> list[str]:
        return self._do("names", lambda: self.disk.names(folder))

    def status(self, path: Path) -> os.stat_result:
        node = self._do("status", lambda: self.disk.find(path))
        mode = stat.S_IFDIR if node.is_folder else stat.S_IFREG
        return os.stat_result((mode, 0, 0, 1, 0, 0, len(node.content), *[node.changed_s] * 3))

    def is_folder(self, path: Path) -> bool:
        try:
            return self._do("status", lambda: self.disk.find(path)).is_folder
        except FileNotFoundError:
            return False

    def make_folder(self, path: Path) -> None:
        self._do("make folder", lambda: self.disk.make_folder(path))

    def open(self, path: Path, flags: int) -> "OpenFile":
        return self._do("open", lambda: self._opened(path, flags))

    def sync(self, file: Any) -> None:
        try:
            self._do("sync", lambda: self.disk.sync(file.node))
        except OSError:
            self.disk.fail_sync(file.node)
            raise

    def sync_folder(self, path: Path) -> None:
        self._do("sync folder", lambda: self.disk.sync_folder(path))

    def lock(self, file: Any) -> None:
        def lock() -> None:
            if self.disk.locks_work:
                if file.node.lock not in (None, file):
                    raise _error(BlockingIOError, errno.EAGAIN)
                file.node.lock = file

        self._do("lock", lock)

    def touch(self, path: Path) -> None:
        self._do("touch", lambda: self.disk.touch(path))

    def age(self, path: Path) -> None:
        self._do("age", lambda: self.disk.age(path))

    def rename(self, path: Path, new: Path) -> None:
        self._do("rename", lambda: self.disk.rename(path, new))

    def remove(self, path: Path) -> None:
        self._do("remove", lambda: self.disk.remove(path))

    def forget(self, file: "OpenFile") -> None:
        self._open.pop(file, None)

    def _opened(self, path: Path, flags: int) -> "OpenFile":
        if flags & os.O_EXCL:
            node = self.disk.add(path, is_folder=False)
        else:
            try:
                node = self.disk.find(path)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
                node = self.disk.add(path, is_folder=False)
        if node.is_folder:
            raise (
                NotRegular if flags & os.O_ACCMODE == os.O_RDONLY else _error(IsADirectoryError, errno.EISDIR)
            )
        file = OpenFile(self, node)
        self._open[file] = None
        return file

    def _do(self, name: str, operation: Callable[[], _T]) -> _T:
        self.step(name)
        result = operation()
        self.step(f"{name} done")
        return result


class OpenFile(io.BytesIO):
    """An open file; a write is seen by others at once."""

    def __init__(self, mount: Mount, node: _Node) -> None:
        super().__init__()
        self._mount = mount
        self._at = 0
        self.node = node

    def read(self, size: int | None = -1, /) -> bytes:
        self._mount.step("read")
        end = len(self.node.content) if size is None or size < 0 else self._at + size
        return self._taken(self.node.content[self._at : end])

    def readline(self, size: int | None = -1, /) -> bytes:
        self._mount.step("read")
        rest = self.node.content[self._at :]
        line = rest[: rest.find(b"\n") + 1] or rest
        return self._taken(line if size is None or size < 0 else line[:size])

    def write(self, data: Any, /) -> int:
        half = len(data) // 2
        self._mount.step("write")
        for part, said in ((bytes(data[:half]), "write goes on"), (bytes(data[half:]), "write done")):
            self._mount.disk.write(self.node, self._at, part)
            self._at += len(part)
            self._mount.step(said)
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        assert size is not None
        self._mount.step("cut")
        self._mount.disk.cut(self.node, size)
        self._mount.step("cut done")
        return size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def close(self) -> None:
        if not self._mount.is_killed:
            if self.node.lock is self:
                self.node.lock = None
            self._mount.forget(self)
        super().close()

    def _taken(self, data: bytes) -> bytes:
        self._at += len(data)
        return data


def _error(kind: type[OSError], number: int) -> OSError:
    return kind(number, os.strerror(number))
