"""``invoke`` and ``send``: through the function's own handler, to the destination the settings name."""

import io
import json
import os
import sys
from typing import Any

import click

from metric_forwarder.cli.inputs import read_json
from metric_forwarder.cli.local_function import invoke_handler, load_handler, make_context, report_stream
from metric_forwarder.cli.options import Number, example, json_option
from metric_forwarder.cli.page_reports import show_on_page

DEFAULT_TIME_LIMIT_S = 60.0
_LINE_HEAD = 40

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
@click.pass_context
def invoke(ctx: click.Context, *, event_file: str, time_limit_s: float, as_json: bool) -> None:
    """Run the function on a trigger event and print the report.

    It is run as the platform would, and sends to where the settings say. EVENT is a file of JSON, or - for standard
    input. What the function logs goes to standard error; on a terminal the report is shown as a table instead.
    """
    _run(ctx, read_json(event_file), time_limit_s, as_json=as_json)


def _parse_value(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int | float:
    try:
        return int(text) if text.removeprefix("-").isdecimal() else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number.") from None


def _parse_timestamp(
    _ctx: click.Context, _parameter: click.Parameter, text: str | None
) -> int | float | str | None:
    if text is None:
        return None
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        # Text of RFC 3339, which the schema judges.
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
        "metric-forwarder send --namespace pc --metric diskusage --value 0.3 --dimension diskname=sda"
    )
)
@click.option("--namespace", metavar="NAME", help="The namespace; without it MF_NAMESPACE.")
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
    help="An idempotency key: a point that comes again with it is a duplicate.",
)
@time_limit_option
@json_option
@click.pass_context
def send(ctx: click.Context, /, *, time_limit_s: float, as_json: bool, **members: Any) -> None:
    """Send one point and print its outcome.

    It goes through the function's handler, to where the settings say.
    """
    point = {name: member for name, member in members.items() if member is not None}
    # As text, so that a value that JSON has not (inf, nan) is told like any producer's.
    _run(ctx, json.dumps(point), time_limit_s, as_json=as_json)


class _WithoutReports(io.StringIO):
    """Standard error without the log's reports, for a terminal that shows the report as a table."""

    def write(self, text: str, /) -> int:
        # The log writes a line at a time, its level and its event first.
        return len(text) if '"event":"report"' in text[:_LINE_HEAD] else sys.stderr.write(text)


def _run(ctx: click.Context, event: Any, time_limit_s: float, *, as_json: bool) -> None:
    from metric_forwarder.cli import display

    with report_stream():
        is_table = display.is_terminal() and not as_json
    log = _WithoutReports() if is_table and sys.stderr.isatty() else None
    context = make_context(os.environ, time_limit_s)
    invocation = invoke_handler(load_handler(), event, context, log)
    show_on_page(invocation.report)
    with report_stream():
        if is_table:
            display.print_invocation(display.terminal(), invocation)
        else:
            display.print_json(invocation.report)
    ctx.exit(0 if invocation.is_complete else 1)
