"""Importing the transport leaves out what only HTTP/2 needs, and breaks nothing that needs it."""

import subprocess
import sys
from importlib.metadata import version

import pytest

WITHIN = """
import sys
from metric_forwarder.clients.deferred import deferred_metadata
with deferred_metadata():
    {imports}
    assert ("zipfile" in sys.modules) is {is_loaded}
assert "importlib.metadata" not in sys.modules or "zipfile" in sys.modules
import importlib.metadata
print(importlib.metadata.version("urllib3"), {result})
"""


@pytest.mark.parametrize(
    ("imports", "is_loaded", "result"),
    [
        ("from importlib.metadata import version", False, "version('urllib3')"),
        ("from importlib.metadata import distribution", True, "distribution('urllib3').version"),
    ],
    ids=["the function that urllib3 imports", "another one"],
)
def test_what_was_imported_while_it_was_deferred_works_as_ever(
    imports: str, result: str, *, is_loaded: bool
) -> None:
    code = WITHIN.format(imports=imports, is_loaded=is_loaded, result=result)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [version("urllib3")] * 2


def test_a_module_that_was_imported_before_is_left_alone() -> None:
    code = (
        "import importlib.metadata, sys\n"
        "before = sys.modules['importlib.metadata']\n"
        "import metric_forwarder.clients.http\n"
        "print(sys.modules['importlib.metadata'] is before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
