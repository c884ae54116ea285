"""Killed at each system call that changes the folder: nothing acknowledged comes back, nothing else is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.spool.file_system import SystemFiles
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.spool_file import FileChunk, SpoolFile
from metric_forwarder.spool.store import SpoolRecord
from support.harness import ROOT

KILL = """
import json, sys
from pathlib import Path
from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import SpoolRecord
from support.killed_process import kill_before_each_call

scene, base = sys.argv[1], Path(sys.argv[2])

def record(row):
    return SpoolRecord({"row": row}, "s", None, row, "undelivered", "")

def prepare(folder):
    if scene == "replay":
        for rows in ([0, 1, 2], [3], [4, 5]):
            FileSpool(folder).write(map(record, rows), [record(rows[0] + 100)])

def write(folder, tell):
    FileSpool(folder).write([record(0), record(1)], [record(2)])
    tell("written")

def replay(folder, tell):
    for chunk in FileSpool(folder).replay(dead_letters=True):
        for row in [message.body["row"] for message in chunk.messages]:
            receipt = next(message.receipt for message in chunk.messages if message.body["row"] == row)
            chunk.acknowledge([receipt])
            tell(row)
        chunk.close()

work = {"write": write, "replay": replay}[scene]
ends = kill_before_each_call(base, prepare, work)
print(json.dumps([[str(folder), status, done] for folder, status, done in ends]))
"""


def killed(scene: str, folder: Path) -> list[Any]:
    """Of each process: its folder, its exit status, and what it had done before it was killed."""
    program = [sys.executable, "-c", KILL, scene, str(folder)]
    path = {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("src", "tests"))}
    done = subprocess.run(program, capture_output=True, text=True, env=path, check=True)
    told: list[Any] = json.loads(done.stdout)
    assert told[-1][1] == 0, "it got to its end once it was killed no longer"
    assert {status for _, status, _ in told[:-1]} == {-9}
    return told


def rows_left(folder: Path) -> list[int]:
    chunks = FileSpool(folder).replay(dead_letters=True)
    return [message.body["row"] for chunk in chunks for message in chunk.messages]


def test_a_write_that_is_killed_at_any_call_leaves_whole_files_or_none(tmp_path: Path) -> None:
    told = killed("write", tmp_path)
    assert len(told) > 5
    for folder, _, done in told:
        left = rows_left(Path(folder))
        assert left in ([], [0, 1], [0, 1, 2])
        assert not done or left == [0, 1, 2]


@pytest.mark.slow
def test_a_replay_that_is_killed_at_any_call_keeps_what_it_has_not_acknowledged(tmp_path: Path) -> None:
    everything = [0, 1, 2, 3, 4, 5, 100, 103, 104]
    told = killed("replay", tmp_path)
    assert len(told) > 20
    for folder, _, done in told:
        left = sorted(rows_left(Path(folder)))
        assert not set(left) & set(done)
        # The one that was being acknowledged may be either.
        assert len(left) >= len(everything) - len(done) - 1
        assert set(left) | set(everything[: len(done) + 1]) == set(everything)


@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (3, 2)])
def test_two_replays_side_by_side_lose_nothing(tmp_path: Path, steps: tuple[int, int]) -> None:
    """As where a mount has no locks: each acknowledges in its own time what it has delivered itself."""
    spool = FileSpool(tmp_path)
    spool.write([SpoolRecord({"row": row}, "s", None, row, "undelivered", "") for row in range(6)], [])
    (path,) = tmp_path.glob("points-*")
    replays = []
    for step in steps:
        file, _ = SpoolFile.check(SystemFiles(), path)
        chunk = FileChunk([(file, row, message) for row, _, message in file.records()], [], dead=False)
        replays.append((chunk, step))
    delivered: set[int] = set()
    for turn in range(2):
        for chunk, step in replays:
            rows = range(turn * step, (turn + 1) * step)
            chunk.acknowledge(list(rows))
            delivered.update(rows)
            assert set(range(6)) - delivered <= set(rows_left(tmp_path))
