"""The size of what is deployed."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.rows import Row


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "metric-forwarder.zip"
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "tools" / "package.py"),
                "build",
                f"--folder={folder}/package",
                f"--zip={archive}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        size = archive.stat().st_size / 1e6
    return [Row("zip with the base dependencies", 1.5, size, "MB", 1, "as `make package` builds it")]
