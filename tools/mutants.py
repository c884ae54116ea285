"""Change the code of delivery, dedupe and intake a little, module by module, and say which changes no test notices: ``make mutants``.

mutmut prepares all modules before it tries the first change, which can take longer than a newcomer waits. So each module gets a
folder of its own below ``build/mutants``, with links to the project, where mutmut prepares only that one. The smallest comes first,
and the next call goes on where this one ended.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("dedupe", "delivery", "intake")
_LINKED = [
    *("src", "tests", "benchmarks", "deploy", "docs", "events", "tools", ".venv"),
    *("README.md", "README.zh-CN.md", "serverless.yml"),
]
# What mutmut keeps for a change: an exit status of pytest, a number of its own, or minus the signal that ended it (24: its time).
_WORDS = {
    None: "not tried",
    0: "survived",
    1: "tests",
    3: "tests",
    5: "no test",
    33: "no test",
    37: "types",
    36: "time",
    -24: "time",
}
_COLUMNS = ["types", "tests", "time", "crashed", "survived", "no test", "not tried"]
_ENDING = (signal.SIGINT, signal.SIGTERM)
_UNNOTICED = {"time", "crashed", "survived", "no test"}


class Module:
    """A module of the package, and what is known of its changes."""

    def __init__(self, root: Path, source: Path) -> None:
        self.name = f"{source.parent.name}/{source.stem}"
        self.folder = root / "build" / "mutants" / self.name
        self.size = source.stat().st_size
        self._prepared = self.folder / "pyproject.toml"
        self._root, self._source = root, source
        self._kept = self.folder / "mutants" / f"{source.relative_to(root)}.meta"

    def changes(self) -> dict[str, str]:
        """Return what became of each change, by its name; it is empty until mutmut has prepared the module."""
        return {name: _WORDS.get(status, "crashed") for name, status in self._statuses().items()}

    def is_done(self) -> bool:
        changes = self.changes()
        return (
            bool(changes)
            and "not tried" not in changes.values()
            and not self._is_newer([self._source, *self._tests()])
        )

    def prepare(self, patience: int) -> None:
        """Make the folder, and let mutmut try again what may end otherwise now; on a busy machine it waits longer."""
        must_try_again = bool(self._statuses()) and self._is_newer(self._tests())
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in _LINKED:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(self._root / name)
        text = (self._root / "pyproject.toml").read_text("utf-8")
        text = text.replace("{wing}", self._source.parent.name).replace("{module}", self._source.stem)
        text = text.replace("timeout_multiplier = 1", f"timeout_multiplier = {patience}")
        self._prepared.write_text(text, "utf-8")
        if not self._statuses():
            # mutmut would take for whole what it was interrupted at.
            shutil.rmtree(self.folder / "mutants", ignore_errors=True)
        elif must_try_again:
            self._try_unnoticed_again()

    def _tests(self) -> list[Path]:
        tests = self._root / "tests"
        return [tests / "test_pipeline.py", *(tests / self._source.parent.name).glob("*.py")]

    def _is_newer(self, files: list[Path]) -> bool:
        # What is known is kept after each change, so a file that is written meanwhile would look older than it.
        return max(file.stat().st_mtime for file in files) > self._prepared.stat().st_mtime

    def _try_unnoticed_again(self) -> None:
        kept = json.loads(self._kept.read_text("utf-8"))
        statuses = kept["exit_code_by_key"]
        statuses |= {name: None for name, became in self.changes().items() if became in _UNNOTICED}
        self._kept.write_text(json.dumps(kept), "utf-8")

    def _statuses(self) -> dict[str, int | None]:
        try:
            statuses: dict[str, int | None] = json.loads(self._kept.read_text("utf-8"))["exit_code_by_key"]
        except (OSError, ValueError):  # not prepared, or interrupted while it was written
            return {}
        return statuses


def modules(root: Path, only: str) -> list[Module]:
    """Return the modules whose name, such as ``intake/series``, has the pattern, the smallest first."""
    sources = (file for wing in WINGS for file in (root / "src" / "metric_forwarder" / wing).glob("*.py"))
    found = (Module(root, source) for source in sources if source.stem != "__init__")
    return sorted((module for module in found if fnmatch(module.name, only)), key=lambda module: module.size)


def try_changes(
    chosen: list[Module],
    seconds: float,
    mutmut: Callable[[Path, float], str],
    clock: Callable[[], float],
    load: Callable[[], float],
) -> list[str]:
    """Let mutmut go on with what is not done, for so many seconds at most; return what it said where it could not."""
    end = clock() + seconds
    failures = []
    print(_row("module", ["changes", *_COLUMNS]), flush=True)
    for module in chosen:
        done = module.is_done()
        if not done and clock() < end:
            module.prepare(patience=1 + round(load()))
            said = mutmut(module.folder, end - clock())
            failures += [f"{module.name}: {said}"] if said else []
        print(_row(module.name, _counts(module)) + (" (before)" if done else ""), flush=True)
    if clock() >= end and not all(module.is_done() for module in chosen):
        print("Time is up: the next call goes on here.")
    return failures


def _counts(module: Module) -> list[str]:
    count = Counter(module.changes().values())
    return (
        [str(number) for number in (count.total(), *(count[column] for column in _COLUMNS))]
        if count
        else ["?"]
    )


def _row(name: str, cells: list[str]) -> str:
    return f"{name:24}" + "".join(f"{cell:>10}" for cell in cells)


def _mutmut(root: Path, jobs: int) -> Callable[[Path, float], str]:
    """Return how to run mutmut in a folder for so many seconds; it returns what mutmut said if it could not work."""

    def run(folder: Path, seconds: float) -> str:
        with (folder / "log").open("w") as log:
            # Until it is known which program to end, no signal may end this one.
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
            # In a group of its own, an interrupt from the keyboard does not end the tests of changes as if they had noticed them.
            process = subprocess.Popen(
                [root / ".venv" / "bin" / "mutmut", "run", "--max-children", str(jobs)],
                cwd=folder,
                env=os.environ | {"MYPY_CACHE_DIR": str(root / "build" / "mutants" / ".mypy_cache")},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _ENDING),  # noqa: PLW1509 - there are no threads
            )
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            if process.wait(seconds) == 0:
                return ""
        except subprocess.TimeoutExpired:
            return ""
        finally:
            _end(process)
        return "\n".join((folder / "log").read_text("utf-8").replace("\r", "\n").splitlines()[-20:])

    return run


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let mutmut keep what it knows, then end what is left of it and of the programs that tests started."""
    with suppress(subprocess.TimeoutExpired):
        process.send_signal(signal.SIGINT)
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _load() -> float:
    """Return how many processes want to compute for each processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--only", default="*", help="modules, with * and ?: delivery/*, intake/series")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    chosen = modules(ROOT, asked.only)
    # mutmut, in a group of its own, would outlive this program. A shell lets what it runs in the background ignore interrupts.
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)
    try:
        failures = try_changes(chosen, asked.seconds, _mutmut(ROOT, asked.jobs), time.monotonic, _load)
    except KeyboardInterrupt:
        failures = ["interrupted"]
    for module in chosen:
        names = [f"{became:10}{name}" for name, became in module.changes().items() if became in _UNNOTICED]
        if names:
            print(
                "",
                f"To see a change: cd {module.folder.relative_to(ROOT)}; .venv/bin/mutmut show NAME",
                *names,
                sep="\n",
            )
    print("", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
