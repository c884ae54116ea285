"""The model of a file system is held to a real one, by what the spool makes of both; and the spool keeps its promises on a model that crashes."""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.machine import Machine, Threads
from metric_forwarder.spool.file_system import Files, SystemFiles
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import SpoolError, SpoolRecord, SpoolStore
from support.fakes import FakeClock
from support.harness import ROOT
from world.disk import Disk

FOLDER = Path("/mnt/spool")
FUNCTION = "default/forwarder"


class CountedChance:
    """The first token is 1, the next one 2: two spools that do the same draw the same."""

    def __init__(self) -> None:
        self._drawn = 0

    def token(self, size: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(size, "big")

    def below(self, ceiling: float) -> float:
        return ceiling / 2


def record(row: int) -> SpoolRecord:
    return SpoolRecord({"row": row}, "s", f"place {row}", row, "undelivered", "")


def rows_left(spool: SpoolStore) -> list[int]:
    chunks = spool.replay(dead_letters=True)
    return sorted(message.body["row"] for chunk in chunks for message in chunk.messages if message.body)


# --- the same operations on both, without a crash ----------------------------------------------------------------


class Side:
    """A spool on one of the two file systems, and what a person or another program does to its files."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._rows = itertools.count()
        self.clock = FakeClock()
        machine = Machine(self.clock, Threads(), CountedChance())
        self._spools = [FileSpool(folder, name, 2500, machine, files) for name in (FUNCTION, "", "other")]

    def write(self, spool: int, points: int, dead: int) -> Any:
        rows = [next(self._rows) for _ in range(points + dead)]
        return _outcome(
            lambda: self._spools[spool].write(map(record, rows[:points]), map(record, rows[points:]))
        )

    def replay(self, spool: int, most: int, *, closes: bool, beside: bool) -> Any:
        def replay() -> Any:
            told: list[Any] = []
            for chunk in self._spools[spool].replay(dead_letters=True):
                told += [(message.body, message.broken, message.source) for message in chunk.messages]
                receipts = [message.receipt for message in chunk.messages if message.receipt is not None]
                told.append(_outcome(lambda: chunk.acknowledge(receipts[:most])))  # noqa: B023 - called at once
                if closes:
                    chunk.close()
                if beside:
                    told.append(_outcome(lambda: list(self._spools[spool].replay(dead_letters=False))))
            return told

        return _outcome(replay)

    def look(self, spool: int) -> Any:
        looked = self._spools[spool]
        return [
            _outcome(lambda: looked.waiting(dead_letters=True)), _outcome(looked.measure), _outcome(looked.others)
        ]  # fmt: skip

    def damage(self, which: int, how: str) -> Any:
        def damage() -> None:
            names = sorted(name for name in self._files.names(self._folder) if not name.startswith("."))
            path = self._folder / (names[which % len(names)] if names else "nothing")
            if how == "remove":
                self._files.remove(path)
            elif how == "rename":
                self._files.rename(path, path.with_suffix(".draft"))
            elif how == "folder":
                self._files.remove(path)
                self._files.make_folder(path)
            else:
                with self._files.open(path, os.O_WRONLY) as file:
                    file.seek(20)
                    file.truncate(20)
                    file.write(how.encode())

        return _outcome(damage)

    def contents(self) -> dict[str, bytes | None]:
        return {name: self._content(self._folder / name) for name in _names(self._files, self._folder)}

    def _content(self, path: Path) -> bytes | None:
        try:
            with self._files.open(path, os.O_RDONLY) as file:
                return file.read()
        except OSError:
            return None


def _names(files: Files, folder: Path) -> list[str]:
    return sorted(files.names(folder)) if files.is_folder(folder) else []


def _outcome(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except (SpoolError, OSError) as error:
        return type(error).__name__, re.sub("(: ')?/.*", "", str(error))


_EXAMPLES = itertools.count()
_SPOOLS = st.integers(0, 2)
_STEPS = st.one_of(
    st.tuples(st.just("write"), _SPOOLS, st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("replay"), _SPOOLS, st.integers(0, 4), st.booleans(), st.booleans()),
    st.tuples(st.just("look"), _SPOOLS),
    st.tuples(st.just("damage"), st.integers(0, 6), st.sampled_from(["remove", "rename", "folder", "", "5\n\n17"])),
)  # fmt: skip


def do(side: Side, step: Sequence[Any]) -> Any:
    name, *arguments = step
    if name == "replay":
        spool, most, closes, beside = arguments
        return side.replay(spool, most, closes=closes, beside=beside)
    return getattr(side, name)(*arguments)


@pytest.mark.slow
@given(st.lists(_STEPS, min_size=2, max_size=10))
@settings(
    max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_spool_does_the_same_on_the_model_as_on_a_real_file_system(
    tmp_path: Path, steps: list[Sequence[Any]]
) -> None:
    folder = tmp_path / f"{next(_EXAMPLES)}"
    real, model = Side(folder, SystemFiles()), Side(FOLDER, Disk(FakeClock().time).mount())
    for step in steps:
        assert do(model, step) == do(real, step), step
        assert model.contents() == real.contents(), step
    shutil.rmtree(folder, ignore_errors=True)


# --- killed at any moment: what is left on a real file system may be left on the model -----------------------------

KILLED = """
import json, sys
from pathlib import Path
from metric_forwarder.spool.files import FileSpool
from support.killed_process import kill_before_each_call
from world.test_disk import rows_left, work

steps, base = json.loads(sys.argv[1]), Path(sys.argv[2])
ends = kill_before_each_call(
    base,
    lambda folder: None,
    lambda folder, tell: work(FileSpool(folder), steps, lambda *done: tell(done)),
)
print(json.dumps([[done, rows_left(FileSpool(folder))] for folder, _, done in ends]))
"""


def work(spool: FileSpool, steps: Sequence[Sequence[int]], tell: Callable[..., object]) -> None:
    """Write records and acknowledge others; tell before and after each what is done with which rows."""
    rows = itertools.count()
    for points, dead, most in steps:
        if points + dead:
            new = [next(rows) for _ in range(points + dead)]
            tell("write", new)
            spool.write(map(record, new[:points]), map(record, new[points:]))
            tell("written", new)
            continue
        for chunk in spool.replay(dead_letters=True):
            found = {message.receipt: message.body["row"] for message in chunk.messages if message.body}
            receipts = list(found)[:most]
            acknowledged = [found[receipt] for receipt in receipts]
            tell("acknowledge", acknowledged)
            chunk.acknowledge([receipt for receipt in receipts if receipt is not None])
            tell("acknowledged", acknowledged)
            chunk.close()


class Killed(BaseException):
    """The process is dead; nothing that is on its way out has an effect."""


class KilledAt:
    """Lets a process run for so many steps."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _: str) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Killed


def killed_on_the_model(steps: Sequence[Sequence[int]]) -> list[Any]:
    """For a process that is killed at each of its steps: what it told, and the rows that are left."""
    ends: list[Any] = []
    while not ends or not ends[-1][-1]:
        ends.append(_killed_at(len(ends) + 1, steps))
    return [end[:2] for end in ends]


def _killed_at(number: int, steps: Sequence[Sequence[int]]) -> list[Any]:
    disk, until = Disk(), KilledAt(number)
    mount = disk.mount(until)
    told: list[Any] = []
    with contextlib.suppress(Killed):
        work(FileSpool(FOLDER, files=mount), steps, lambda *done: told.append(list(done)))
    mount.kill()
    return [told, rows_left(FileSpool(FOLDER, files=disk.mount())), until.left > 0]


_WORK = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 3), st.integers(0, 2), st.just(0)),
        st.tuples(st.just(0), st.just(0), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(steps=_WORK)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_left_by_a_killed_process_may_be_left_on_the_model(
    tmp_path: Path, steps: list[tuple[int, int, int]]
) -> None:
    path = {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("src", "tests"))}
    program = [sys.executable, "-c", KILLED, json.dumps(steps), str(tmp_path / "spools")]
    done = subprocess.run(program, capture_output=True, text=True, env=path, check=True)
    shutil.rmtree(tmp_path / "spools", ignore_errors=True)
    real, simulated = json.loads(done.stdout), killed_on_the_model(steps)
    assert real[-1] == simulated[-1]
    for end in real:
        assert end in simulated


# --- an instance that stands still ---------------------------------------------------------------------------------


def test_a_replay_that_stands_still_keeps_others_out_for_a_quarter_of_an_hour_and_no_longer() -> None:
    clock = FakeClock()
    disk, machine = Disk(clock.time), Machine(clock, Threads(), CountedChance())
    first, second = (FileSpool(FOLDER, machine=machine, files=disk.mount()) for _ in range(2))
    for start in range(0, 150, 3):
        first.write(map(record, range(start, start + 3)), [])
    first.write([record(150)], [])
    frozen = first.replay(dead_letters=False)
    assert len(next(frozen).messages) == 150
    clock.sleep(800)
    assert len(next(frozen).messages) == 1
    clock.sleep(890)
    with pytest.raises(SpoolError, match="another replay of this spool is running"):
        rows_left(second)
    clock.sleep(20)
    # A replay that passed the lock keeps nobody out once it has ended, so the second of these begins, too.
    for _ in range(2):
        assert rows_left(second) == list(range(151))
    frozen.close()
    assert rows_left(second) == list(range(151))


# --- what the spool promises, whatever its file system does ---------------------------------------------------------


@dataclass
class Told:
    """Rows by what the spool said of them: ``maybe`` is what it was doing when it failed or was killed."""

    written: set[int] = field(default_factory=set)
    maybe_written: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    maybe_acknowledged: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def tell(self, what: str, rows: Sequence[int]) -> None:
        sets = {
            "write": self.maybe_written,
            "written": self.written,
            "acknowledge": self.maybe_acknowledged,
            "acknowledged": self.acknowledged,
        }
        sets[what].update(rows)

    def meet(self, rows: Iterable[int]) -> None:
        assert not self.acknowledged.intersection(rows), "what was acknowledged is not replayed"

    def check(self, left: Sequence[int], *, may_return: bool) -> None:
        there = set(left)
        assert len(there) == len(left), "no record is there twice"
        assert self.written - self.maybe_acknowledged <= there, (
            "what was written is there until it is acknowledged"
        )
        assert there <= self.maybe_written, "nothing is there that nobody wrote"
        assert may_return or not there & self.acknowledged, "what was acknowledged does not come back"


_FAILURES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


class Fault:
    """Strikes at the so-manieth operation: it fails, before or after it had its effect, or the process is killed."""

    def __init__(self, number: int, kind: str) -> None:
        self._left = number
        self.kind = kind
        self.is_over = False

    def __call__(self, name: str) -> None:
        if self.is_over and self.kind == "kill":
            raise Killed
        self._left -= 1
        if self._left > 0 or self.is_over:
            return
        self.is_over = True
        if self.kind == "kill":
            raise Killed
        number = _FAILURES[len(name) % len(_FAILURES)]
        raise OSError(number, os.strerror(number))


def choices(drawn: Sequence[int]) -> Callable[[int], int]:
    """A ``choose`` that takes what was drawn, and 0 after its end."""
    left = iter(drawn)
    return lambda count: next(left, 0) % count


def work_on(spool: SpoolStore, steps: Sequence[Sequence[int]], told: Told) -> None:
    """Do the work; go on after what the spool says has failed."""
    rows = itertools.count()
    for points, dead, most in steps:
        new = [next(rows) for _ in range(points + dead)]
        try:
            if new:
                told.tell("write", new)
                spool.write(map(record, new[:points]), map(record, new[points:]))
                told.tell("written", new)
            else:
                replay_some(spool, most, told)
        except SpoolError:
            told.refused.update(new)


def replay_some(spool: SpoolStore, most: int, told: Told) -> None:
    for chunk in spool.replay(dead_letters=True):
        found = {message.receipt: message.body["row"] for message in chunk.messages if message.body}
        receipts = list(found)[:most]
        acknowledged = [found[receipt] for receipt in receipts]
        told.meet(found.values())
        told.tell("acknowledge", acknowledged)
        chunk.acknowledge([receipt for receipt in receipts if receipt is not None])
        told.tell("acknowledged", acknowledged)
        chunk.close()


_CHOICES = st.lists(st.integers(0, 5000), max_size=12)


@pytest.mark.slow
@given(
    steps=_WORK,
    number=st.integers(1, 90),
    kind=st.sampled_from(["kill", "fail"]),
    crash=st.sampled_from(["none", "instance", "file server"]),
    drawn=_CHOICES,
    free=st.one_of(st.none(), st.integers(0, 2000)),
)
@settings(max_examples=3000, suppress_health_check=[HealthCheck.too_slow])
def test_no_failure_and_no_crash_loses_what_was_written(
    steps: list[tuple[int, int, int]], number: int, kind: str, crash: str, drawn: list[int], free: int | None
) -> None:
    check_promises(steps, Fault(number, kind), choices(drawn), crash=crash, free=free)


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["none", "instance", "file server"])
@pytest.mark.parametrize("kind", ["kill", "fail"])
def test_whichever_step_fails_nothing_is_lost_and_nothing_comes_back(kind: str, crash: str) -> None:
    steps = [(3, 1, 0), (0, 0, 2), (0, 0, 1), (1, 0, 0), (0, 0, 3), (2, 0, 0)]
    for number in itertools.count(1):
        fault = Fault(number, kind)
        # The largest choice loses everything that may be lost.
        check_promises(steps, fault, lambda count: count - 1, crash=crash)
        if not fault.is_over:
            assert number > 100
            break


def check_promises(
    steps: Sequence[Sequence[int]],
    fault: "Fault",
    choose: Callable[[int], int],
    *,
    crash: str,
    free: int | None = None,
) -> None:
    """Do the work, let the fault strike, then a crash, and look at what is left."""
    disk, told = Disk(choose=choose), Told()
    disk.free = disk.free if free is None else free
    mount = disk.mount(fault)
    with contextlib.suppress(Killed):
        work_on(FileSpool(FOLDER, files=mount), steps, told)
    mount.kill()
    if crash != "none":
        disk.crash(names=crash == "file server")
    disk.free = 2**40
    spool = FileSpool(FOLDER, files=disk.mount())
    told.check(rows_left(spool), may_return=crash == "file server")
    if crash == "none" and fault.kind == "fail" and free is None:
        assert not told.refused.intersection(rows_left(spool)), "what was refused is not there"
    told.acknowledged.clear()
    replay_some(spool, 2**20, told)
    if disk.mount().is_folder(FOLDER):
        assert spool.waiting(dead_letters=True) == 0
