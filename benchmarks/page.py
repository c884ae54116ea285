"""The table, for the terminal and for docs/benchmarks.md in both languages."""

import os
import platform
from collections.abc import Sequence
from datetime import date

from benchmarks.rows import Row

_HEAD = """# What it costs

[中文](zh/benchmarks.md)

Written by `make bench` on {date}; do not edit. {machine}.

The programs that a row compares took turns within one run. The ratios mean more than the absolute figures, which are those of
this machine. A ratio is the median of the turns' ratios, so it can differ from the quotient of the medians beside it. What is not
clearly below its bound is measured again later, in twice as many turns. New series have processes of their own: after a flood
of them a point of any shape takes a tenth to a fifth longer, since the memory of a process is then in pieces.

- The **floor** does only the work that every program needs that delivers by `requests`: for each message `json.loads`; for each
  batch `json.dumps`, one HMAC, one plain `Session.post` and the parsing of the reply. It does not validate, recognise
  duplicates, count, limit time or retry.
- **Powertools** is a pipeline of AWS Powertools' batch processor, idempotency in memory and validation, which posts batches of
  30 by `requests`.
- The **document's sample** posts each point alone, over a new connection.
- A **plain decoder** of a format reads only well-formed messages: it has no bounds, and names no place.

Unless a row says otherwise, the points are those of 1,000 series, one in each CKafka message. The receiver is another process on
the same machine, and its work is not counted. CPU time is that of all threads.

"""
_PLOT = """
## Cost of a point by the size of the event, and by its shape

![microseconds of CPU a point against points in the event, and CPU by shape against the floor](benchmarks.svg)
"""

_HEAD_IN_CHINESE = """# 性能与开销

[English](../benchmarks.md)

由 `make bench` 于 {date} 写出，请勿编辑。{machine}。

每一行所比较的程序在同一次运行中轮流测量。比值比绝对数字更有意义，后者只属于这台机器。比值是各轮比值的中位数，所以不一定等于旁边两个中位数的商。没有明显低于上限的，稍后会再测两倍的轮数。新序列有自己的进程：大量新序列涌入之后，进程的内存是零碎的，任何形状的数据点都要多用十分之一到五分之一的时间。表中各行的名称和说明是英文。

- **最低开销**（floor）只做任何通过 `requests` 上报的程序都绕不开的工作：对每条消息 `json.loads`；对每一批 `json.dumps`、一次 HMAC、一次普通的 `Session.post`，并解析应答。它不校验、不识别重复、不计数、不限制时间、不重试。
- **Powertools** 是由 AWS Powertools 的批处理器、内存中的幂等和校验组成的流水线，通过 `requests` 每批发送 30 个。
- **文档的示例**（document's sample）用新的连接逐个发送数据点。
- 某种格式的**普通解码器**（plain decoder）只读取格式正确的消息：不设上限，也不指明位置。

除非某一行另有说明，数据点属于 1,000 个序列，每条 CKafka 消息一个。接收端是同一台机器上的另一个进程，不计入开销。CPU 时间是所有线程之和。

"""
_PLOT_IN_CHINESE = """
## 每个数据点的开销，按事件大小和数据点形状

![每个数据点的 CPU 微秒数与事件中数据点数的关系，以及各种形状与最低开销的对照](../benchmarks.svg)
"""
_COLUMNS = "| what | bound | measured | verdict | runs | behind it |"
_COLUMNS_IN_CHINESE = "| 内容 | 上限 | 测得 | 结论 | 次数 | 说明 |"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, which is readable in a terminal too."""
    lines = [_COLUMNS, "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | ≤ {_figure(row.bound)} {row.unit} | {_figure(row.value)} {row.unit} "
        f"| {'holds' if row.holds else '**over**'} | {row.runs} | {row.detail} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row], today: date) -> str:
    return _HEAD.format(date=today, machine=_machine()) + table(rows) + _PLOT


def page_in_chinese(rows: Sequence[Row], today: date) -> str:
    return (
        _HEAD_IN_CHINESE.format(date=today, machine=_machine())
        + table(rows).replace(_COLUMNS, _COLUMNS_IN_CHINESE)
        + _PLOT_IN_CHINESE
    )


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.machine()}, {os.cpu_count()} cores"


def _figure(value: float) -> str:
    return f"{value:.3f}" if 0 < value < 0.2 else f"{value:.2f}".rstrip("0").rstrip(".")
