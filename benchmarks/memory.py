"""Memory of a whole process that handles events as large as CKafka sends them: 10,000 messages, 6 MB."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import environment, receiver
from benchmarks.rows import Row
from benchmarks.workload import CONTEXT, environ, event

RUNS = 3
_MESSAGES = 10_000
# Nothing listens on this port, so each connection is refused at once.
_DOWN = "http://127.0.0.1:1/v2/index.php"
_CODE = f"""
import json, sys
import index
with open(sys.argv[1]) as file:
    event = json.load(file)
report = index.main_handler(event, {CONTEXT!r})
assert report["outcomes"][sys.argv[2]] == report["received"] > 0, report["outcomes"]
del event, report
with open("/proc/self/status") as status:
    print({{line.split()[0]: int(line.split()[1]) for line in status if line.startswith(("VmHWM", "VmRSS"))}}, file=sys.stderr)
"""


def rows() -> list[Row]:
    with receiver() as url, tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        wide = _file(where / "wide.json", event(_MESSAGES, 1, "wide"))
        eights = _file(where / "eights.json", event(8 * _MESSAGES, 1, "short points, eight a message"))
        one = _file(where / "one.json", event(1, 1))
        spool = environ(_DOWN, SPOOL=f"file:{where / 'spool'}")
        return [
            _row("peak memory, 10,000 messages", 80, "VmHWM", wide, "delivered", environ(url)),
            _row(
                "peak memory, 10,000 messages of eight points",
                110,
                "VmHWM",
                eights,
                "delivered",
                environ(url),
            ),
            _row(
                "peak memory, the same into a spool, the receiver down",
                110,
                "VmHWM",
                eights,
                "spooled",
                spool,
            ),
            _row(
                "memory of a warm instance after an event of one point",
                45,
                "VmRSS",
                one,
                "delivered",
                environ(url),
            ),
        ]


def _file(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _row(what: str, bound: float, measure: str, file: Path, outcome: str, settings: Mapping[str, str]) -> Row:
    # All at once: how busy the processors are does not matter.
    with ThreadPoolExecutor(RUNS) as pool:
        found = list(pool.map(lambda _: _mb(measure, file, outcome, settings), range(RUNS)))
    detail = f"an event of {file.stat().st_size / 2**20:.1f} MB, read from a file by the process itself"
    return Row(what, bound, median(found), "MB", RUNS, detail)


def _mb(measure: str, file: Path, outcome: str, settings: Mapping[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(file), outcome],
        capture_output=True,
        text=True,
        check=True,
        env=environment(settings),
    )
    kilobytes: dict[str, int] = json.loads(done.stderr.replace("'", '"'))
    return kilobytes[f"{measure}:"] / 1024


if __name__ == "__main__":
    from benchmarks.page import table

    print(table(rows()))
