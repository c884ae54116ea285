"""The table, for the terminal and for docs/benchmarks.md."""

import os
import platform
from collections.abc import Sequence

from benchmarks.rows import Row

_HEAD = """# What it costs

Written by `make bench`; do not edit. {machine}. All parties of a row took turns in one session: the ratios mean more
than the absolute figures, which are those of this machine. A ratio is the median of the turns' ratios, so it need not be
the quotient of the medians that stand beside it.

The **floor** is what nobody who delivers through `requests` gets around: `json.loads` of each message, `json.dumps` of
each batch, one HMAC and one plain `Session.post` a batch, each reply parsed; nothing is validated, recognised, counted,
bounded in time or tried again. **Powertools** is a pipeline of AWS Powertools' batch processor, idempotency in memory and
validation, posting batches of 30 through `requests`. The **document's sample** posts each point by itself over a
connection of its own. Points are those of 1,000 series, one in each CKafka message; the receiver is a process of its own
on the same machine and costs the measured one nothing. CPU time is that of all threads. A **plain decoder** of a format reads
well-formed messages and nothing else: it bounds nothing, and names no place.

"""
_PLOT = """
## Cost of a point by the size of the event, and by its shape

![microseconds of CPU a point against points in the event, and CPU by shape against the floor](benchmarks.svg)
"""


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, which a terminal shows well enough."""
    lines = ["| what | bound | measured | verdict | runs | behind it |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | ≤ {_figure(row.bound)} {row.unit} | {_figure(row.value)} {row.unit} "
        f"| {'holds' if row.holds else '**over**'} | {row.runs} | {row.detail} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row]) -> str:
    machine = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}, "
        f"{os.cpu_count()} cores"
    )
    return _HEAD.format(machine=machine) + table(rows) + _PLOT


def _figure(value: float) -> str:
    return f"{value:.3f}" if 0 < value < 0.2 else f"{value:.2f}".rstrip("0").rstrip(".")
