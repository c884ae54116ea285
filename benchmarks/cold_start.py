"""CPU time of a cold start: a new interpreter delivers an event of 30 points, another posts the same bytes by ``requests``."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from threading import Thread
from typing import NamedTuple

from benchmarks.processes import ROOT, environment, receiver
from benchmarks.rows import Pair, Row, compare
from benchmarks.workload import CONTEXT, environ, event

TURNS = 11
_FORBIDDEN = (
    "requests",
    "certifi",
    "jsonschema",
    "tencentcloud",
    "redis",
    "importlib.metadata",
    "zipfile",
    "pydantic",
    "attr",
)
_OURS = f"""
import json, sys
import index
report = index.main_handler(json.load(open(sys.argv[1])), {CONTEXT!r})
assert report["status"] == "ok", report
"""
_THEIRS = """
import json, sys
import requests
reply = requests.post(sys.argv[2], data=open(sys.argv[1], "rb").read())
assert reply.json()["code"] == 0
"""
_MODULES = (
    "import sys\nbefore = set(sys.modules)\n"
    + _OURS
    + "json.dump(sorted(set(sys.modules) - before), sys.stderr)\n"
)


def rows(package: Path, python_310: str) -> list[Row]:
    """Measure the sources as they are installed here, and the package as the function runs it.

    Args:
        package: the folder that is deployed.
        python_310: the interpreter that runs it.
    """
    with receiver() as url, _files() as (event_file, body_file):
        settings = environment(environ(url))
        modules = json.loads(_run([sys.executable, "-c", _MODULES, str(event_file)], settings).stderr)
        found = [name for name in modules if name.startswith(_FORBIDDEN)]
        ours, theirs = ["-c", _OURS, str(event_file)], ["-c", _THEIRS, str(body_file), url]
        # Like an instance: without the packages that are installed here, and without writing bytecode.
        bare = [python_310, "-S", "-s", "-B"]
        deployed = {**settings, "PYTHONPATH": str(package)}
        compiled = {**settings, "PYTHONPATH": str(_compiled(package, python_310, body_file.parent))}
        pairs = [
            _pair(
                "cold start: `index` delivers 30 points",
                _Start([sys.executable, *ours], settings),
                _Start([sys.executable, *theirs], settings),
            ),
            _pair(
                "the same of the package, as an instance starts",
                _Start([*bare, *ours], deployed),
                _Start([*bare, *theirs], compiled),
            ),
        ]
        return [
            *compare(pairs, TURNS),
            Row(
                "heavy modules loaded on that road, `requests` itself among them",
                0,
                len(found),
                "",
                1,
                f"{', '.join(found) or 'none'}; {len(modules)} modules",
            ),
        ]


class _Start(NamedTuple):
    """How a process is started."""

    command: Sequence[str]
    env: Mapping[str, str]


def _pair(what: str, ours: _Start, theirs: _Start) -> Pair:
    what += ", against `requests` posting the same bytes"
    return Pair(what, 1.1, partial(_cpu_ms, ours), partial(_cpu_ms, theirs), _detail)


def _detail(ours_ms: Sequence[float], theirs_ms: Sequence[float]) -> str:
    return f"{median(ours_ms):.0f} ms against {median(theirs_ms):.0f} ms of CPU, the interpreter included"


def _run(command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=dict(env))


def _cpu_ms(start: _Start) -> float:
    before = getrusage(RUSAGE_CHILDREN)
    _run(start.command, start.env)
    after = getrusage(RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _compiled(package: Path, python_310: str, place: Path) -> Path:
    """Copy the package, and compile all of it: ``requests`` needs modules whose bytecode the function does without."""
    folder = place / "compiled"
    shutil.copytree(package, folder)
    modules = "".join(f"{path.relative_to(folder)}\n" for path in folder.rglob("*.py"))
    compiler = [python_310, "-S", "-s", "-B", str(ROOT / "tools" / "bytecode.py"), str(folder)]
    subprocess.run(compiler, check=True, input=modules, text=True)
    return folder


@contextmanager
def _files() -> Iterator[tuple[Path, Path]]:
    """Write the event to a file, and the body of the forwarder's request for it to another."""
    with tempfile.TemporaryDirectory() as folder:
        event_file, body_file = Path(folder) / "event.json", Path(folder) / "body.json"
        event_file.write_text(json.dumps(event(30, 1)), encoding="utf-8")
        body_file.write_bytes(_body_of(str(event_file)))
        yield event_file, body_file


def _body_of(event_file: str) -> bytes:
    bodies: list[bytes] = []

    class Keeping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"code":0,"message":"OK"}')

        def log_message(self, *_arguments: object) -> None:
            """Do not log."""

    with HTTPServer(("127.0.0.1", 0), Keeping) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v2/index.php"
        _run([sys.executable, "-c", _OURS, event_file], environment(environ(url)))
    return bodies[0]
