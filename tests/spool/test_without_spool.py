"""A function without a spool does not pay for it: none of its modules is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.harness import ROOT

HANDLE = """
import json, sys
from support.harness import ckafka, make_harness, point
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
harness = make_harness(**json.loads(sys.argv[1]))
harness.receiver.refuse_if = lambda request: ReturnCode.NOT_READY if len(harness.receiver.requests) > 1 else None
print(harness.handle(ckafka(point(1), point("bad"))), harness.handle(ckafka(point(2), topic="other")), file=sys.stderr)
print(json.dumps(sorted(name for name in sys.modules if name.startswith("metric_forwarder.spool"))))
"""


def loaded(**settings: str) -> list[str]:
    """The modules of the spool that an instance has loaded after an event, some points of which were not delivered."""
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    program = [sys.executable, "-c", HANDLE, json.dumps(settings)]
    done = subprocess.run(program, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True)
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return modules


@pytest.mark.slow
def test_an_instance_without_a_spool_loads_none_of_its_modules() -> None:
    assert loaded() == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "redis"])
def test_an_instance_with_a_spool_loads_the_one_kind_that_it_uses(tmp_path: Path, kind: str) -> None:
    spool = tmp_path.as_uri() if kind == "files" else "redis://127.0.0.1:1/0"
    modules = loaded(SPOOL=spool)
    assert f"metric_forwarder.spool.{kind}" in modules
    assert f"metric_forwarder.spool.{'redis' if kind == 'files' else 'files'}" not in modules
