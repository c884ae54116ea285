"""Prints results on a terminal. Only this module uses ``rich``."""

import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from metric_forwarder.cli.local_function import Invocation
from metric_forwarder.model import Outcome

# The width if the output is not a terminal.
_WIDTH = 110
_SHOWN_VALUES = 8
_SHOWN_POINTS = 20
# With fewer columns, errors are a list instead of a table.
_NARROW = 60
# With fewer columns, points are not in a table, since their names would be broken.
_WIDE = 100
_ERROR_MEMBERS = ("source", "pointer", "rule", "message")

_OUTCOMES: Mapping[Outcome, tuple[str, str]] = {
    Outcome.DELIVERED: ("green", "the destination answered success"),
    Outcome.DUPLICATE: ("cyan", "already delivered, or repeated within this event"),
    Outcome.FILTERED: ("dim", "left out on purpose, by its format or by a rule of yours"),
    Outcome.INVALID: ("red", "breaks the schema, or its message cannot be read"),
    Outcome.STALE: ("red", "too old for a destination that stamps points on arrival"),
    Outcome.REJECTED: ("red", "the destination refused this point for good"),
    Outcome.SPOOLED: ("yellow", "could not be delivered now, saved for replay"),
    Outcome.UNCERTAIN: ("magenta", "sent, but no reply came"),
    Outcome.UNDELIVERED: ("yellow", "not delivered: the platform must redeliver the event"),
}
_STATUS_STYLES: Mapping[str, str] = {"ok": "bold green", "empty": "bold cyan", "partial": "bold yellow"}


def is_terminal() -> bool:
    return sys.stdout.isatty()


def terminal() -> Console:
    """Standard output as it is now, in colours on a terminal."""
    width = None if is_terminal() else _WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def nowhere() -> Console:
    """A console that drops its output."""
    return Console(file=io.StringIO(), width=_WIDTH)


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; yield the function that sets how many of the total are done."""
    # Bound to the present terminal, since standard output is redirected while the function runs.
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    with Progress(console=console, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error, if it is a terminal, what is running and for how long; remove the line at the end."""
    # A log line that is written meanwhile is not wrapped here, so that it can be copied as JSON.
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as shown:
        shown.add_task(what, total=None)
        yield


def print_json(value: Any, *, on_one_line: bool = False) -> None:
    indent = None if on_one_line else 2
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        # The text has a character that the terminal's encoding lacks, or half a surrogate pair from a producer.
        text = json.dumps(value, indent=indent)
    click.echo(text)


def safe(text: object) -> Text:
    """Text from outside, with control characters made visible."""
    shown = str(text).encode("utf-8", "backslashreplace").decode()
    return Text("".join(c if c.isprintable() else repr(c)[1:-1] for c in shown), overflow="fold")


def print_invocation(console: Console, invocation: Invocation, title: str = "") -> None:
    """Print a report: its status, a table of its outcomes, a table of its errors."""
    report = invocation.report
    _print_heading(console, invocation, title)
    if "checks" in report:
        for check in report["checks"]:
            print_check(check["name"], check["detail"], is_ok=check["ok"])
        return
    if "outcomes" not in report:
        console.print(safe(f"  {report.get('message', '')}"))
        return
    if report["received"]:
        console.print(_outcome_table(report["outcomes"]))
    console.print(Text(f"  {_requests(report)}", style="dim"))
    if report["errors"]:
        print_errors(console, _merged(report["errors"]))
    if report["filtered"]:
        _print_filtered(console, report["filtered"])
    if report["errorsOmitted"]:
        console.print(Text(f"  … and {report['errorsOmitted']} more errors", style="red"))


def _print_heading(console: Console, invocation: Invocation, title: str) -> None:
    report = invocation.report
    status = str(report.get("status", ""))
    heading = Text()
    if title:
        heading.append_text(safe(title)).append("  ")
    heading.append(status, style=_STATUS_STYLES.get(status, "bold red"))
    if "received" in report:
        points = "point" if report["received"] == 1 else "points"
        heading.append(f"  {report['received']} {points} received by the trigger {report['trigger']}")
    if invocation.http_status is not None:
        heading.append(f"  answered with HTTP {invocation.http_status}")
    if invocation.raised:
        heading.append("  raised: the platform would redeliver the event", style="yellow")
    console.print(heading)


def _outcome_table(outcomes: Mapping[str, int]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    for outcome, (style, meaning) in _OUTCOMES.items():
        if outcomes[outcome.value]:
            table.add_row(Text(str(outcomes[outcome.value]), style), Text(outcome.value, style), meaning)
    return table


def _requests(report: Mapping[str, Any]) -> str:
    requests = report["requests"]
    count = requests["sent"]
    answers = ", ".join(
        f"{'code ' if label.isdecimal() else ''}{label} × {times}"  # noqa: RUF001 - a sign for people
        for label, times in requests["returnCodes"].items()
    )
    text = f"{count} request{'s' if count != 1 else ''}"
    text += f" ({requests['retried']} repeated)" if requests["retried"] else ""
    text += f": {answers}" if answers else ""
    return f"{text}; dedupe {report['dedupe']}, {report['durationMs']} ms"


def _merged(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Merge errors with the same text into one, with the place of the first and their number."""
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        alike.setdefault((error["outcome"], error["rule"], error["message"]), []).append(error)
    return [
        {
            **first,
            "source": f"{first['source']} and {len(others)} more" if others else first["source"],
            "message": f"{len(others) + 1} times: {first['message']}" if others else first["message"],
        }
        for first, *others in alike.values()
    ]


def print_check(name: str, detail: str, *, is_ok: bool) -> None:
    """Print a line of ``doctor``: ok, or what to do."""
    verdict = click.style("ok    ", fg="green") if is_ok else click.style("to do ", fg="red")
    click.echo(f"{verdict} {name:<12} {detail}")


def print_errors(console: Console, errors: Sequence[Mapping[str, Any]]) -> None:
    """Print each error of a report, or of a check."""
    rows = [
        [Text(error["outcome"], "red"), *(safe(error[member]) for member in _ERROR_MEMBERS)]
        for error in errors
    ]
    console.print(_error_table(rows) if console.width >= _NARROW else _error_list(rows))


def _print_filtered(console: Console, reasons: Sequence[Mapping[str, Any]]) -> None:
    """Print why points were filtered, one line for each reason."""
    for reason in reasons:
        line = Text(f"  filtered {reason['count']}: ", style="dim")
        line.append_text(safe(reason["message"])).append(" (").append_text(safe(reason["rule"]))
        console.print(line.append("; the first: ").append_text(safe(reason["source"])).append(")"))


def _error_table(rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(header_style="bold")
    for heading in ("outcome", *_ERROR_MEMBERS):
        table.add_column(heading, overflow="fold", no_wrap=heading == "outcome")
    for row in rows:
        table.add_row(*row)
    return table


def _error_list(rows: Sequence[Sequence[Text]]) -> Padding:
    """For narrow terminals, where a table would break every word."""
    lines = []
    for outcome, source, pointer, rule, message in rows:
        place = Text(" ").join(part for part in (source, pointer) if part)
        lines.append(Text.assemble(outcome, "  ", place, f" ({rule})\n", message))
    return Padding(Text("\n").join(lines), (0, 0, 0, 2))


def print_series(console: Console, points: Sequence[Mapping[str, Any]]) -> None:
    """Print the points that a receiver holds, one row for each series."""
    series: dict[tuple[str, str, str], list[Any]] = {}
    for point in points:
        dimensions = ", ".join(f"{name}={value}" for name, value in sorted(point["dimensions"].items()))
        series.setdefault((point["namespace"], point["metricName"], dimensions), []).append(point["value"])
    table = Table(header_style="bold")
    for heading in ("namespace", "metric", "dimensions", "values"):
        table.add_column(heading, overflow="fold")
    for (namespace, metric, dimensions), values in sorted(series.items()):
        table.add_row(safe(namespace), safe(metric), safe(dimensions), safe(_shown(values)))
    console.print(table)


def print_samples(console: Console, samples: Mapping[tuple[Any, ...], Sequence[tuple[int, str]]]) -> None:
    """Print the samples that a Prometheus holds, one row for each series: sorted labels → (Unix milliseconds, value)."""
    table = Table(header_style="bold")
    for heading in ("series", "values"):
        table.add_column(heading, overflow="fold")
    rows = []
    for labels, held in samples.items():
        names = ", ".join(f'{name}="{value}"' for name, value in labels if name != "__name__")
        rows.append((f"{dict(labels)['__name__']}{{{names}}}", _shown([value for _, value in held])))
    for series, values in sorted(rows):
        table.add_row(safe(series), safe(values))
    console.print(table)


def _shown(values: Sequence[Any]) -> str:
    omitted = len(values) - _SHOWN_VALUES
    newest = ", ".join(str(value) for value in values[-_SHOWN_VALUES:])
    return f"({omitted} more) … {newest}" if omitted > 0 else newest


def print_finding(console: Console, finding: Mapping[str, Any]) -> None:
    """Print the result of checking one file: its format, its points, what is filtered and what is wrong."""
    errors = finding["errors"]
    heading = safe(finding["file"]).append("  ")
    heading.append("not valid" if errors else "ok", style="bold red" if errors else "bold green")
    held = f"{finding['valid']} of {finding['received']} points valid"
    if finding["filtered"]:
        held += f", {len(finding['filtered'])} filtered"
    if finding["job"]:
        held = f"the job {finding['job']}, without points to check"
    heading.append(f"  {held}, read as {finding['trigger']}")
    console.print(heading)
    _print_formats(console, finding["messages"])
    if finding["points"]:
        _print_points(console, finding["points"])
    if finding["filtered"]:
        _print_filtered(console, _counted(finding["filtered"]))
    if errors:
        print_errors(console, errors)


def _print_formats(console: Console, messages: Sequence[Mapping[str, Any]]) -> None:
    """Print how many messages are in each format, and why; a message without a format is an error."""
    alike = Counter((each["format"], each["reason"]) for each in messages if each["format"])
    for (name, reason), count in alike.items():
        text = f"  {count} message{'' if count == 1 else 's'} in the format {name}: {reason}"
        console.print(Text(text, style="dim"))


def _print_points(console: Console, points: Sequence[Mapping[str, Any]]) -> None:
    """Print the points that would be sent, and each point before rules and labels changed it."""
    rows = [_point_row(point) for point in points[:_SHOWN_POINTS]]
    if console.width >= _WIDE:
        table = Table(header_style="bold")
        for heading in ("place", "point", "value", "time"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for place, series, value, time in rows:
            at = Text(" @ ").append_text(time) if time else time
            console.print(Text.assemble(" ", place, ": " if place else "", series, " ", value, at))
    omitted = len(points) - _SHOWN_POINTS
    if omitted > 0:
        console.print(
            Text(f"  … and {omitted} more point{'s' if omitted != 1 else ''}: --json shows all", style="dim")
        )


def _point_row(point: Mapping[str, Any]) -> list[Text]:
    place = _place(point["source"], point["pointer"])
    series = safe(_series(point))
    if point["before"]:
        series.append(", was ", "dim").append_text(safe(_series(point["before"])))
    return [safe(place), series, safe(point["value"]), safe(_short_time(point["timestamp"]))]


def _place(source: str, pointer: str) -> str:
    """The place of a point; a payload outside of an event has only one source, which is left out."""
    return " ".join(part for part in (source if source != "payload" else "", pointer) if part)


def _series(point: Mapping[str, Any]) -> str:
    labels = ",".join(
        f"{name}={json.dumps(str(value), ensure_ascii=False)}" for name, value in point["dimensions"].items()
    )
    return f"{point['namespace']} {point['metricName']}{{{labels}}}".lstrip()


def _short_time(timestamp: str | None) -> str:
    """A time of RFC 3339 without the zeros at its end."""
    moment, plus, _ = (timestamp or "").partition("+")
    return f"{moment.rstrip('0').rstrip('.')}Z" if plus and "." in moment else timestamp or ""


def _counted(filtered: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Filtered points in the form of a report: each reason once, with the first point."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in filtered:
        alike.setdefault((each["rule"], each["message"]), []).append(each)
    counted: list[Mapping[str, Any]] = []
    for first, *others in alike.values():
        place = _place(first["source"], first["pointer"])
        if first["before"]:
            place += f", {_series(first['before'])}"
        counted.append({**first, "source": place, "count": len(others) + 1})
    return counted
