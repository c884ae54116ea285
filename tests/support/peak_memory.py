"""How much memory an event takes, measured as the platform measures it: the most that a process of its own ever held."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from support.harness import ROOT

HANDLE = """
import contextlib, io, json, re, sys
# Packages that only development has installed make jsonschema larger.
sys.modules["rfc3987_syntax"] = None
from pathlib import Path
from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpReply
from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.triggers.decoding import StoredObject

CONTEXT = {"time_limit_in_ms": 900_000, "request_id": "x", "tencentcloud_appid": "1250000000"}
event, stored, settings, mood, explains = sys.argv[1:]
settings = json.loads(settings)

class Endpoint:
    def send(self, request, timeout_s):
        if mood == "down":
            return Failure(Fault.UNREACHABLE, "down")
        if "MF_RECEIVER_URL" in settings:
            return HttpReply(200, {}, b'{"code":0}')
        return HttpReply(400 if request.body == b"\\xff" else 204, {}, b"")

class Objects:
    def open(self, name, deadline):
        return StoredObject("v", iter(lambda: file.read(65_536), b""), file.close)

file = open(stored, "rb") if stored else None
application = Application(settings, None, lambda: Endpoint(), Objects() if stored else None)

def handle(event):
    logged = io.StringIO()
    with contextlib.redirect_stdout(logged), contextlib.suppress(DeliveryIncomplete):
        application.handle(event, CONTEXT)
    lines = map(json.loads, logged.getvalue().splitlines())
    return next((line for line in lines if line["event"] == "report"), None)

def memory(kind):
    # What getrusage tells includes the process that this one was forked from.
    return 1024 * int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

# What is loaded with the first event is there.
handle({"metricName": "m", "dimensions": {}, "value": 1})
if explains:
    handle([{}])
event = json.loads(Path(event).read_text())
before = memory("VmRSS")
report = handle(event)
outcomes = report and {name: count for name, count in report["outcomes"].items() if count}
print(json.dumps([memory("VmHWM"), memory("VmHWM") - before, outcomes]))
"""
TOKEN = "t" * 24
RECEIVER = {
    "MF_RECEIVER_URL": "http://r.test/v2/index.php",
    "MF_SECRET_ID": "AKIDexampleexampleexample0000000000",
    "MF_SECRET_KEY": "exampleexampleexampleexample0000",
    "MF_REGION": "gz",
}


class Taken(NamedTuple):
    """What an event took.

    Attributes:
        peak: the most that the process ever held, bytes.
        more: how much more that is than it held before the event, which was there already; bytes.
        outcomes: of the event's points; none: nothing was reported of it.
    """

    peak: int
    more: int
    outcomes: dict[str, int]


def handle_alone(
    event: Any,
    stored: bytes,
    folder: Path,
    settings: Mapping[str, str],
    mood: str,
    *,
    spools: bool = False,
    explains: bool = False,
) -> Taken:
    """Let a process of its own handle an event.

    ``stored`` is the object of COS that the event names, ``folder`` is where event and spool are kept, and the destination is
    ``up`` or ``down``. ``explains``: what is needed to explain a mistake was loaded before.
    """
    named = {"MF_NAMESPACE": "pc", "MF_HTTP_TOKEN": TOKEN, "MF_MAX_ATTEMPTS": "1", **settings}
    if spools:
        named["MF_SPOOL"] = (folder / "spool").as_uri()
    event_file, object_file = folder / "event.json", folder / "object"
    event_file.write_text(json.dumps(event))
    object_file.write_bytes(stored)
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    files = str(event_file), str(object_file) if stored else ""
    program = [sys.executable, "-c", HANDLE, *files, json.dumps(named), mood, "explains" if explains else ""]
    done = subprocess.run(program, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True)
    return Taken(*json.loads(done.stdout.splitlines()[-1]))
