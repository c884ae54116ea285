"""A disk that takes so many bytes of a file and no more, run as a program: the limit is that of a process.

What is written first and last meets no limit. For every number of bytes, from none to all, it tells what was left.
"""

import contextlib
import json
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metric_forwarder.spool.files import FileSpool
from metric_forwarder.spool.store import Chunk, SpoolError, SpoolRecord

BEFORE, CUT, AFTER = tuple(range(8)), (20, 21, 119), (12,)
ROWS = 120


@contextlib.contextmanager
def only(most_bytes: int) -> Iterator[None]:
    """Let files grow to so many bytes; writing more is cut off there, and then fails."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def record(row: int) -> SpoolRecord:
    return SpoolRecord({"row": row}, "s", None, None, "undelivered", "")


def rows_left(folder: Path) -> list[int]:
    return [
        message.body["row"]
        for chunk in FileSpool(folder).replay(dead_letters=True)
        for message in chunk.messages
    ]


def acknowledge_rows(chunk: Chunk, rows: Sequence[int]) -> None:
    """Acknowledge records by the row that each of them names."""
    receipts = {message.body["row"]: message.receipt for message in chunk.messages}
    chunk.acknowledge([receipt for row in rows if (receipt := receipts.get(row)) is not None])


def write(folder: Path, most_bytes: int) -> dict[str, Any]:
    """Write two files, cut off at so many bytes."""
    kept = True
    with only(most_bytes):
        try:
            FileSpool(folder).write([record(0)], [record(1), record(2)])
        except SpoolError:
            kept = False
    drafts = [path.name for path in folder.glob("*.draft")]
    return {"kept": kept, "left": rows_left(folder), "drafts": drafts}


def acknowledge(folder: Path, most_bytes: int) -> dict[str, Any]:
    """Acknowledge rows, some more that are cut off, and others: in the same replay, or in the next."""
    spool = FileSpool(folder)
    spool.write([record(row) for row in range(ROWS)], [])
    chunks = spool.replay(dead_letters=False)
    chunk = next(chunks)
    acknowledge_rows(chunk, BEFORE)
    written = True
    with only(2 * len(BEFORE) + most_bytes):
        try:
            acknowledge_rows(chunk, CUT)
        except SpoolError:
            written = False
    if folder.name.endswith("next"):
        chunks.close()
        chunk = next(FileSpool(folder).replay(dead_letters=False))
    acknowledge_rows(chunk, AFTER)
    chunks.close()
    del chunk
    return {"written": written, "left": rows_left(folder), "waiting": spool.waiting(dead_letters=False)}


def finish(folder: Path, most_bytes: int) -> dict[str, Any]:
    """Acknowledge all rows, some of which are cut off, and close."""
    spool = FileSpool(folder)
    spool.write([record(row) for row in range(ROWS)], [])
    for chunk in spool.replay(dead_letters=False):
        with only(most_bytes), contextlib.suppress(SpoolError):
            chunk.acknowledge(range(ROWS))
        chunk.close()
    return {"left": rows_left(folder), "files": [path.name for path in folder.glob("points-*")]}


SCENES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "write": write,
    "acknowledge": acknowledge,
    "finish": finish,
}


def main() -> None:
    name, folder, most = sys.argv[1:]
    scene = SCENES[name.partition("-")[0]]
    sys.stdout.write(json.dumps([scene(Path(folder) / f"{size}-{name}", size) for size in range(int(most))]))


if __name__ == "__main__":
    main()
