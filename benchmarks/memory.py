"""The peak of a whole process that handles the largest event CKafka sends: 10,000 messages, 6 MB."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.processes import environment, receiver
from benchmarks.rows import Row
from benchmarks.workload import CONTEXT, environ, event

RUNS = 3
_CODE = f"""
import json, resource, sys
import index
with open(sys.argv[1]) as file:
    event = json.load(file)
report = index.main_handler(event, {CONTEXT!r})
assert report["outcomes"]["delivered"] == 10_000, report["outcomes"]
peak = None
try:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS
print(peak, file=sys.stderr)
"""


def rows() -> list[Row]:
    with receiver() as url, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "event.json"
        file.write_text(json.dumps(event(10_000, 1, "wide")), encoding="utf-8")
        peaks = [_peak_mb(file, url) for _ in range(RUNS)]
        size = file.stat().st_size / 2**20
    detail = f"an event of {size:.1f} MB, read from a file by the process itself"
    return [Row("peak memory, 10,000 messages", 80, median(peaks), "MB", RUNS, detail)]


def _peak_mb(file: Path, url: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(environ(url)),
    )
    return int(done.stderr) / 1024
