"""An emulated PutMonitorData receiver: what tests, ``make run`` and the command line send points to.

It refuses what the real receiver's document says is refused, with the documented return codes, keeps what it
accepts, and fails on demand. ``options`` says what can be set, ``faults`` what can go wrong, ``server`` what it
answers, ``emulator`` how to run it. The protocol itself is ``metric_forwarder.put_monitor_data.server``.
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
