"""Instances of the function, each a process of its own that can be killed, and a receiver in a process of its own."""

import json
import multiprocessing
import os
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from metric_forwarder.bootstrap import Application
from receiver_emulator import EmulatorOptions, serve
from support.harness import CONTEXT, environ, report_of

# Forked from a small process that has the imports behind it: a start takes milliseconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", "metric_forwarder.bootstrap", "metric_forwarder.dedupe.redis", "receiver_emulator"]
)


class Receiver:
    """The emulated receiver in another process, seen through its HTTP interface."""

    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/v2/index.php"
        self._points_url = f"{base_url}/-/points"

    def arrived(self) -> Counter[float]:
        """How often each value arrived."""
        with urllib.request.urlopen(self._points_url, timeout=30) as response:
            points = json.load(response)
        return Counter(point["value"] for point in points)

    def forget(self) -> None:
        """Forget what arrived."""
        with urllib.request.urlopen(
            urllib.request.Request(self._points_url, method="DELETE"), timeout=30
        ) as response:
            response.read()


@contextmanager
def receiver_process(latency_s: float = 0.0) -> Iterator[Receiver]:
    """Run a receiver."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_receive, args=(theirs, latency_s), daemon=True)
    process.start()
    try:
        yield Receiver(ours.recv())
    finally:
        process.terminate()
        process.join()
        ours.close()
        theirs.close()


def _receive(connection: Connection, latency_s: float) -> None:
    serve(EmulatorOptions(latency_s=latency_s), connection.send)


class Instance:
    """A warm instance: hand it an event, then wait for the report, or kill it."""

    def __init__(self, **settings: str) -> None:
        self._ours, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()
        assert self._ours.recv() == "ready"

    def invoke(self, event: Any, time_limit_ms: int = 60_000, **context: Any) -> None:
        """Hand over an event; its report is read with ``report``."""
        self._ours.send((event, {**CONTEXT, **context, "time_limit_in_ms": time_limit_ms}))

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = self._ours.recv()
        return report

    def has_reported(self, within_s: float) -> bool:
        return self._ours.poll(within_s)

    def kill(self) -> None:
        """``kill -9``; also the way to end it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()


def _serve(connection: Connection, settings: dict[str, str]) -> None:
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    application = Application(environ(**settings))
    connection.send("ready")
    while True:
        try:
            event, context = connection.recv()
        except EOFError:
            return
        connection.send(report_of(application, event, context=context))
