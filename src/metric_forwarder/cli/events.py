"""``events``: trigger events to try the function with."""

import json
from datetime import datetime, timezone
from typing import Any

import click

from metric_forwarder.cli.inputs import Unusable, parse_json, read_text
from metric_forwarder.cli.options import WholeNumber, example
from metric_forwarder.cli.sample_events import TEMPLATES, split
from metric_forwarder.formats.payload import NotJson, read_payload

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
# What the function is invoked with when a person asks for a job.
JOBS: dict[str, dict[str, bool]] = {
    "replay": {"replay": True},
    "replay-dead-letters": {"replay": True, "deadLetters": True},
    "doctor": {"doctor": True},
}


@click.command(
    epilog=example(
        "metric-forwarder events ckafka --messages 3 > event.json",
        'echo \'{"metricName": "up", "dimensions": {}, "value": 1}\' | metric-forwarder events timer --points -',
    )
)
@click.argument("kind", type=click.Choice([*TEMPLATES, *JOBS]), metavar="KIND")
@click.option(
    "--points",
    "file",
    metavar="FILE",
    help="A payload to wrap, or - for standard input; without it three sample points.",
)
@click.option(
    "--messages",
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Spread the points over so many messages, where a kind of event carries several.",
)
def events(kind: str, file: str | None, messages: int) -> None:
    """Print a trigger event of a kind around some points.

    KIND is timer, ckafka, cmq, cls, eventbridge (TDMQ), http (a Function URL), apigw, dead-letter or direct; or replay,
    replay-dead-letters or doctor: the event by which a person asks for that job. A payload
    in one message is wrapped as it stands, right or wrong. An HTTP event brings no token: invoke it with
    MF_HTTP_AUTH=cam, and without MF_HTTP_TOKEN.
    """
    from metric_forwarder.cli import display

    if kind in JOBS:
        if file is not None or messages > 1:
            raise click.UsageError(
                f"An event of the kind {kind} carries no points: leave out --points and --messages."
            )
        display.print_json(JOBS[kind])
        return
    text = json.dumps(SAMPLE) if file is None else read_text(file)
    name = file or "the sample"
    if messages > 1 and not TEMPLATES[kind].many:
        raise click.UsageError(f"An event of the kind {kind} carries one message: leave out --messages.")
    if messages == 1 and TEMPLATES[kind].is_payload:
        parse_json(text, name)
    bodies = [text] if messages == 1 else _spread(text, messages, name)
    display.print_json(TEMPLATES[kind].wrap(bodies, datetime.now(timezone.utc)))


def _spread(text: str, messages: int, name: str) -> list[str]:
    payload = read_payload(text)
    if payload.violations:
        first = payload.violations[0]
        where = f" at {first.pointer}" if first.pointer else ""
        raise Unusable(f"{name} cannot be spread over messages:{where} it {first.message}")
    try:
        return [
            json.dumps(part, ensure_ascii=False, default=_refuse)
            for part in split(list(payload.points), messages)
        ]
    except ValueError as error:
        raise Unusable(f"{name} cannot be spread over messages: {error}") from None


def _refuse(value: Any) -> Any:
    raise ValueError(value.message if isinstance(value, NotJson) else "it is not JSON")
