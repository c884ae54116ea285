"""`make mutants`: something is known soon, nothing is tried twice without need, and nothing is lost by an interrupt."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mutants
from mutants import Module, modules, try_changes

_TRIES_S = 100.0


class Mutmut:
    """It prepares two changes in a folder, and tries each that has no status; to try one takes a hundred seconds."""

    def __init__(self, *statuses: int) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self.tried: list[str] = []
        self._statuses = list(statuses)

    def __call__(self, folder: Path, seconds: float) -> str:
        module = f"{folder.parent.name}/{folder.name}"
        self.calls.append(module)
        kept = folder / "mutants" / "src" / "metric_forwarder" / f"{module}.py.meta"
        if (folder / "mutants").exists() and not kept.exists():
            return "what was interrupted was taken for whole"
        kept.parent.mkdir(parents=True, exist_ok=True)
        statuses = (
            json.loads(kept.read_text())["exit_code_by_key"]
            if kept.exists()
            else dict.fromkeys(("first", "second"))
        )
        end = self.now + seconds
        for name, status in statuses.items():
            if status is None and self.now < end:
                self.tried.append(name)
                statuses[name] = self._statuses.pop(0) if self._statuses else 1
                self.now += _TRIES_S
        kept.write_text(json.dumps({"exit_code_by_key": statuses}))
        return ""

    def clock(self) -> float:
        return self.now


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, lines in {
        "dedupe/long.py": 3,
        "intake/short.py": 1,
        "delivery/middling.py": 2,
        "intake/__init__.py": 0,
    }.items():
        source = tmp_path / "src" / "metric_forwarder" / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("a = 1\n" * lines)
        (tmp_path / "tests" / source.parent.name).mkdir(parents=True, exist_ok=True)
        _write(tmp_path / "tests" / source.parent.name / "test_it.py", age_s=100)
        os.utime(source, (0, 0))
    _write(tmp_path / "tests" / "test_pipeline.py", age_s=100)
    (tmp_path / "pyproject.toml").write_text('only_mutate = ["src/metric_forwarder/{wing}/{module}.py"]')
    return tmp_path


def _write(file: Path, age_s: float) -> None:
    file.write_text("")
    _age(file, age_s)


def _age(file: Path, age_s: float) -> None:
    written = file.stat().st_mtime - age_s
    os.utime(file, (written, written))


def _call(project: Path, mutmut: Mutmut, seconds: float = 1e6, only: str = "*") -> list[str]:
    return try_changes(modules(project, only), seconds, mutmut, mutmut.clock, lambda: 0.0)


def _module(project: Path, name: str) -> Module:
    (module,) = modules(project, name)
    return module


def test_the_smallest_module_is_tried_first_and_each_in_a_folder_where_mutmut_sees_no_other(
    project: Path,
) -> None:
    mutmut = Mutmut()

    _call(project, mutmut)

    assert mutmut.calls == ["intake/short", "delivery/middling", "dedupe/long"]
    folder = project / "build" / "mutants" / "intake" / "short"
    assert (folder / "pyproject.toml").read_text() == 'only_mutate = ["src/metric_forwarder/intake/short.py"]'
    assert (folder / "src").resolve() == project / "src"


def test_after_its_time_it_ends_and_the_next_call_goes_on_with_what_was_not_tried(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Mutmut(), Mutmut()

    _call(project, first, 3 * _TRIES_S)
    *rows, last = [line.split() for line in capsys.readouterr().out.splitlines()]
    _call(project, second)

    assert first.calls == ["intake/short", "delivery/middling"]
    assert first.tried == ["first", "second", "first"]
    assert rows[1:] == [
        ["intake/short", "2", "0", "2", "0", "0", "0", "0", "0"],
        ["delivery/middling", "2", "0", "1", "0", "0", "0", "0", "1"],
        ["dedupe/long", "?"],
    ]
    assert " ".join(last) == "Time is up: the next call goes on here."
    assert "Time is up" not in capsys.readouterr().out
    assert second.calls == ["delivery/middling", "dedupe/long"]
    assert second.tried == ["second", "first", "second"]


def test_only_the_modules_that_were_asked_for_are_tried(project: Path) -> None:
    mutmut = Mutmut()

    _call(project, mutmut, only="de*/*")

    assert mutmut.calls == ["delivery/middling", "dedupe/long"]


@pytest.mark.parametrize("unnoticed", [0, 5, 33, -24, -11])
def test_what_no_test_noticed_is_tried_again_once_a_test_of_the_wing_is_newer(
    project: Path, unnoticed: int
) -> None:
    _call(project, Mutmut(1, unnoticed), only="intake/short")
    _write(project / "tests" / "intake" / "test_it.py", age_s=-100)
    again = Mutmut()

    _call(project, again, only="intake/short")

    assert again.tried == ["second"]
    assert set(_module(project, "intake/short").changes().values()) == {"tests"}


def test_a_test_that_was_written_during_a_run_counts_as_newer(project: Path) -> None:
    mutmut, again = Mutmut(1, 0), Mutmut()

    def run(folder: Path, seconds: float) -> str:
        _write(project / "tests" / "intake" / "test_it.py", age_s=-10)
        said = mutmut(folder, seconds)
        _age(folder / "mutants" / "src" / "metric_forwarder" / "intake" / "short.py.meta", age_s=-20)
        return said

    try_changes(modules(project, "intake/short"), 1e6, run, mutmut.clock, lambda: 0.0)
    _call(project, again, only="intake/short")

    assert again.tried == ["second"]


def test_a_module_whose_code_is_newer_is_given_to_mutmut_again(project: Path) -> None:
    _call(project, Mutmut(), only="intake/short")
    _write(project / "src" / "metric_forwarder" / "intake" / "short.py", age_s=-100)
    again = Mutmut()

    _call(project, again, only="intake/short")

    assert again.calls == ["intake/short"]


def test_what_was_interrupted_while_mutmut_prepared_it_begins_anew(project: Path) -> None:
    (project / "build" / "mutants" / "intake" / "short" / "mutants" / "src").mkdir(parents=True)

    assert _call(project, Mutmut(), only="intake/short") == []
    assert _module(project, "intake/short").is_done()


def test_where_mutmut_fails_it_is_said_and_the_other_modules_are_tried(project: Path) -> None:
    failing = project / "build" / "mutants" / "delivery" / "middling"
    mutmut = Mutmut()

    def run(folder: Path, seconds: float) -> str:
        return "a test fails without a change" if folder == failing else mutmut(folder, seconds)

    assert try_changes(modules(project, "*"), 1e6, run, mutmut.clock, lambda: 0.0) == [
        "delivery/middling: a test fails without a change"
    ]
    assert mutmut.calls == ["intake/short", "dedupe/long"]


def test_on_a_busy_machine_a_change_is_given_more_time(project: Path) -> None:
    (project / "pyproject.toml").write_text("timeout_multiplier = 1\n")
    mutmut = Mutmut()

    try_changes(modules(project, "intake/short"), 1e6, mutmut, mutmut.clock, lambda: 6.5)

    written = project / "build" / "mutants" / "intake" / "short" / "pyproject.toml"
    assert written.read_text() == "timeout_multiplier = 7\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_mutmut_behind_also_in_the_background(
    project: Path, number: signal.Signals
) -> None:
    program = project / "tools" / "mutants.py"
    program.parent.mkdir()
    shutil.copy(mutants.__file__, program)
    mutmut = project / ".venv" / "bin" / "mutmut"
    mutmut.parent.mkdir(parents=True)
    mutmut.write_text("#!/bin/sh\necho $$ > pid && exec sleep 600\n")
    mutmut.chmod(0o700)
    # In the background of a script, a shell lets it ignore interrupts.
    command = ["sh", "-c", '"$@" & echo $!; wait', "sh", sys.executable, str(program), "--only", "intake/*"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        ended = int(shell.stdout.readline())
        pid = project / "build" / "mutants" / "intake" / "short" / "pid"
        while not (pid.exists() and pid.read_text()) and shell.poll() is None:
            time.sleep(0.01)
        os.kill(ended, number)
        assert "interrupted" in shell.stdout.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
