"""``serve``: the function behind an HTTP server of its own."""

import contextlib
import io
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

import click

from metric_forwarder.cli.inputs import unlistenable
from metric_forwarder.cli.invoke import time_limit_option
from metric_forwarder.cli.local_function import Handler, PointsApart, load_handler, make_context
from metric_forwarder.cli.options import (
    Number,
    WholeNumber,
    env_file_option,
    example,
    host_option,
    port_option,
)
from metric_forwarder.errors import ProblemCollector
from metric_forwarder.reporting.log import JsonLog
from metric_forwarder.settings.settings import PREFIX, Settings

if TYPE_CHECKING:
    from metric_forwarder.cli.http_server import Access
    from metric_forwarder.cli.serve_page import ServePage

_PAGE_HOST = "127.0.0.1"
# A health check of a load balancer usually comes every few seconds.
_DRAIN_S = 5.0
_NO_PLATFORM = (
    "MF_HTTP_AUTH is cam, so the platform would have to authenticate clients, but in front of serve there is no platform and "
    "everybody would be let in: remove it, and set MF_HTTP_TOKEN to the token that clients send"
)


@click.command(epilog=example("metric-forwarder serve --port 9000"))
@host_option
@port_option(9000)
@click.option(
    "--instances",
    type=WholeNumber(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="The number of requests handled at once; each instance remembers only its own points, unless MF_DEDUPE is Redis.",
)
@time_limit_option
@click.option(
    "--drain",
    "drain_s",
    type=Number(min=0, max=300),
    default=_DRAIN_S,
    show_default="5",
    metavar="SECONDS",
    help="After SIGTERM, say at /readyz for this time that it stops, for a load balancer to notice: 0 to 300 seconds.",
)
@click.option(
    "--page-port",
    type=WholeNumber(0, 65535),
    metavar="PORT",
    help="Show requests and outcomes on a page at http://127.0.0.1:PORT/, only for this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print its address as a line of JSON.")
@env_file_option
@click.option(
    "--verbose", "-v", is_flag=True, help="Log a line for each HTTP request: method, path, status, time."
)
def serve(
    *,
    host: str,
    port: int,
    instances: int,
    time_limit_s: float,
    drain_s: float,
    page_port: int | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run the function behind an HTTP server until interrupted.

    It answers a request like the deployed function's URL, by the settings: payloads by POST (MF_HTTP_TOKEN), and clients of
    the receiver if MF_BRIDGE_ACCOUNTS opens the bridge. MF_HTTP_AUTH=cam is refused: no platform is there to authenticate
    clients. An instance handles one request at a time. GET /healthz and /readyz are for a load balancer. With
    MF_SELF_METRICS=on, GET /metrics is for a Prometheus. The log goes to standard error; --verbose adds a line for each
    request, without its query.

    After SIGTERM, /readyz and every new request are answered with 503 for the time of --drain, and requests that wait for an
    instance at once. Others that have begun are completed within the time limit. Ctrl-C does not wait for --drain.
    """
    from metric_forwarder.cli.http_server import HttpServer, run

    settings = _usable_settings(time_limit_s)
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(_listen(host, port))
        url = _url(host, listener)
        page = None
        site = None
        page_url = None
        if page_port is not None:
            page_socket = open_sockets.enter_context(_listen(_PAGE_HOST, page_port))
            page = _make_page(url)
            site = (page_socket, page.application(_PAGE_HOST))
            page_url = f"{_url(_PAGE_HOST, page_socket)}/"
        click.echo((_described if as_json else _welcome)(url, settings, page_url))
        sys.stdout.flush()
        handlers, own_metrics = _make_instances(instances, page, settings)
        server = HttpServer(
            handlers,
            lambda: make_context(os.environ, time_limit_s),
            _head_check(settings),
            on_access=_write_access if verbose else None,
            own_metrics=own_metrics,
        )
        # For the whole time, since the handlers' threads share one standard output.
        with contextlib.redirect_stdout(PointsApart(sys.stdout, _log(settings, page))):
            run(server, listener, drain_s, time_limit_s, site)


def _usable_settings(time_limit_s: float) -> Settings:
    """Read the settings; raises ``ConfigError`` for all that would make every request fail, or let everybody in."""
    from metric_forwarder.bootstrap import Application

    region = os.environ.get("TENCENTCLOUD_REGION", "")
    settings, _ = Settings.collect(os.environ, platform_region=region)
    found = ProblemCollector([_NO_PLATFORM] if settings.http_auth == "cam" else [])
    # It reads the settings as an event would, and finds the same problems.
    found.collect(lambda: Application().check_settings(make_context(os.environ, time_limit_s)))
    found.check()
    return settings


def _listen(host: str, port: int) -> socket.socket:
    from metric_forwarder.cli.http_server import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise unlistenable(host, port, error) from None


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _make_page(url: str) -> "ServePage":
    from metric_forwarder.cli.serve_page import ServePage

    point = '{"namespace": "pc", "metricName": "diskusage", "dimensions": {"diskname": "sda"}, "value": 0.3}'
    return ServePage([f"curl -H \"Authorization: Bearer $MF_HTTP_TOKEN\" -d '{point}' {url}/"])


def _make_instances(
    count: int, page: "ServePage | None", settings: Settings
) -> tuple[list[Handler], Callable[[], str] | None]:
    """Make the instances of the function; return their handlers, and the function that writes their own metrics as text."""
    if page is None and settings.self_metrics == "off":
        return [load_handler() for _ in range(count)], None
    from metric_forwarder.bootstrap import Application

    if page is not None:
        # The page shows each request, which the function logs at this level; ``PageLog`` drops these lines from the log.
        os.environ[f"{PREFIX}LOG_LEVEL"] = "DEBUG"
    instances = [Application(on_settled=page.settled if page else None) for _ in range(count)]
    handlers: list[Handler] = [instance.handle for instance in instances]
    if settings.self_metrics == "off":
        return handlers, None
    from metric_forwarder.clock import SystemClock
    from metric_forwarder.reporting.exposition import Exposition

    exposition = Exposition(SystemClock())
    return handlers, lambda: exposition.text(instance.self_metrics for instance in instances)


def _log(settings: Settings, page: "ServePage | None") -> io.TextIOBase:
    log = TimedLog(sys.stderr)
    if page is None:
        return log
    from metric_forwarder.cli.serve_page import PageLog

    return PageLog(page, settings.log_level, log)


def _write_access(access: "Access") -> None:
    JsonLog().write(
        "INFO",
        "access",
        client=access.client,
        method=access.method,
        path=access.path,
        status=access.status,
        bytes=access.request_bytes,
        ms=access.ms,
    )


def _head_check(settings: Settings) -> Callable[[Mapping[str, Any]], Any]:
    """Make the check that refuses a request before its body is read, as the function would refuse it afterwards."""
    from metric_forwarder.put_monitor_data.server import PATHS
    from metric_forwarder.reporting.replies import refuse
    from metric_forwarder.triggers.decoding import HttpAccess
    from metric_forwarder.triggers.http import check_head

    access = HttpAccess(settings.http_token)
    log = JsonLog(settings.log_level)

    def check(event: Mapping[str, Any]) -> Any:
        if settings.bridge_accounts and event["path"].endswith(PATHS):
            return None
        refusal = check_head(event, access)
        if refusal is None:
            return None
        log.write("WARN", "refused", statusCode=refusal.status, message=refusal.reason)
        return refuse(refusal)

    return check


class TimedLog(io.TextIOBase):
    """Adds the time to each line, which the platform's log would add."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # Not ``splitlines``, which also ends a line at U+2028 and others that names in messages may hold.
        for line in io.StringIO(text):
            is_object = line.startswith('{"')
            self._stream.write(
                f'{{"time":"{time}",{line[1:]}' if is_object else f"{time} {line}" if line.strip() else line
            )
        return len(text)

    def flush(self) -> None:
        # It is flushed again when it is collected, possibly after its target was closed.
        if not self._stream.closed:
            self._stream.flush()


def _described(url: str, settings: Settings, page_url: str | None) -> str:
    """The same as ``_welcome``, for programs."""
    is_open = {"payloads": bool(settings.http_token), "bridge": bool(settings.bridge_accounts)}
    return json.dumps({"url": url, "page": page_url, "open": is_open})


def _welcome(url: str, settings: Settings, page_url: str | None) -> str:
    points = "open" if settings.http_token else "closed (set MF_HTTP_TOKEN)"
    bridge = "open" if settings.bridge_accounts else "closed (set MF_BRIDGE_ACCOUNTS)"
    page = f"\nRequests and outcomes are shown on a page: {page_url}" if page_url else ""
    spool = (
        "\nMF_SPOOL is set, and serve never replays the spool: run metric-forwarder replay regularly."
        if settings.spool
        else ""
    )
    return (
        f"The function listens on {url} until interrupted (Ctrl-C).\n"
        f"Payloads by POST: {points}. Clients of the receiver, at {url}/v2/index.php: {bridge}.{page}{spool}"
    )
