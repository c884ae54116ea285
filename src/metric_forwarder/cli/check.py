"""``check`` and ``schema``: what the function would accept, without sending anything."""

import os
from typing import Any

import click

from metric_forwarder.cli.inputs import Unusable, parse_json, read_text
from metric_forwarder.cli.options import example, json_option
from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.settings.settings import Settings


@click.command(
    epilog=example(
        'echo \'{"metricName": "diskusage", "dimensions": {}, "value": "12"}\' | metric-forwarder check -'
    )
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_option
@click.pass_context
def check(ctx: click.Context, *, files: tuple[str, ...], as_json: bool) -> None:
    """Validate payloads or trigger events; send nothing.

    Every error is printed. Each FILE is JSON or a payload of another format (docs/formats.md), or - for standard input. No key and no region is needed; MF_SCHEMA,
    MF_NAMESPACE and MF_BATCH_MAX_BYTES are respected. The age of points is not judged, since it depends on when they
    are sent.
    """
    settings = Settings.read(os.environ, to_send=False)
    checked = [_check_or_tell(file, settings) for file in files]
    findings = [finding for finding in checked if finding is not None]
    _print(findings, as_json=as_json)
    if len(findings) < len(files):
        ctx.exit(Unusable.exit_code)
    ctx.exit(1 if any(finding["errors"] for finding in findings) else 0)


def _check_or_tell(file: str, settings: Settings) -> dict[str, Any] | None:
    """Check one file; one that cannot be read is told, and does not keep the others from being checked."""
    try:
        return _check(file, settings)
    except Unusable as error:
        error.show()
        return None


def _check(file: str, settings: Settings) -> dict[str, Any]:
    from metric_forwarder.cli.dry_run import dry_run

    text = read_text(file)
    try:
        if _is_foreign(text, file):
            tried = dry_run(text, settings)
        else:
            tried = dry_run(parse_json(text, file), settings)
            if tried.traits.is_payload:
                # As text it is read as a producer's is, so that a name given twice or a NaN is told.
                tried = dry_run(text, settings)
    except UnknownTrigger as error:
        raise Unusable(f"{file}: {error}") from None
    errors = [{**problem._asdict(), "outcome": problem.outcome.value} for problem in tried.problems]
    return {
        "file": file,
        "trigger": tried.traits.name,
        "job": tried.job,
        "received": tried.received,
        "valid": len(tried.points),
        "errors": errors,
    }


def _is_foreign(text: str, file: str) -> bool:
    """Whether a file is no JSON value, but a payload of a format that is none: lines, or JSON values in a row."""
    from metric_forwarder.formats import Format
    from metric_forwarder.formats.detect import detect
    from metric_forwarder.formats.samples import FormatHint

    try:
        parse_json(text, file)
    except Unusable:
        found = detect(text, FormatHint())
        return isinstance(found, Format) and found is not Format.JSON
    return False


def _print(findings: list[dict[str, Any]], *, as_json: bool) -> None:
    from metric_forwarder.cli import display

    if as_json or not display.is_terminal():
        display.print_json(findings)
        return
    console = display.terminal()
    for finding in findings:
        display.print_finding(console, finding)


@click.command(epilog=example("metric-forwarder schema > point.schema.json"))
def schema() -> None:
    """Print the schema in force.

    It is the JSON Schema (draft-07) of the destination, or the file MF_SCHEMA names; no other setting is needed.
    """
    from metric_forwarder.cli import display
    from metric_forwarder.intake.schema import PointSchema

    settings = Settings.read(os.environ, to_send=False)
    display.print_json(PointSchema(settings.kind.schema, settings.schema).schema)
