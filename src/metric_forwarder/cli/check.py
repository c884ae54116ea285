"""``check`` and ``schema``: what the function would accept, without sending anything."""

import json
import math
import os
from typing import TYPE_CHECKING, Any

import click

from metric_forwarder.cli.inputs import Unusable, as_text, parse_json, read_bytes
from metric_forwarder.cli.options import env_file_option, example, json_option, quiet_option
from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.model import Point
from metric_forwarder.settings.settings import Settings

if TYPE_CHECKING:
    from metric_forwarder.cli.dry_run import DryRun


@click.command(
    epilog=example(
        'echo \'{"metricName": "diskusage", "dimensions": {}, "value": "12"}\' | metric-forwarder check -',
        "echo 'cpu,host=a idle=91.5,busy=8.5' | MF_NAMESPACE=pc metric-forwarder check -",
    )
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_option
@quiet_option
@env_file_option
@click.pass_context
def check(ctx: click.Context, *, files: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Validate payloads or trigger events; send nothing.

    Each FILE holds JSON (one value, or several as in JSON Lines) or a payload of another format (docs/formats.md); - is
    standard input. The command shows the format of each message and how it was recognised, every point that would be sent,
    what is filtered, what MF_RELABEL and MF_LABELS change, and every error. It needs no key and no region, and uses the
    other settings. It does not check the age of points, which depends on when they are sent.
    """
    settings = Settings.read(os.environ, to_send=False)
    checked = [_check_or_tell(file, settings) for file in files]
    findings = [finding for found in checked if found is not None for finding in found]
    if not quiet:
        _print(findings, as_json=as_json)
    if None in checked:
        ctx.exit(Unusable.exit_code)
    ctx.exit(1 if any(finding["errors"] for finding in findings) else 0)


def _check_or_tell(file: str, settings: Settings) -> list[dict[str, Any]] | None:
    """Check one file; report a file that cannot be read, and go on with the others."""
    try:
        return [_finding(name, found, settings) for name, found in _read(file, settings)]
    except Unusable as error:
        error.show()
        return None


def _read(file: str, settings: Settings) -> "list[tuple[str, DryRun]]":
    """The contents of a file, by name: one payload, or one or more trigger events one after the other."""
    from metric_forwarder.cli.dry_run import dry_run_decoded, payload

    content = read_bytes(file)
    is_chosen = settings.format is not None and settings.format.find("payload") is not None
    if is_chosen and not _is_trigger_event(_json_or_none(content)):
        # The format that MF_FORMAT names may be binary.
        return [(file, dry_run_decoded(payload(content), settings))]
    text = as_text(
        content,
        file,
        "save it with that encoding, or name its binary format, such as MF_FORMAT=otlp-protobuf",
    )
    try:
        remedy = "correct it, or name its format with MF_FORMAT (docs/formats.md)"
        event = parse_json(text, file, remedy, content="a payload or a trigger event")
    except Unusable as broken:
        return _read_values(text, file, settings, broken)
    return [(file, _dry_run(file, event, text, settings))]


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _read_values(text: str, file: str, settings: Settings, broken: Unusable) -> "list[tuple[str, DryRun]]":
    """Read a file that is not one JSON value: a payload of several values, trigger events one after the other, or lines."""
    from metric_forwarder.cli.dry_run import dry_run_decoded, payload
    from metric_forwarder.formats.json_values import Value, read_values

    values = list(read_values(text))
    good = [value for value in values if isinstance(value, Value)]
    if len(values) > 1 and good and _is_trigger_event(good[0].decoded):
        if len(good) < len(values):
            raise broken
        names = [f"{file} {value.prefix.strip()}" for value in good]
        return [
            (name, _dry_run(name, value.decoded, text, settings))
            for name, value in zip(names, good, strict=True)
        ]
    if (len(values) > 1 and good) or _is_of_another_format(text, settings):
        return [(file, dry_run_decoded(payload(text), settings))]
    raise broken


def _dry_run(name: str, event: Any, text: str, settings: Settings) -> "DryRun":
    from metric_forwarder.cli.dry_run import dry_run_decoded, payload, read_event

    try:
        decoded = read_event(event)
    except UnknownTrigger as error:
        if not _is_of_another_format(event, settings):
            raise Unusable(
                f"{name}: {error}. For JSON of another shape, MF_MAPPING says where its samples are (docs/formats.md)"
            ) from None
        decoded = payload(text)
    else:
        if decoded.traits.is_payload:
            # Passed on as text, like a producer's payload, so that a repeated name or a NaN is reported.
            decoded = payload(event if isinstance(event, str) else text)
    return dry_run_decoded(decoded, settings)


def _is_trigger_event(value: Any) -> bool:
    from metric_forwarder.cli.dry_run import read_event

    try:
        return not read_event(value).traits.is_payload
    except UnknownTrigger:
        return False


def _is_of_another_format(body: Any, settings: Settings) -> bool:
    """Whether a value is, or resembles, a payload of a format other than our own JSON."""
    from metric_forwarder.formats import Format
    from metric_forwarder.formats.detect import detect
    from metric_forwarder.formats.samples import FormatHint

    found = detect(body, FormatHint(), has_mapping=bool(settings.mapping))
    return found is not Format.JSON and (isinstance(found, Format) or not isinstance(body, str))


def _finding(name: str, tried: "DryRun", settings: Settings) -> dict[str, Any]:
    return {
        "file": name,
        "trigger": tried.traits.name,
        "job": tried.job,
        "received": tried.received,
        "valid": len(tried.points),
        "errors": [{**problem._asdict(), "outcome": problem.outcome.value} for problem in tried.problems],
        "messages": [message._asdict() for message in tried.messages],
        "points": [
            _point(point, tried.before.get(place), settings) for place, point in enumerate(tried.points)
        ],
        "filtered": [
            {**filtered._asdict(), "before": filtered.before and _series_of(filtered.before, settings)}
            for filtered in tried.filtered
        ],
    }


def _point(point: Point, before: Any, settings: Settings) -> dict[str, Any]:
    """A point as it would be sent, with its place; ``before`` is the point before a rule or a label changed it."""
    from metric_forwarder.times import rfc3339

    series = point.series
    now = {
        "namespace": series.namespace,
        "metricName": series.metric,
        "dimensions": dict(series.dimensions),
    }
    was = before and _series_of(before, settings)
    return {
        "source": point.message.source,
        "pointer": point.pointer,
        **now,
        # JSON has no NaN and no infinity.
        "value": point.value if math.isfinite(point.value) else str(point.value),
        "timestamp": None if point.timestamp_ns is None else rfc3339(point.timestamp_ns),
        "before": None if was == now else was,
    }


def _series_of(raw: Any, settings: Settings) -> dict[str, Any]:
    """The series of a point before the rules."""
    from metric_forwarder.intake.series import as_text as dimension_text

    return {
        "namespace": raw.get("namespace") or settings.namespace,
        "metricName": raw["metricName"],
        "dimensions": {name: dimension_text(value) for name, value in sorted(raw["dimensions"].items())},
    }


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
    """Print the schema that is in use.

    It is the JSON Schema (draft-07) of the destination, or the file that MF_SCHEMA names; no other setting is needed.
    """
    from metric_forwarder.cli import display
    from metric_forwarder.intake.schema import PointSchema

    settings = Settings.read(os.environ, to_send=False)
    display.print_json(PointSchema(settings.kind.schema, settings.schema).schema)
