"""Compile the files of a folder for the Python that runs this: ``bytecode.py FOLDER``, their paths on standard input.

The bytecode is written where Python looks for it. It contains the hash of its source, so a file that is edited later is
compiled again. It contains neither docstrings nor ``assert``, which the deployed function does not need.
"""

import importlib.util
import py_compile
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(sys.argv[1])
    for line in sys.stdin:
        relative = line.rstrip("\n")
        py_compile.compile(
            str(root / relative),
            cfile=importlib.util.cache_from_source(str(root / relative), optimization=""),
            dfile=relative,
            doraise=True,
            optimize=2,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )
