"""The data of ``serve --page-port``: the function's log and the settled points, in the form of the emulator's page."""

import io
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from metric_forwarder.model import Point
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import WirePoint
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.reporting.log import LEVELS
from receiver_emulator.activity import Activity, SeenRequest
from receiver_emulator.page import add_page, guard

# Points of an event that the page shows at most.
_POINTS_PER_EVENT = 5_000
_LINE_HEAD = 60
# Has an option of its own, and does not depend on the level.
_ACCESS = '"event":"access"'
_SHOWN = ('"event":"report"', '"event":"request"')


class ServePage:
    """Collects what the page shows.

    Args:
        try_commands: command lines that send a point.
    """

    def __init__(self, try_commands: Sequence[str]) -> None:
        self._activity = Activity()
        self._numbers = itertools.count(1)
        self._try_commands = try_commands

    def settled(self, points: Sequence[Point], ledger: Ledger) -> None:
        """Record an event's valid points and their outcomes."""
        groups: dict[tuple[str, str], list[WirePoint]] = {}
        for point in points[-_POINTS_PER_EVENT:]:
            outcome = ledger.outcome(point.number)
            if outcome is not None:
                row = WirePoint(
                    dimensions=dict(point.series.dimensions),
                    metricName=point.series.metric,
                    value=point.value,
                )
                groups.setdefault((point.series.namespace, outcome.value), []).append(row)
        now = time.time()
        for (namespace, state), rows in groups.items():
            self._activity.add_points(now, namespace, rows, state)

    def logged(self, text: str) -> None:
        """Record a line of the function's log."""
        if not any(event in text[:_LINE_HEAD] for event in _SHOWN):
            return
        line = json.loads(text)
        if line["event"] == "report":
            self._activity.add_report(line)
        else:
            self._activity.put_request(_request(line, next(self._numbers)))

    def application(self, host: str) -> web.Application:
        """Make the application that serves the page at that address."""
        app = web.Application(middlewares=[guard(host)])
        add_page(
            app,
            lambda _request, run, after: {
                "source": "serve",
                **self._activity.read(run, after),
                "try": list(self._try_commands),
            },
        )
        return app


def _request(line: Mapping[str, Any], number: int) -> SeenRequest:
    reply, code = str(line["reply"]), line["code"]
    is_success = reply in ("0", "written") or (code is not None and 200 <= code <= 299)  # noqa: PLR2004 - HTTP's successes
    return {
        "number": number,
        "at": time.time(),
        "points": line["points"],
        "namespace": None,
        "bytes": None,
        "fault": None,
        "answer": reply,
        "ok": is_success,
        "meaning": _meaning(reply),
        "ms": line["durationMs"],
    }


def _meaning(reply: str) -> str:
    """The meaning of a return code of the receiver; empty for a success and for other replies."""
    codes = {str(int(code)): code.meaning for code in ReturnCode if code}
    return codes.get(reply, "")


class PageLog(io.TextIOBase):
    """The function's log on its way to a stream: the page gets every line, the stream those of a level or above.

    Args:
        page: what is shown.
        level: of the settings.
        stream: where the log goes.
    """

    def __init__(self, page: ServePage, level: str, stream: io.TextIOBase) -> None:
        self._page = page
        self._stream = stream
        self._hidden = tuple(f'{{"level":"{name}"' for name in LEVELS[: LEVELS.index(level)])

    def write(self, text: str) -> int:
        self._page.logged(text)
        is_hidden = text.startswith(self._hidden) and _ACCESS not in text[:_LINE_HEAD]
        return len(text) if is_hidden else self._stream.write(text)

    def flush(self) -> None:
        # It is flushed again when it is collected, possibly after its target was closed.
        if not self._stream.closed:
            self._stream.flush()
