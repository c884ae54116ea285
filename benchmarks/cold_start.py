"""A fresh interpreter delivers an event of 30 points, and another posts the same bytes through ``requests``."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

from benchmarks.processes import environment, receiver
from benchmarks.rows import Row, ratio
from benchmarks.workload import CONTEXT, environ, event

TURNS = 21
_FORBIDDEN = ("jsonschema", "tencentcloud", "redis", "importlib.metadata", "pydantic", "attr")
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
    "import sys, requests\nbefore = set(sys.modules)\n"
    + _OURS
    + "json.dump(sorted(set(sys.modules) - before), sys.stderr)\n"
)


def rows() -> list[Row]:
    with receiver() as url, _files() as (event_file, body_file):
        settings = environment(environ(url))
        modules = json.loads(_run(_MODULES, settings, str(event_file)).stderr)
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(TURNS + 1):
            one = _cpu_s(lambda: _run(_OURS, settings, str(event_file)))
            other = _cpu_s(lambda: _run(_THEIRS, settings, str(body_file), url))
            if turn:  # the first compiles
                ours.append(one)
                theirs.append(other)
    found = [name for name in modules if name.startswith(_FORBIDDEN)]
    return [
        Row(
            "cold start: `index` delivers 30 points, against `requests` posting the same bytes",
            1.3,
            ratio(ours, theirs),
            "×",
            TURNS,
            f"{median(ours) * 1000:.0f} ms against {median(theirs) * 1000:.0f} ms of CPU, the interpreter included",
        ),
        Row(
            "heavy modules loaded on that road, beside what `requests` loads",
            0,
            len(found),
            "",
            1,
            f"{', '.join(found) or 'none'}; {len(modules)} modules beside those of `requests`",
        ),
    ]


def _run(code: str, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=env
    )


def _cpu_s(run: Callable[[], object]) -> float:
    before = os.times()
    run()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@contextmanager
def _files() -> Iterator[tuple[Path, Path]]:
    """The event, and the body of the request that the forwarder makes of it."""
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
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Keeping) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v2/index.php"
        _run(_OURS, environment(environ(url)), event_file)
    return bodies[0]
