"""``demo``: the whole way on this machine, from trigger events to the points that a receiver holds."""

import contextlib
import importlib.util
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from metric_forwarder.cli.events import SAMPLE
from metric_forwarder.cli.inputs import Unusable, read_json, unlistenable
from metric_forwarder.cli.local_function import (
    Handler,
    Invocation,
    invoke_handler,
    load_handler,
    make_context,
)
from metric_forwarder.cli.options import example, host_option, port_option, quiet_option
from metric_forwarder.cli.sample_events import TEMPLATES
from metric_forwarder.errors import ForwarderError
from metric_forwarder.settings.settings import PREFIX, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from receiver_emulator import Emulator, StoredPoint

_TIME_LIMIT_S = 60.0
# Sample events may be from any year.
_LONG_AGO_S = 50 * 365 * 86400


class Demonstration(NamedTuple):
    """An event's invocation, and the points that reached the receiver during it."""

    invocation: Invocation
    arrived: "Sequence[StoredPoint]"


@click.command(epilog=example("metric-forwarder demo events", "metric-forwarder demo --page"))
@click.argument("folder", metavar="[EVENTS_DIR]", required=False)
@click.option("--page", "is_live", is_flag=True, help="Run until interrupted, and show the points on a page.")
@host_option
@port_option(8080)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@quiet_option
@click.pass_context
def demo(
    ctx: click.Context, *, folder: str | None, is_live: bool, host: str, port: int, as_json: bool, quiet: bool
) -> None:
    """Run the function on sample events, and show what arrives.

    EVENTS_DIR holds trigger events, *.json; without it, a sample of each kind is used. The receiver is an emulated one on
    this machine, and ends with the command; your own MF_ settings are ignored. If a Prometheus is installed, the events
    are also sent there, by remote write. The status is 0 if exactly the points arrived that were reported as delivered,
    otherwise 1.

    With --page it makes one event a second, of each kind in turn, until interrupted. The page is that of the emulated
    receiver; --host and --port set its address.
    """
    if is_live:
        _run_live(folder, host, port)
        return
    from metric_forwarder.cli import display
    from receiver_emulator import Emulator

    events = _samples() if folder is None else _read_folder(Path(folder))
    console = display.nowhere() if as_json or quiet else display.terminal()
    with Emulator() as receiver, settings_in_force(_settings(receiver, events)):
        handler = load_handler()
        rows = [_show(console, receiver, handler, name, event) for name, event in events.items()]
        console.print(f"The receiver at {receiver.base_url} now holds:")
        display.print_series(console, receiver.points())
    prometheus = _show_prometheus(console, events)
    wrong = [row["name"] for row in rows if not row["asReported"]]
    if prometheus and prometheus["arrived"] != prometheus["delivered"]:
        wrong.append("remote write")
    if as_json and not quiet:
        display.print_json(
            {"ok": not wrong, "events": rows, "received": receiver.points(), "prometheus": prometheus}
        )
    if wrong:
        click.echo(f"Reported and arrived points differ: {', '.join(wrong)}", err=True)
    ctx.exit(1 if wrong else 0)


def _run_live(folder: str | None, host: str, port: int) -> None:
    from metric_forwarder.cli import live_demo

    if folder is not None:
        raise click.UsageError("--page makes events of its own: leave EVENTS_DIR out.")
    try:
        live_demo.run(host, port)
    except OSError as error:
        raise unlistenable(host, port, error) from None


def _show_prometheus(console: "Console", events: Mapping[str, Any]) -> dict[str, int] | None:
    """Send the same events to a real Prometheus, if one is installed; count points delivered, arrived and rejected."""
    from metric_forwarder.cli import display
    from metric_forwarder.cli.prometheus_server import PrometheusServer, find_program

    console.print()
    program = find_program()
    missing = [] if program else ["the program prometheus (Debian: apt-get install prometheus)"]
    if importlib.util.find_spec("cramjam") is None:
        missing.append("the extra remote-write (in a clone: .venv/bin/pip install -e '.[remote-write]')")
    if program is None or missing:
        needed = " and ".join(missing)
        console.print(f"Not shown: the second destination, Prometheus remote write. It needs {needed}.")
        return None
    # Sample events have times of any order and age, which a Prometheus accepts only with such a window.
    with (
        display.waiting("a Prometheus is started, and gets the same events"),
        tempfile.TemporaryDirectory() as folder,
        PrometheusServer(program, Path(folder), out_of_order_s=_LONG_AGO_S) as prometheus,
    ):
        told = {
            "MF_DESTINATION": "remote-write",
            "MF_REMOTE_WRITE_URL": prometheus.url,
            "MF_NAMESPACE": "demo",
            **http_access(events.values()),
        }
        with settings_in_force(told):
            outcomes = _outcomes(load_handler(), events.values())
        held = prometheus.samples('{__name__=~".+"}', at_s=time.time() + 60, range_s=_LONG_AGO_S)
    delivered, arrived = outcomes["delivered"], sum(len(samples) for samples in held.values())
    console.print(
        f"A Prometheus, sent the same events by remote write, holds {arrived} of {delivered} delivered points."
    )
    if outcomes["rejected"]:
        console.print(
            f"It refused {outcomes['rejected']}: their time is too old or too new, or it has another value at that time."
        )
    display.print_samples(console, held)
    return {"delivered": delivered, "arrived": arrived, "rejected": outcomes["rejected"]}


def _outcomes(handler: Handler, events: Iterable[Any]) -> Counter[str]:
    """The outcomes of all events, added up."""
    total: Counter[str] = Counter()
    for event in events:
        # An event that fails completely was reported before.
        with contextlib.suppress(ForwarderError):
            total.update(_invoke(handler, event).report.get("outcomes", {}))
    return total


def _invoke(handler: Handler, event: Any) -> Invocation:
    # Without the log line, which repeats the report.
    with contextlib.redirect_stderr(io.StringIO()):
        return invoke_handler(handler, event, make_context(os.environ, _TIME_LIMIT_S))


def _read_folder(folder: Path) -> dict[str, Any]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise Unusable(
            f"{folder} cannot be read as a folder ({error.strerror}): name one with trigger events, or none "
            "for samples"
        ) from None
    if not files:
        raise Unusable(
            f"{folder} has no *.json: put trigger events there, such as the output of metric-forwarder events"
        )
    return {file.name: read_json(str(file)) for file in files}


def _samples() -> dict[str, Any]:
    body, now = json.dumps(SAMPLE), datetime.now(timezone.utc)
    # Each event gets a second of its own, since a series can have only one value at a time.
    return {
        kind: row.wrap([body], now - timedelta(seconds=age))
        for age, (kind, row) in enumerate(TEMPLATES.items())
    }


def _settings(receiver: "Emulator", events: Mapping[str, Any]) -> dict[str, str]:
    secret_id, secret_key = next(iter(receiver.options.accounts.items()))
    return {
        "MF_RECEIVER_URL": receiver.url,
        "MF_SECRET_ID": secret_id,
        "MF_SECRET_KEY": secret_key,
        "MF_REGION": "gz",
        "MF_NAMESPACE": "demo",
        **http_access(events.values()),
    }


def http_access(events: Iterable[Any]) -> dict[str, str]:
    """The setting that lets in the HTTP clients among the events: the token that they send, otherwise ``cam``."""
    for event in events:
        headers = event.get("headers") if isinstance(event, dict) else None
        for name, value in headers.items() if isinstance(headers, dict) else ():
            scheme, _, token = str(value).partition(" ")
            if name.lower() == "authorization" and scheme.lower() == "bearer":
                return {"MF_HTTP_TOKEN": token.strip()}
    return {"MF_HTTP_AUTH": "cam"}


@contextlib.contextmanager
def settings_in_force(settings: Mapping[str, str]) -> Iterator[None]:
    """Replace all settings in the process's environment, from which the function reads them."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(PREFIX)}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
        os.environ.update(before)


def _show(
    console: "Console", receiver: "Emulator", handler: Handler, name: str, event: Any
) -> dict[str, Any]:
    """Invoke the function on an event, print the report, and return both, and whether the report is true."""
    from metric_forwarder.cli import display

    try:
        shown = demonstrate(receiver, handler, event)
    except ForwarderError as error:
        console.print(display.safe(f"{name}  {error}"))
        return {"name": name, "report": None, "error": str(error), "asReported": False}
    display.print_invocation(console, shown.invocation, name)
    console.print()
    report = shown.invocation.report
    return {"name": name, "report": report, "error": None, "asReported": is_true(shown, event)}


def demonstrate(receiver: "Emulator", handler: Handler, event: Any) -> Demonstration:
    """Invoke the function, and record what reached the receiver for this event."""
    before = len(receiver.points())
    invocation = _invoke(handler, event)
    return Demonstration(invocation, receiver.points()[before:])


def is_true(shown: Demonstration, event: Any) -> bool:
    """Whether as many points arrived as were reported delivered, and each is a point of the event."""
    from metric_forwarder.cli.dry_run import dry_run

    delivered = shown.invocation.report.get("outcomes", {}).get("delivered", 0)
    sent = dry_run(event, Settings.read(os.environ, to_send=False)).points
    possible = Counter(
        (point.series.namespace, point.series.metric, point.series.dimensions, point.value) for point in sent
    )
    arrived = Counter(
        (
            point["namespace"],
            point["metricName"],
            tuple(sorted((name, str(value)) for name, value in point["dimensions"].items())),
            point["value"],
        )
        for point in shown.arrived
    )
    return len(shown.arrived) == delivered and not arrived - possible
