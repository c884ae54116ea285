"""An emulated PutMonitorData receiver, to which tests, ``make run`` and the command line send points.

It refuses the requests that the real receiver's document says are refused, with the documented return codes. It keeps the
points that it accepts, and fails on demand::

    emulator      runs it: in a thread of a test, or as a program
    server        listens; server_log: its log
    protocol      the protocol's paths: requests, and the replies
    control       its own interface under ``/-/``
    page          the page, and the guard against other pages; its files are in ``web/``
    receiver      the decision about a request
    faults        what can go wrong on demand
    limits        limits that depend on earlier requests
    store, activity
                  the points and requests that it holds; those that the page shows
    options       what can be set

The rules of the protocol are in ``metric_forwarder.put_monitor_data.server``.
"""

from receiver_emulator.emulator import Emulator, serve
from receiver_emulator.faults import FaultError
from receiver_emulator.options import (
    EXAMPLE_ACCOUNTS,
    EXAMPLE_SECRET_ID,
    EXAMPLE_SECRET_KEY,
    EmulatorOptions,
)
from receiver_emulator.store import RequestRecord, StoredPoint

__all__ = [
    "EXAMPLE_ACCOUNTS",
    "EXAMPLE_SECRET_ID",
    "EXAMPLE_SECRET_KEY",
    "Emulator",
    "EmulatorOptions",
    "FaultError",
    "RequestRecord",
    "StoredPoint",
    "serve",
]
