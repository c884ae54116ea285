"""Compile the files of a folder for the Python that runs this: ``bytecode.py FOLDER``, their paths on standard input.

The bytecode stands where Python looks for it. It holds the hash of its source, so a file that is edited in place
afterwards is compiled anew, and neither documentation nor ``assert``: what is deployed needs neither.
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
