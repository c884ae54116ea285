"""The function behind its own HTTP front, in this process, for clients that speak HTTP to it."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.http_server import HttpServer, Stop, listen, serve_until

_TIME_LIMIT_S = 10.0


class Answered(NamedTuple):
    """A request that was answered."""

    path: str
    status: int


class ApplicationServer:
    """One instance on a free port of this machine, as ``metric-forwarder serve`` runs it; a context manager.

    Attributes:
        url: its base.
        answered: every request so far, in the order of the answers.
    """

    def __init__(self, application: Application, *, time_limit_s: float = 60) -> None:
        self._application = application
        self._time_limit_ms = round(time_limit_s * 1000)
        self.answered: list[Answered] = []
        self._listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._started = threading.Event()
        self._stop: Callable[[], object] = lambda: None

    def __enter__(self) -> "ApplicationServer":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.join()

    def statuses(self, path: str) -> list[int]:
        """What was answered to requests of a path that begins so."""
        return [each.status for each in self.answered if each.path.startswith(path)]

    def _handle(self, event: Any, context: Any) -> Any:
        reply = self._application.handle(event, context)
        self.answered.append(Answered(event["path"], reply["statusCode"]))
        return reply

    async def _serve(self) -> None:
        loop, stop = asyncio.get_running_loop(), Stop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.ask, 0)
        self._started.set()
        server = HttpServer([self._handle], self._context)
        await serve_until(stop, server, self._listener, _TIME_LIMIT_S)

    def _context(self) -> dict[str, Any]:
        return {"request_id": str(uuid.uuid4()), "time_limit_in_ms": self._time_limit_ms}
