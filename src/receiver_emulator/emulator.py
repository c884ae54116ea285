"""Run the receiver: in a thread beside a test, or as a program of its own."""

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from metric_forwarder.put_monitor_data.server import PATHS
from receiver_emulator.faults import FaultKind, FaultPlan, When, parse_fault
from receiver_emulator.options import EmulatorOptions
from receiver_emulator.receiver import EmulatedReceiver, build_plan, build_receiver
from receiver_emulator.server import listen
from receiver_emulator.store import RequestRecord, Store, StoredPoint


class Emulator:
    """A receiver in its own thread; a context manager. Every method may be called from any thread.

    After it has stopped, what it received can still be read. It can be started again, on the same port: it keeps its
    points, requests and remaining faults.

    Example:
        ``with Emulator() as receiver: requests.post(receiver.url, …); receiver.points()``
    """

    def __init__(self, options: EmulatorOptions | None = None) -> None:
        self.options = options or EmulatorOptions()
        self._store = Store()
        self._plan = build_plan(self.options)
        self._port = self.options.port
        self._running: _Running | None = None

    def __enter__(self) -> "Emulator":  # noqa: PYI034 -- typing.Self came after Python 3.10
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen; returns as soon as connections are accepted. Raises ``OSError`` if the port is in use."""
        if self._running is None:
            self._running = _Running(self.options, self._store, self._plan, self._port)
            try:
                self._port = self._running.start()
            except OSError:
                self._running = None
                raise

    def stop(self) -> None:
        """Close every connection, also those that a fault keeps open, and wait until they are closed."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    @property
    def base_url(self) -> str:
        """The address ``http://host:port`` of the last start."""
        if not self._port:
            raise RuntimeError("the emulator has no port before it is started")
        return _base_url(self.options.host, self._port)

    @property
    def url(self) -> str:
        """The address to which points are sent, with the newer of the protocol's two paths."""
        return self.base_url + PATHS[0]

    def points(self) -> list[StoredPoint]:
        """Return the points held, oldest first."""
        return self._store.points()

    def requests(self) -> list[RequestRecord]:
        """Return a record of every request to a path of the protocol or an unknown path, oldest first."""
        return self._store.requests()

    def report(self, report: Mapping[str, Any]) -> None:
        """Show the function's report of an event on the page."""
        self._store.activity.add_report(report)

    def clear(self) -> None:
        """Remove points and requests; faults stay."""
        self._store.clear()

    def fault(
        self,
        kind: FaultKind,
        value: object = None,
        *,
        times: int | None = 1,
        rate: float = 1.0,
        when: When | None = None,
        match: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Add a fault to the plan; the module ``faults`` explains each argument. Raises ``FaultError``."""
        given: dict[str, Any] = {"fault": kind, "times": times, "rate": rate}
        optional = {"value": value, "when": when, "match": match, "headers": headers}
        given |= {name: member for name, member in optional.items() if member is not None}
        for name in ("match", "headers"):
            if name in given:
                given[name] = dict(given[name])
        self._plan.add(parse_fault(given))

    def faults(self) -> list[dict[str, Any]]:
        """Return the descriptions of the faults that remain."""
        return self._plan.pending()

    def clear_faults(self) -> None:
        """Remove the faults that remain; a request that hangs continues to hang."""
        self._plan.clear()


class _Running:
    """The receiver from one start to the next stop."""

    def __init__(self, options: EmulatorOptions, store: Store, plan: FaultPlan, port: int) -> None:
        self._options, self._store, self._plan, self._port = options, store, plan, port
        self._started: Future[tuple[asyncio.AbstractEventLoop, EmulatedReceiver, int]] = Future()
        self._thread = threading.Thread(target=self._run, name="receiver-emulator", daemon=True)

    def start(self) -> int:
        """Return the port; raises ``OSError``."""
        self._thread.start()
        return self._started.result()[2]

    def stop(self) -> None:
        loop, receiver, _ = self._started.result()
        loop.call_soon_threadsafe(receiver.stopping.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        receiver = build_receiver(self._options, self._store, self._plan)
        try:
            listening = await listen(receiver, self._port)
        except BaseException as error:  # noqa: BLE001 -- the thread that waits for the start raises it
            self._started.set_exception(error)
            return
        self._started.set_result((asyncio.get_running_loop(), receiver, listening.port))
        await receiver.stopping.wait()
        await listening.close()


def serve(
    options: EmulatorOptions,
    on_listening: Callable[[str], None] | None = None,
    on_answered: Callable[[RequestRecord], None] | None = None,
) -> None:
    """Run the receiver in this thread, the main one, until SIGINT or SIGTERM.

    Args:
        options: how to listen and what to accept.
        on_listening: called once with the base URL, when connections are accepted.
        on_answered: called with the record of each request to a path of the protocol or an unknown path.

    Raises:
        OSError: the port is in use, or the address does not belong to this machine.
    """
    asyncio.run(_serve_until_signal(options, on_listening, on_answered))


async def _serve_until_signal(
    options: EmulatorOptions,
    on_listening: Callable[[str], None] | None,
    on_answered: Callable[[RequestRecord], None] | None,
) -> None:
    receiver = build_receiver(options, Store(), build_plan(options))
    receiver.on_answered = on_answered
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, receiver.stopping.set)
    listening = await listen(receiver, options.port)
    if on_listening is not None:
        on_listening(_base_url(options.host, listening.port))
    await receiver.stopping.wait()
    await listening.close()


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
