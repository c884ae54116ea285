"""``serve``: the function behind a small HTTP front of its own."""

import contextlib
import os
import sys

import click

from metric_forwarder.cli.inputs import unlistenable
from metric_forwarder.cli.invoke import time_limit_option
from metric_forwarder.cli.local_function import load_handler, make_context
from metric_forwarder.cli.options import WholeNumber, example, host_option, port_option
from metric_forwarder.settings.settings import Settings


@click.command(epilog=example("metric-forwarder serve --port 9000"))
@host_option
@port_option(9000)
@click.option(
    "--instances",
    type=WholeNumber(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Handle so many requests at once; each instance remembers its own points, unless MF_DEDUPE is Redis.",
)
@time_limit_option
def serve(host: str, port: int, instances: int, time_limit_s: float) -> None:
    """Run the function behind an HTTP front until interrupted.

    A request is answered as the deployed function's URL would, by the settings: payloads by POST (MF_HTTP_TOKEN), and
    clients of the receiver where MF_BRIDGE_ACCOUNTS opens the bridge. An instance handles one request at a time. The
    log goes to standard error.
    """
    from metric_forwarder.cli.http_server import HttpServer, listen, run

    settings = Settings.read(os.environ, platform_region=os.environ.get("TENCENTCLOUD_REGION", ""))
    try:
        listener = listen(host, port)
    except OSError as error:
        raise unlistenable(host, port, error) from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        click.echo(_welcome(f"http://{shown}:{listener.getsockname()[1]}", settings))
        sys.stdout.flush()
        front = HttpServer(
            [load_handler() for _ in range(instances)], lambda: make_context(os.environ, time_limit_s)
        )
        # For as long as it serves: the handlers' threads have one standard output between them.
        with contextlib.redirect_stdout(sys.stderr):
            run(front, listener, time_limit_s)


def _welcome(url: str, settings: Settings) -> str:
    points = "open" if settings.http_token or settings.http_auth == "cam" else "closed (set MF_HTTP_TOKEN)"
    bridge = "open" if settings.bridge_accounts else "closed (set MF_BRIDGE_ACCOUNTS)"
    return (
        f"The function listens on {url} until interrupted (Ctrl-C).\n"
        f"Payloads by POST: {points}. Clients of the receiver, at {url}/v2/index.php: {bridge}."
    )
