"""Instructions a point in each shape, counted by Valgrind's callgrind, so that a busy machine counts the same.

``python -m benchmarks.instructions [SHAPE …]`` prints them beside those of the floors. A subject runs under callgrind, which
counts all its threads while it handles an event.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.callgrind import COUNTED, can_count
from benchmarks.processes import Subject, receiver
from benchmarks.rows import Row
from benchmarks.shapes import BOUNDS
from benchmarks.workload import MESSAGE_SHAPES

POINTS = 2000
# A bound is wide enough for fewer points, among which what an event costs counts more.
_POINTS_OF_A_ROW = 1000
PLACES = ("batches of 30", "batches of 500", "remote write")
Arguments = dict[str, Any]

_total = re.compile(r"^totals: (\d+)$", re.MULTILINE).search


class CountedSubject(Subject):
    """A subject under callgrind."""

    def __init__(self, program: str, dumps: Path, **arguments: Any) -> None:
        self._dumps = dumps
        super().__init__(program, **arguments)

    def _start(self, command: Sequence[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        out = f"--callgrind-out-file={self._dumps}/out"
        callgrind = ("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", out)
        return super()._start([*callgrind, *command], {**environ, "PYTHONHASHSEED": "0", COUNTED: "1"})

    def instructions(self, points: int, shape: str) -> float:
        """Count the instructions a point of a second event, when the subject knows its series from a first one."""
        self.run(points, shape)
        self.run(points, shape)
        dumps = {int(path.suffix[1:]): path for path in self._dumps.glob("out.*")}
        found = _total(dumps[max(dumps)].read_text())
        assert found is not None
        return int(found[1]) / points


@contextmanager
def counted_subjects(
    places: Sequence[str] = PLACES,
) -> Iterator[dict[str, tuple[CountedSubject, CountedSubject]]]:
    """Start the forwarder and the floor under callgrind, a pair for each place to send to."""
    with ExitStack() as stack:
        url = stack.enter_context(receiver())
        write = url.replace("/v2/index.php", "/api/v1/write")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        # One lane: whether more lanes start depends on how busy the processor is.
        ours = {"url": url, "CONCURRENCY": "1"}
        pairs: dict[str, tuple[Arguments, Arguments]] = {
            "batches of 30": (
                {"program": "forwarder", **ours, "BATCH_MAX_POINTS": "30"},
                {"program": "floor", "url": url, "batch": 30},
            ),
            "batches of 500": (
                {"program": "forwarder", **ours, "BATCH_MAX_POINTS": "500"},
                {"program": "floor", "url": url, "batch": 500},
            ),
            "remote write": (
                {"program": "forwarder", **ours, "DESTINATION": "remote-write", "REMOTE_WRITE_URL": write},
                {"program": "remote_write_floor", "url": write, "batch": 500},
            ),
        }

        def subject(arguments: Arguments) -> CountedSubject:
            dumps = Path(tempfile.mkdtemp(dir=folder))
            return stack.enter_context(CountedSubject(dumps=dumps, **arguments))

        yield {place: (subject(pairs[place][0]), subject(pairs[place][1])) for place in places}


def count_both(pair: tuple[CountedSubject, CountedSubject], points: int, shape: str) -> tuple[float, float]:
    """Count the instructions a point of both at once: how busy the processors are does not matter."""
    with ThreadPoolExecutor() as pool:
        ours, floor = pool.map(CountedSubject.instructions, pair, repeat(points), repeat(shape))
    return ours, floor


def rows() -> list[Row]:
    """Compare each shape in batches of 500 with the bound of its CPU time; no rows on a machine that cannot count."""
    if not can_count():
        return []
    found = []
    place = "batches of 500"
    with counted_subjects([place]) as subjects:
        for shape, (_, bound, _) in BOUNDS.items():
            if bound is not None:
                mine, least = count_both(subjects[place], _POINTS_OF_A_ROW, shape)
                what = f"instructions a point, {shape}, {place}"
                found.append(Row(what, bound, mine / least, "×", 1, f"{mine:,.0f} against {least:,.0f}"))
    return found


def main(shapes: Sequence[str]) -> None:
    with counted_subjects() as subjects:
        for shape in shapes:
            for where, pair in subjects.items():
                mine, least = count_both(pair, POINTS, shape)
                print(f"{shape}, {where}: {mine:,.0f} / {least:,.0f} = {mine / least:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or MESSAGE_SHAPES)
