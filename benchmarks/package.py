"""The size of the function's package, built as it is deployed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import ROOT
from benchmarks.rows import Row


class Package(NamedTuple):
    """The folder that is deployed, and its zip."""

    folder: Path
    archive: Path

    def rows(self) -> list[Row]:
        size = self.archive.stat().st_size / 1e6
        return [Row("zip with the base dependencies", 1.8, size, "MB", 1, "as `make package` builds it")]


@contextmanager
def built() -> Iterator[Package]:
    with tempfile.TemporaryDirectory() as place:
        package = Package(Path(place) / "package", Path(place) / "metric-forwarder.zip")
        command = [sys.executable, str(ROOT / "tools" / "package.py"), "build"]
        options = [f"--folder={package.folder}", f"--zip={package.archive}"]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        yield package
