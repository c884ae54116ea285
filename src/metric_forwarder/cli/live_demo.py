"""``demo --page``: the function at work on made-up events, and a page that shows it."""

import contextlib
import io
import json
import math
import os
import signal
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from types import FrameType
from typing import Any

import click

from metric_forwarder.cli.local_function import invoke_handler, load_handler, make_context
from metric_forwarder.cli.sample_events import TEMPLATES
from metric_forwarder.errors import ForwarderError
from metric_forwarder.settings.settings import PREFIX

_EVERY_S = 1.0
_TIME_LIMIT_S = 10.0
_HOSTS = ("web-1", "web-2", "db-1")
# After this number of events, one has a text as a value, to show an invalid point.
_INVALID_EVERY = 7


def settings(receiver_url: str, secret_id: str, secret_key: str) -> dict[str, str]:
    """The function's settings in the demonstration; the user's own are ignored."""
    return {
        f"{PREFIX}RECEIVER_URL": receiver_url,
        f"{PREFIX}SECRET_ID": secret_id,
        f"{PREFIX}SECRET_KEY": secret_key,
        f"{PREFIX}REGION": "gz",
        f"{PREFIX}NAMESPACE": "demo",
        f"{PREFIX}HTTP_AUTH": "cam",
    }


def run(host: str, port: int) -> None:
    """Serve the page and invoke the function once a second, until SIGINT or SIGTERM.

    Raises:
        OSError: the port cannot be listened on.
    """
    from metric_forwarder.cli.demo import settings_in_force
    from receiver_emulator import Emulator, EmulatorOptions

    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with Emulator(EmulatorOptions(host=host, port=port)) as receiver:
        account = next(iter(receiver.options.accounts.items()))
        with settings_in_force(settings(receiver.url, *account)):
            handler = load_handler()
            click.echo(
                f"The function runs here, once a second, until interrupted (Ctrl-C). Watch it on the page: {receiver.base_url}/"
            )
            for event in events():
                # The page shows the report, so the log is dropped.
                with contextlib.suppress(ForwarderError), contextlib.redirect_stderr(io.StringIO()):
                    receiver.report(
                        invoke_handler(handler, event, make_context(os.environ, _TIME_LIMIT_S)).report
                    )
                if stopping.wait(_EVERY_S):
                    return


def events() -> Iterator[Any]:
    """Yield events without end, of each kind of trigger in turn; each holds a point of every series."""
    wraps = [row.wrap for row in TEMPLATES.values()]
    number = 0
    while True:
        yield wraps[number % len(wraps)]([json.dumps(_points(number))], _now())
        number += 1


def _points(number: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for place, host in enumerate(_HOSTS):
        dimensions = {"host": host}
        load = 0.5 + 0.4 * math.sin(number / 8 + 2 * place)
        rows += [
            {"metricName": "cpu_load", "dimensions": dimensions, "value": round(load, 3)},
            {
                "metricName": "requests",
                "dimensions": dimensions,
                "value": round(200 * load) + 7 * (number % 5),
            },
        ]
    rows.append({"metricName": "queue_length", "dimensions": {"queue": "orders"}, "value": (number * 3) % 40})
    if number % _INVALID_EVERY == _INVALID_EVERY - 1:
        rows.append({"metricName": "disk_usage", "dimensions": {"host": _HOSTS[0]}, "value": "12"})
    return rows


def _now() -> datetime:
    return datetime.now(timezone.utc)
