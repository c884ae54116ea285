"""Small changes of today's code, one at a time: the same seed always gives the same ones.

A change is left out if nothing that the world could see depends on it: texts, annotations, ``__repr__``, checks of types,
declarations of ports and of tuples, and what only makes something faster.
"""

import ast
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from world.bugbank.edits import SOURCE

WINGS = ("delivery", "dedupe", "spool")
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
# Each word is swapped with the next one of its row.
_WORDS = {
    "Outcome": ("DELIVERED", "UNDELIVERED", "UNCERTAIN", "REJECTED"),
    "Action": ("ACCEPT", "RETRY", "RESEND", "SPLIT", "STOP"),
    "Claim": ("OURS", "DELIVERED", "UNCERTAIN", "REJECTED"),
    "Effect": ("HALVES", "REJECTS", "MAY_HAVE_ARRIVED", "STOPS"),
    "Final": ("BATCH", "EVENT"),
}
_TYPE_CHECKS = frozenset({"isinstance", "issubclass", "type", "hasattr", "cast"})
# Functions that only write a text, or look at what people look at.
_OF_TEXTS = frozenset(
    {
        "__repr__",
        "_explain",
        "others",
        "asked_to_wait",
        "too_slow_a_pace",
        "still_refused",
        "blocked_by_earlier",
    }
    | {"like_the_others", "_broken", "_text", "_error", "_unreadable", "odd_file"}
)
_LARGE = 20
_SKIPPED_FILES = frozenset({"redis_check.py", "destination.py", "__init__.py"})


# Modules that only some settings use.
_NEEDS = {
    "dedupe/redis.py": ("redis",),
    "spool/redis.py": ("spool in redis",),
    "spool/files.py": ("spool in files",),
    "spool/spool_file.py": ("spool in files",),
    "spool/file_system.py": ("spool in files",),
}


class Mutant(NamedTuple):
    """One change: ``start`` and ``end`` are places in the text of a file, ``new`` stands there instead."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    old: str
    new: str

    @property
    def name(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line} {self.kind}: {old[:70]} -> {new[:70]}"

    @property
    def needs(self) -> tuple[str, ...]:
        """What a schedule must have to reach the code: see ``Bug.needs``."""
        return _NEEDS.get(self.file, ("spool",) if self.file.startswith("spool/") else ())

    def texts(self, source: Path = SOURCE) -> dict[str, str]:
        """The changed text, by path below ``src``."""
        path = f"metric_forwarder/{self.file}"
        text = (source / path).read_text()
        assert text[self.start : self.end] == self.old
        return {path: text[: self.start] + self.new + text[self.end :]}


def chosen_mutants(count: int, seed: int) -> list[Mutant]:
    """Choose so many of all mutants, spread evenly over the code; another seed chooses others."""
    everything = all_mutants()
    step = len(everything) / count
    begin = random.Random(seed).random() * step
    return [everything[int(begin + place * step)] for place in range(count)]


def all_mutants() -> list[Mutant]:
    found = []
    for wing in WINGS:
        for file in sorted((SOURCE / "metric_forwarder" / wing).glob("*.py")):
            if file.name not in _SKIPPED_FILES:
                found += mutants_of(f"{wing}/{file.name}", file.read_text())
    return found


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All mutants of one file, in the order of its lines."""
    visitor = _Visitor(file, text)
    visitor.visit(ast.parse(text))
    return sorted(set(visitor.found), key=lambda mutant: (mutant.start, mutant.kind, mutant.new))


class _Visitor(ast.NodeVisitor):
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._lines = text.splitlines(keepends=True)
        self.found: list[Mutant] = []

    # --- what is left out --------------------------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = {ast.unparse(base) for base in node.bases}
        if not bases & {"Protocol", "NamedTuple", "Enum", "Flag"}:
            for statement in node.body:
                self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in _OF_TEXTS:
            return
        for statement in node.body:
            # Without an attribute the code ends at its next use: that says nothing about the world.
            if not (node.name == "__init__" and isinstance(statement, ast.Assign)):
                self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Only for readers and for the checker of types."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Mostly a text."""

    # --- what is changed ---------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and not _is_type_check(node):
            swapped = _COMPARISONS[type(node.ops[0])]()
            self._replace(node, "comparison", ast.Compare(node.left, [swapped], node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, "and/or", ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, "constant", ast.Constant(not value))
        elif isinstance(value, int):
            # One more of a thousand is the same to the world.
            self._replace(node, "constant", ast.Constant(value + 1 if abs(value) < _LARGE else value // 2))
        elif isinstance(value, float):
            self._replace(node, "constant", ast.Constant(value * 2 if value else 1.0))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = {ast.Add: ast.Sub, ast.Sub: ast.Add}.get(type(node.op))
        if other is not None and not _is_text(node):
            self._replace(node, "sign", ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("min", "max"):
            other = ast.Name("max" if name == "min" else "min")
            self._replace(node.func, "min/max", other)
        if name not in _TYPE_CHECKS:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        words = _WORDS.get(node.value.id, ()) if isinstance(node.value, ast.Name) else ()
        if node.attr in words:
            word = words[(words.index(node.attr) + 1) % len(words)]
            self._replace(node, "verdict", ast.Attribute(node.value, word))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._replace(node, "removed", None)
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        # Without a local name the code ends at its next use: that says nothing about the world.
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._replace(node, "removed", None)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "removed", None)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        item = node.items[0].context_expr
        if len(node.items) == 1 and ast.unparse(item).endswith("lock"):
            start, end = self._span(item)
            with_start = self._text.rindex("with", 0, start)
            self._add(node.lineno, "no lock", with_start, end, "if True")
        self.generic_visit(node)

    # --- how ---------------------------------------------------------------------------------------------------

    def _negate(self, test: ast.expr) -> None:
        # A comparison is flipped already.
        if not isinstance(test, ast.Compare) and not _is_type_check(test):
            self._replace(test, "negated", ast.UnaryOp(ast.Not(), test))

    def _replace(self, node: ast.expr | ast.stmt, kind: str, new: ast.expr | None) -> None:
        start, end = self._span(node)
        text = "pass" if new is None else f"({ast.unparse(new)})"
        if isinstance(new, (ast.Constant, ast.Name, ast.Attribute)):
            text = ast.unparse(new)
        self._add(node.lineno, kind, start, end, text)

    def _add(self, line: int, kind: str, start: int, end: int, new: str) -> None:
        self.found.append(Mutant(self._file, line, kind, start, end, self._text[start:end], new))

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._place(node.lineno, node.col_offset), self._place(node.end_lineno, node.end_col_offset)

    def _place(self, line: int, column: int) -> int:
        """A place in the text; the tree counts the bytes of a line."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _is_type_check(node: ast.expr) -> bool:
    calls = (each for each in ast.walk(node) if isinstance(each, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id in _TYPE_CHECKS for call in calls)


def _is_text(node: ast.expr) -> bool:
    parts: Iterator[ast.AST] = ast.walk(node)
    return any(isinstance(each, ast.JoinedStr) or _is_constant_text(each) for each in parts)


def _is_constant_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def by_wing(mutants: Sequence[Mutant]) -> dict[str, int]:
    """How many there are in each wing."""
    return {wing: sum(mutant.file.startswith(wing) for mutant in mutants) for wing in WINGS}
