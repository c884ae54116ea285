"""The function as the platform runs it, in this process: its entry file, an event, a context, a reply."""

import contextlib
import importlib.util
import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.settings.settings import PREFIX, Settings

# The default namespace and name of the function.
FUNCTION = "default/metric-forwarder"
ENTRY = Path(__file__).parents[2] / "index.py"
_LINE_HEAD = 40
_REPORT_LINE = '"event":"report"'
_COMPLETE = frozenset({"ok", "empty"})

Handler = Callable[[Any, Any], Any]


class Invocation(NamedTuple):
    """The result of an event.

    Attributes:
        report: the report, whether it was returned, raised or sent as the body of an HTTP reply.
        http_status: of an HTTP reply; None if there was none.
        raised: whether the platform would redeliver the event.
    """

    report: dict[str, Any]
    http_status: int | None = None
    raised: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every point was delivered, now or earlier."""
        return self.report.get("status") in _COMPLETE and not self.raised


class PointsApart(io.TextIOBase):
    """Standard output of the function: points go to one stream, lines of the log to another."""

    def __init__(self, points: TextIO, log: io.TextIOBase | TextIO) -> None:
        from metric_forwarder.destinations.stdout import POINT_LINE

        self._points = points
        self._log = log
        self._point_line = POINT_LINE

    def write(self, text: str) -> int:
        # The log writes a line at a time, and a destination that prints writes whole lines of points.
        return (self._points if text.startswith(self._point_line) else self._log).write(text)

    def flush(self) -> None:
        # It is flushed again when it is collected, possibly after its target was closed.
        if not self._points.closed:
            self._points.flush()


@contextlib.contextmanager
def report_stream() -> Iterator[None]:
    """Redirect printing in this block to standard error if points go to standard output, so that a pipe gets only points."""
    settings, _ = Settings.collect(os.environ, to_send=False)
    if not settings.kind.prints:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def load_handler(entry: Path = ENTRY) -> Handler:
    """Load the entry file as the platform's runner does, by its path: a new instance, as after a cold start."""
    spec = importlib.util.spec_from_file_location("scf_entry", entry)
    if spec is None or spec.loader is None:
        raise ImportError(f"{entry} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = module.main_handler
    return handler


def make_context(environ: Mapping[str, str], time_limit_s: float) -> dict[str, Any]:
    """Make the context of one invocation; its members are the platform's, secrets included.

    Args:
        environ: all environment variables; only those of settings are passed to the function.
        time_limit_s: seconds, as ``timeout`` in serverless.yml.
    """
    namespace, _, function_name = FUNCTION.partition("/")
    own = {name: value for name, value in sorted(environ.items()) if name.startswith(PREFIX)}
    return {
        "request_id": str(uuid.uuid4()),
        "function_name": function_name,
        "function_version": "$LATEST",
        "namespace": namespace,
        "memory_limit_in_mb": 128,
        "time_limit_in_ms": round(time_limit_s * 1000),
        "environ": ";".join(f"{name}={value}" for name, value in own.items()),
        "environment": json.dumps(own),
        "tencentcloud_region": environ.get("TENCENTCLOUD_REGION", ""),
        "tencentcloud_appid": "1250000000",
        "tencentcloud_uin": "100000000001",
    }


def invoke_handler(
    handler: Handler, event: Any, context: Mapping[str, Any], log: TextIO | None = None
) -> Invocation:
    """Invoke the function; its log goes to ``log`` (default: standard error), points that it prints do not.

    Raises:
        ConfigError: settings cannot work.
        UnknownTrigger: the event's kind is unknown.
    """
    kept = _ReportKept(log or sys.stderr)
    with contextlib.redirect_stdout(PointsApart(sys.stdout, kept)):
        try:
            return _read_reply(handler(event, context), kept.report)
        except DeliveryIncomplete as incomplete:
            return Invocation(incomplete.report, raised=True)


class _ReportKept(io.TextIOBase):
    """Passes the log on, and keeps its report, since the reply in a client's protocol may not contain one."""

    def __init__(self, log: io.TextIOBase | TextIO) -> None:
        self._log = log
        self.report: dict[str, Any] | None = None

    def write(self, text: str) -> int:
        # The log writes a line at a time, its level and its event first.
        if _REPORT_LINE in text[:_LINE_HEAD]:
            members = json.loads(text)
            self.report = {name: members[name] for name in members if name not in ("level", "event")}
        return self._log.write(text)

    def flush(self) -> None:
        # It is flushed again when it is collected, possibly after its target was closed.
        if not self._log.closed:
            self._log.flush()


def _read_reply(reply: Any, logged: dict[str, Any] | None) -> Invocation:
    if not (isinstance(reply, dict) and "statusCode" in reply):
        return Invocation(reply)
    status = int(reply["statusCode"])
    try:
        body = json.loads(reply["body"])
    except ValueError:
        body = None
    if isinstance(body, dict) and "status" in body:
        return Invocation(body, http_status=status)
    # The reply is in a client's own protocol, which says little about the points.
    is_success = status < 300  # noqa: PLR2004 - the statuses of success
    unknown = {"status": "ok" if is_success else "failed", "message": f"answered with HTTP {status}"}
    return Invocation(logged or unknown, http_status=status)
