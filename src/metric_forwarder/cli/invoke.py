"""``invoke`` and ``send``: run the function's own handler, which sends to the destination of the settings."""

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

from metric_forwarder.cli.inputs import STDIN, Unusable, as_text, parse_json, read_bytes
from metric_forwarder.cli.local_function import (
    Handler,
    Invocation,
    invoke_handler,
    load_handler,
    make_context,
    report_stream,
)
from metric_forwarder.cli.options import (
    Number,
    env_file_option,
    example,
    format_option,
    json_option,
    log_level_option,
    quiet_option,
)
from metric_forwarder.cli.page_reports import show_on_page
from metric_forwarder.cli.sample_events import TEMPLATES
from metric_forwarder.cli.sample_formats import as_request, write_points
from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.formats import Format
from metric_forwarder.settings.settings import Settings

DEFAULT_TIME_LIMIT_S = 60.0
_LINE_HEAD = 40
_RESULTS = ('"event":"report"', '"level":"ERROR","event":"refused"')

time_limit_option = click.option(
    "--time-limit",
    "time_limit_s",
    type=Number(min=1, max=900),
    default=DEFAULT_TIME_LIMIT_S,
    show_default="60",
    metavar="SECONDS",
    help="The function's time limit: 1 to 900 seconds.",
)


@click.command(
    epilog=example("metric-forwarder events ckafka > event.json", "metric-forwarder invoke event.json")
)
@click.argument("event_file", metavar="EVENT")
@time_limit_option
@json_option
@quiet_option
@log_level_option
@env_file_option
@click.pass_context
def invoke(ctx: click.Context, *, event_file: str, time_limit_s: float, as_json: bool, quiet: bool) -> None:
    """Run the function on a trigger event and print the report.

    It runs as on the platform, and sends to the destination of the settings. EVENT is a JSON file, or - for standard input. A
    file of JSON Lines holds one event in each line: one instance handles them in turn, and each report is a line. The
    function's log goes to standard error; on a terminal the report is shown as a table.
    """
    events = read_events(event_file)
    try:
        _run(ctx, events, time_limit_s, as_json=as_json, quiet=quiet)
    except UnknownTrigger as error:
        raise Unusable(f"{error}. {_if_a_payload(event_file)}") from None


# Events, each after its place in a file, which is empty for a single event.
Events = Sequence[tuple[str, Any]]


def read_events(file: str) -> Events:
    """Read a file of JSON, or of JSON Lines; raises ``Unusable``."""
    text = as_text(
        read_bytes(file),
        file,
        "save it with that encoding. If it is a payload in a binary format, check shows its points: "
        f"MF_FORMAT=otlp-protobuf metric-forwarder check {shlex.quote(file)}",
    )
    try:
        return [("", parse_json(text, file, f"correct it. {_if_a_payload(file)}"))]
    except Unusable:
        # Not ``splitlines``, which also ends a line at U+2028 and others that a JSON string may hold.
        numbered = enumerate(io.StringIO(text, newline=None), 1)
        lines = [(number, line) for number, line in numbered if line.strip()]
        if len(lines) < 2 or not _is_json(lines[0][1]):  # noqa: PLR2004 - one line is not JSON Lines
            raise
    return [(f"line {number}", _parse_line(line, number, file)) for number, line in lines]


def _if_a_payload(file: str) -> str:
    """The commands for a file that is not a trigger event but the text of a message in one."""
    name = shlex.quote(file)
    return (
        f"If it is a payload, metric-forwarder check {name} shows its points, and "
        f"metric-forwarder events ckafka --points {name} prints a trigger event with it"
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_line(line: str, number: int, file: str) -> Any:
    if not _is_json(line):
        raise Unusable(
            f"{'standard input' if file == STDIN else file} is not JSON Lines: line {number} is not JSON by itself"
        )
    return json.loads(line)


def _parse_value(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int | float:
    try:
        return int(text) if text.removeprefix("-").isdecimal() else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number.") from None


def _parse_timestamp(
    _ctx: click.Context, _parameter: click.Parameter, text: str | None
) -> int | float | str | None:
    if text is None:
        return None
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        # Text in RFC 3339, which the schema checks.
        return text


def _parse_dimensions(
    _ctx: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    dimensions: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE.")
        if name in dimensions:
            raise click.BadParameter(f"{name!r} is given twice.")
        dimensions[name] = value
    return dimensions


@click.command(
    epilog=example(
        "metric-forwarder send --namespace pc --metric diskusage --value 0.3 --dimension diskname=sda",
        "MF_NAMESPACE=pc metric-forwarder send --format influx --metric diskusage --value 0.3",
    )
)
@click.option("--namespace", metavar="NAME", help="The namespace; without it, MF_NAMESPACE.")
@click.option("--metric", "metricName", required=True, metavar="NAME", help="The metric's name.")
@click.option(
    "--value", required=True, callback=_parse_value, metavar="NUMBER", help="The value, a finite number."
)
@click.option(
    "--dimension",
    "dimensions",
    multiple=True,
    callback=_parse_dimensions,
    metavar="NAME=VALUE",
    help="A dimension; may be given several times.",
)
@click.option(
    "--timestamp",
    callback=_parse_timestamp,
    metavar="TIME",
    help="The point's own time: Unix seconds, milliseconds, or RFC 3339.",
)
@click.option(
    "--id",
    metavar="KEY",
    help="An idempotency key: another point with the same key is a duplicate.",
)
@format_option
@time_limit_option
@json_option
@quiet_option
@log_level_option
@env_file_option
@click.pass_context
def send(
    ctx: click.Context,
    /,
    *,
    written_format: Format,
    time_limit_s: float,
    as_json: bool,
    quiet: bool,
    **members: Any,
) -> None:
    """Send one point and print its outcome.

    It runs the function's handler, which sends to the destination of the settings. With --format, the point has no namespace
    and no id, unless the format is json. A binary format (otlp-protobuf, remote-write, prometheus-protobuf) is sent as the
    HTTP request of a client, with the token of MF_HTTP_TOKEN.
    """
    point = {name: member for name, member in members.items() if member is not None}
    if written_format is Format.JSON:
        # As text, so that a value that is not JSON (inf, nan) is reported as for any producer.
        event: Any = json.dumps(point)
    else:
        event = _in_format(written_format, point)
    _run(ctx, [("", event)], time_limit_s, as_json=as_json, quiet=quiet)


def _in_format(form: Format, point: dict[str, Any]) -> Any:
    """The text of a point in a format; for a binary format, the request of a client."""
    for name in ("namespace", "id"):
        if name in point:
            remedy = "set MF_NAMESPACE" if name == "namespace" else "leave it out"
            raise click.UsageError(f"The format {form.value} has no {name}: {remedy} instead of --{name}.")
    now = datetime.now(timezone.utc)
    body = write_points(form, [point], now)
    if isinstance(body, str):
        return body
    token = os.environ.get("MF_HTTP_TOKEN", "")
    if not token and os.environ.get("MF_HTTP_AUTH") != "cam":
        raise Unusable(
            f"the format {form.value} is sent as an HTTP request: set MF_HTTP_TOKEN, or MF_HTTP_AUTH=cam"
        )
    request = as_request(form, TEMPLATES["http"].wrap([""], now), body)
    return (
        {**request, "headers": {**request["headers"], "authorization": f"Bearer {token}"}}
        if token
        else request
    )


class _WithoutResult(io.StringIO):
    """Standard error without the log's result, for a terminal that shows it anyway: the report, or the error that it raised."""

    def write(self, text: str, /) -> int:
        # The log writes a line at a time, its level and its event first.
        is_result = any(line in text[:_LINE_HEAD] for line in _RESULTS)
        return len(text) if is_result else sys.stderr.write(text)


def _run(ctx: click.Context, events: Events, time_limit_s: float, *, as_json: bool, quiet: bool) -> None:
    handler = load_handler()
    status = 0
    for place, event in events:
        what = f"{place} of {events[-1][0]}" if place else "the function is running"
        try:
            invocation = _invoke(handler, event, time_limit_s, what, quiet=quiet)
        except UnknownTrigger as error:
            if not place:
                raise
            click.echo(f"{place}: {error}", err=True)
            status = Unusable.exit_code
            continue
        show_on_page(invocation.report)
        if not quiet:
            _print(invocation, place, as_json=as_json)
        status = max(status, 0 if invocation.is_complete else 1)
    ctx.exit(status)


def _invoke(handler: Handler, event: Any, time_limit_s: float, what: str, *, quiet: bool) -> Invocation:
    from metric_forwarder.cli import display

    log: io.StringIO | None = io.StringIO() if quiet else _WithoutResult() if sys.stderr.isatty() else None
    # If points are printed on the terminal, they show the progress.
    prints = Settings.collect(os.environ, to_send=False)[0].kind.prints
    with contextlib.nullcontext() if quiet or prints else display.waiting(what):
        return invoke_handler(handler, event, make_context(os.environ, time_limit_s), log)


def _print(invocation: Invocation, place: str, *, as_json: bool) -> None:
    from metric_forwarder.cli import display

    with report_stream():
        if display.is_terminal() and not as_json:
            display.print_invocation(display.terminal(), invocation, place)
        else:
            display.print_json(invocation.report, on_one_line=bool(place))
