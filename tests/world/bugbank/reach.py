"""Which statements each schedule reaches with today's code, and what its trace is.

A schedule that does not reach a mutant cannot find it. One whose trace it does not change saw nothing of it.

``python -m world.bugbank.reach FIRST LAST`` is run with source that has marks; it prints a line of JSON for each seed.
"""

import ast
import builtins
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from world.bugbank.edits import ROOT, SOURCE, changed_source
from world.bugbank.mutants import WINGS, Mutant

# Statements in functions of the changed source call it with their file and line.
_MARK = "_reached"


class Reach(NamedTuple):
    """What one schedule did with today's code.

    Attributes:
        lines: the statements that it reached, such as ``delivery/loop.py:12``.
        trace: the hash of its trace.
        is_sound: whether no law was broken.
    """

    lines: frozenset[str]
    trace: str
    is_sound: bool


class Reaches:
    """The reach of seeds with today's code; each seed is run once and remembered in a file."""

    def __init__(self, file: Path, state: str) -> None:
        self._file = file
        self._state = state
        self._known: list[Reach] = []
        try:
            kept = json.loads(file.read_text())
        except (OSError, ValueError):
            return
        if kept["state"] == state:
            self._known = [Reach(frozenset(lines), *others) for lines, *others in kept["seeds"]]

    def plan(self, mutant: Mutant, seeds: int) -> dict[int, str]:
        """Return the seeds below ``seeds`` that reach a mutant and break no law without it, each with its trace."""
        self._run(seeds)
        line = statement_of(mutant)
        return {
            seed: reach.trace
            for seed, reach in enumerate(self._known[:seeds])
            if reach.is_sound and (line is None or line in reach.lines)
        }

    def _run(self, seeds: int) -> None:
        if len(self._known) >= seeds:
            return
        marked = {file: _marked(file) for file in _files()}
        with changed_source(marked) as source:
            path = os.pathsep.join((str(source), str(ROOT / "tests")))
            ended = subprocess.run(
                [sys.executable, "-m", "world.bugbank.reach", str(len(self._known)), str(seeds)],
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        for line in ended.stdout.splitlines():
            lines, trace, is_sound = json.loads(line)
            self._known.append(Reach(frozenset(lines), trace, is_sound))
        kept = [(sorted(reach.lines), reach.trace, reach.is_sound) for reach in self._known]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"state": self._state, "seeds": kept}))


def statement_of(mutant: Mutant) -> str | None:
    """Return the mark of the statement that a mutant changes; None: it is in no function, so every schedule reaches it."""
    text = (SOURCE / "metric_forwarder" / mutant.file).read_text()
    lines = text.splitlines(keepends=True)
    found: ast.stmt | None = None
    for node in _statements_of_functions(ast.parse(text)):
        begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
        # A later statement of the walk is an inner one.
        if begin <= mutant.start and mutant.end <= end:
            found = node
    return None if found is None else f"{mutant.file}:{found.lineno}"


def _files() -> list[str]:
    package = SOURCE / "metric_forwarder"
    return [str(file.relative_to(SOURCE)) for wing in WINGS for file in (package / wing).glob("*.py")]


def _marked(path: str) -> str:
    """The text of a file with a mark before each statement of its functions."""
    tree = ast.parse((SOURCE / path).read_text())
    file = path.removeprefix("metric_forwarder/")
    for node in [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]:
        _mark(node, file)
    return ast.unparse(ast.fix_missing_locations(tree))


def _mark(node: ast.AST, file: str) -> None:
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            value[:] = [part for each in value for part in (_mark_at(file, each), each)]


def _mark_at(file: str, statement: ast.stmt) -> ast.stmt:
    _mark_inside(statement, file)
    mark = ast.Call(ast.Name(_MARK, ast.Load()), [ast.Constant(f"{file}:{statement.lineno}")], [])
    return ast.Expr(mark)


def _mark_inside(statement: ast.stmt, file: str) -> None:
    # Functions inside are marked as functions.
    if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        _mark(statement, file)
        for each in ast.iter_child_nodes(statement):
            if isinstance(each, (ast.ExceptHandler, ast.match_case)):
                _mark(each, file)


def _statements_of_functions(tree: ast.AST) -> Iterator[ast.stmt]:
    """Each statement of each function, an outer one before what it holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node)


def main() -> int:
    """Run seeds with marked source."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    lines: set[str] = set()
    setattr(builtins, _MARK, lines.add)
    from world.campaign import run_seeds  # noqa: PLC0415 - not before the mark is there

    for result in run_seeds(first, last):
        reached = (sorted(lines), result.trace_hash, result.violation is None)
        sys.stdout.write(json.dumps(reached) + "\n")
        lines.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
