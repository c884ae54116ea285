"""``events``: trigger events to try the function with."""

import json
from datetime import datetime, timezone
from typing import Any

import click

from metric_forwarder.cli.inputs import Unusable, parse_json, read_text
from metric_forwarder.cli.options import WholeNumber, example, format_option
from metric_forwarder.cli.sample_events import TEMPLATES, split
from metric_forwarder.cli.sample_formats import as_request, write_points
from metric_forwarder.formats import Format
from metric_forwarder.formats.json_text import NotJson
from metric_forwarder.formats.payload import read_payload

SAMPLE: list[dict[str, Any]] = [
    {
        "namespace": "pc",
        "metricName": "diskusage",
        "dimensions": {"diskname": "sda", "ip": "172.31.58.160"},
        "value": 0.3,
    },
    {
        "namespace": "pc",
        "metricName": "diskusage",
        "dimensions": {"diskname": "sdb", "ip": "172.31.58.160"},
        "value": 0.71,
    },
    {"namespace": "pc", "metricName": "cpuload", "dimensions": {"ip": "172.31.58.160"}, "value": 1.25},
]
_UNCHANGED = "without --messages and --format it is wrapped unchanged"
# The events by which a person asks for a job.
JOBS: dict[str, dict[str, bool]] = {
    "replay": {"replay": True},
    "replay-dead-letters": {"replay": True, "deadLetters": True},
    "doctor": {"doctor": True},
}


@click.command(
    epilog=example(
        "metric-forwarder events ckafka --messages 3 > event.json",
        "metric-forwarder events ckafka --format influx > influx.json",
        'echo \'{"metricName": "up", "dimensions": {}, "value": 1}\' | metric-forwarder events timer --points -',
    )
)
@click.argument("kind", type=click.Choice([*TEMPLATES, *JOBS]), metavar="KIND")
@click.option(
    "--points",
    "file",
    metavar="FILE",
    help="A payload to wrap, or - for standard input; without it, three sample points.",
)
@click.option(
    "--messages",
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Spread the points over this number of messages, at most one a point, if the kind of event can have several.",
)
@format_option
def events(kind: str, file: str | None, messages: int, written_format: Format) -> None:
    """Print a trigger event of a kind around some points.

    KIND is timer, ckafka, cmq, cls, eventbridge (TDMQ), http (a Function URL), apigw, dead-letter or direct; or replay,
    replay-dead-letters or doctor, the event that asks for that job. A payload in one message is wrapped unchanged, valid or
    not. An HTTP event has no token: invoke it with MF_HTTP_AUTH=cam, and without MF_HTTP_TOKEN.

    With --format the points are written in a format other than the forwarder's own JSON. Such a format has no namespace and
    no id, so these are left out: set MF_NAMESPACE. A binary format (otlp-protobuf, remote-write, prometheus-protobuf) needs
    the kind http or apigw.
    """
    from metric_forwarder.cli import display

    if kind in JOBS:
        if file is not None or messages > 1 or written_format is not Format.JSON:
            raise click.UsageError(
                f"An event of the kind {kind} has no points: leave out --points, --messages and --format."
            )
        display.print_json(JOBS[kind])
        return
    text = json.dumps(SAMPLE) if file is None else read_text(file)
    name = file or "the sample"
    if messages > 1 and not TEMPLATES[kind].many:
        raise click.UsageError(f"An event of the kind {kind} has one message: leave out --messages.")
    now = datetime.now(timezone.utc)
    if written_format is not Format.JSON:
        display.print_json(_in_format(kind, written_format, _spread(text, messages, name), now))
        return
    if messages == 1 and TEMPLATES[kind].is_payload:
        parse_json(text, name, "correct it, or choose another kind, whose messages may be in any format")
    bodies = [text] if messages == 1 else [_as_json(part, name) for part in _spread(text, messages, name)]
    display.print_json(TEMPLATES[kind].wrap(bodies, now))


def _in_format(kind: str, form: Format, parts: list[list[Any]], now: datetime) -> Any:
    """An event of a kind whose messages are in a format other than our own JSON."""
    template, bodies = TEMPLATES[kind], [write_points(form, part, now) for part in parts]
    if template.is_http:
        return as_request(form, template.wrap([""], now), bodies[0])
    texts = [body for body in bodies if isinstance(body, str)]
    if len(texts) < len(bodies):
        raise click.UsageError(
            f"The format {form.value} is binary, which an event of the kind {kind} cannot hold: choose http or apigw."
        )
    # As a text, since an object in another format is not a direct event.
    return texts[0] if template.is_payload else template.wrap(texts, now)


def _spread(text: str, messages: int, name: str) -> list[list[Any]]:
    payload = read_payload(text)
    if payload.violations:
        raise Unusable(
            f"{name} cannot be spread over messages or written in another format: only the forwarder's own JSON can, and "
            f"metric-forwarder check says what this is; {_UNCHANGED}"
        )
    return split(list(payload.merged()), messages)


def _as_json(points: list[Any], name: str) -> str:
    try:
        return json.dumps(points, ensure_ascii=False, default=_refuse)
    except ValueError as error:
        raise Unusable(f"{name} cannot be spread over messages: {error}; {_UNCHANGED}") from None


def _refuse(value: Any) -> Any:
    raise ValueError(value.message if isinstance(value, NotJson) else "it is not JSON")
