"""Changes of the source text, and copies of the source that have them."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src"


class Edit(NamedTuple):
    """One piece of source text that is replaced; ``file`` is below ``src/metric_forwarder``."""

    file: str
    old: str
    new: str


class DoesNotFit(Exception):
    """The text that an edit replaces is not in the source exactly once; the text says which."""


class Bug(NamedTuple):
    """An old bug, put back alone into today's code.

    Attributes:
        name: what ``make bugbank ONLY=`` takes.
        commit: the one that mended it.
        wing: the part of the package that had it.
        wrong: what went wrong, in one sentence.
        law: the law of the world that should find it.
        edits: what puts it back.
        needs: what a schedule must have to reach the changed code, words of ``hunt.has``; other seeds are passed over.
    """

    name: str
    commit: str
    wing: str
    wrong: str
    law: str
    edits: tuple[Edit, ...]
    needs: tuple[str, ...] = ()


def edited(edits: Iterable[Edit], source: Path = SOURCE) -> dict[str, str]:
    """Return the new texts of the files that edits change, by path below ``src``.

    Raises:
        DoesNotFit: the code has changed, and the edit must follow it.
    """
    texts: dict[str, str] = {}
    for file, old, new in edits:
        path = f"metric_forwarder/{file}"
        text = texts[path] if path in texts else (source / path).read_text()
        if text.count(old) != 1:
            raise DoesNotFit(f"{file} has this {text.count(old)} times, not once:\n{old}")
        texts[path] = text.replace(old, new)
    return texts


@contextmanager
def changed_source(texts: dict[str, str]) -> Iterator[Path]:
    """Make a copy of ``src`` in which some files have another text."""
    with tempfile.TemporaryDirectory(prefix="bugbank-") as folder:
        copy = Path(folder) / "src"
        # With the compiled modules: only what was changed is compiled again.
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("*.egg-info", "cli", "web"))
        for path, text in texts.items():
            (copy / path).write_text(text)
        yield copy
