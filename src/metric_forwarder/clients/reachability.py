"""Checks whether hosts can be reached from here: looks up their names, and connects to their ports."""

import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from metric_forwarder.clock import Deadline
from metric_forwarder.machine import Empty, Machine, Queue

_SIDE_BY_SIDE = 32


def addresses(host: str, port: int | None) -> list[str]:
    """The addresses of a host, sorted; empty if its name is not known here."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(entry[4][0]) for entry in found})


def connection_failure(host: str, port: int, timeout_s: float) -> str | None:
    """Why a TCP connection cannot be made; None if it can."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError as error:
        return error.strerror or "no answer in time"
    return None


def unreachable(hosts: Sequence[str], machine: Machine, timeout_s: float, all_s: float) -> dict[str, str]:
    """Check many hosts, each as host or host:port, in parallel.

    Args:
        hosts: for a host without a port, only its name is looked up.
        machine: its threads look.
        timeout_s: how long each connection may take.
        all_s: how long all may take together, even if a name server never answers.

    Returns:
        Host → why it cannot be reached; hosts that can be reached are left out.
    """
    waiting, found = deque(hosts), machine.tasks.queue()
    started = 0
    try:
        for _ in range(min(_SIDE_BY_SIDE, len(hosts))):
            machine.tasks.start("reachability", partial(_look, waiting, found, timeout_s))
            started += 1
    except RuntimeError:
        # As many threads as there are will do.
        if not started:
            return dict.fromkeys(
                hosts, "was not tried: no thread could be started; raise the function's memory"
            )
    return _collect(hosts, found, Deadline(machine.clock, machine.clock.monotonic() + all_s))


def _look(waiting: deque[str], found: Queue, timeout_s: float) -> None:
    while True:
        try:
            host = waiting.popleft()
        except IndexError:
            return
        found.put((host, _failure(host, timeout_s)))


def _failure(host: str, timeout_s: float) -> str | None:
    parts = urlsplit(f"//{host}")
    name, port = parts.hostname or "", parts.port
    if not addresses(name, port):
        return "has no address here"
    failure = None if port is None else connection_failure(name, port, timeout_s)
    return failure and f"accepts no connection ({failure})"


def _collect(hosts: Sequence[str], found: Queue, deadline: Deadline) -> dict[str, str]:
    failures: dict[str, str | None] = dict.fromkeys(hosts, "gave no answer in time")
    for _ in hosts:
        try:
            host, failure = found.get(timeout=deadline.remaining())
        except Empty:
            break
        failures[host] = failure
    return {host: failure for host, failure in failures.items() if failure is not None}
