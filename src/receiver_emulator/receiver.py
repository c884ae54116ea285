"""The receiver itself: what it decides about a request, and what it notes of it. It does not know how replies are written."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from aiohttp import web

from metric_forwarder.put_monitor_data.server import PutRequest, Refusal, authenticate, check_points
from receiver_emulator.faults import FaultPlan
from receiver_emulator.limits import Usage
from receiver_emulator.options import LIMITS, EmulatorOptions
from receiver_emulator.store import RequestRecord, Store

_DISCONNECT_POLL_S = 0.02


class Client(Protocol):
    """The part of a request that shows whether its client is still connected: if not, ``transport`` is None."""

    @property
    def transport(self) -> object | None: ...


@dataclass
class Exchange:
    """A request on its way through the receiver; ``started`` is by the monotonic clock."""

    request: web.Request
    parsed: PutRequest | Refusal
    record: RequestRecord
    started: float


@dataclass
class EmulatedReceiver:
    """Decides about requests.

    ``stopping`` ends every wait. ``on_answered`` is called for each request as soon as its reply is known.
    """

    options: EmulatorOptions
    store: Store
    plan: FaultPlan
    usage: Usage
    stopping: asyncio.Event
    connections: "WeakKeyDictionary[object, int]" = field(default_factory=WeakKeyDictionary)
    connection_count: int = 0
    on_answered: Callable[[RequestRecord], None] | None = None

    def now(self) -> float:
        return time.time() + self.options.clock_offset_s

    def connection_number(self, request: web.Request) -> int:
        """Return the number of the request's TCP connection, from 1; 0 if it is closed already."""
        if request.transport is None:
            return 0
        number = self.connections.get(request.transport)
        if number is None:
            self.connection_count += 1
            number = self.connections[request.transport] = self.connection_count
        return number

    def put(self, exchange: Exchange) -> Refusal | None:
        """Process a request: keep its points, or return why they are refused."""
        request = exchange.parsed
        if isinstance(request, Refusal):
            return request
        now = self.now()
        refusal = self._check(request, now)
        if refusal is None:
            self.usage.count_points(request, now)
            self.store.keep(exchange.record, request, now)
        return refusal

    def _check(self, request: PutRequest, now: float) -> Refusal | None:
        options = self.options
        return (
            authenticate(request, options.accounts, now, tolerance_s=options.clock_tolerance_s)
            or self.usage.admit(request, now)
            or check_points(request, options.request_limits, options.catalogue)
            or self.usage.check_period(request, now)
        )

    def settle(self, exchange: Exchange, *, code: int | None, status: int) -> None:
        """Note the reply to a request, before the reply is sent."""
        ms = (time.monotonic() - exchange.started) * 1000
        if isinstance(exchange.parsed, PutRequest) and not exchange.record["stored"]:
            self.store.refuse(exchange.parsed, self.now())
        self.store.settle(exchange.record, code=code, status=status, ms=ms)
        self.tell(exchange)

    def tell(self, exchange: Exchange) -> None:
        """Call ``on_answered`` for a request."""
        if self.on_answered:
            self.on_answered(exchange.record)

    def limits(self) -> dict[str, float | None]:
        """Return the limits that can be set while the receiver runs, by their names in the interface."""
        return {name: getattr(self.options, option) for name, (option, _) in LIMITS.items()}

    def set_limits(self, limits: Mapping[str, float | None]) -> None:
        """Set some of these limits; None means no limit."""
        changed: dict[str, Any] = {LIMITS[name][0]: limit for name, limit in limits.items()}
        self.options = self.usage.options = replace(self.options, **changed)

    async def wait(self, seconds: float | None, request: Client | None = None) -> None:
        """Wait for some seconds (None: no limit), until the receiver stops, or until the client of ``request`` disconnects."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.stopping.is_set() and not (request is not None and request.transport is None):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            # aiohttp could cancel the handler when the client disconnects. But a slow receiver does process requests whose
            # clients have disconnected.
            polls = [] if request is None else [_DISCONNECT_POLL_S]
            pauses = polls + ([] if left is None else [left])
            await _wait_for(self.stopping, min(pauses, default=None))


async def _wait_for(event: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return


RECEIVER: web.AppKey[EmulatedReceiver] = web.AppKey("receiver", EmulatedReceiver)
"""Where the handlers of an application find the receiver."""


def build_receiver(options: EmulatorOptions, store: Store, plan: FaultPlan) -> EmulatedReceiver:
    """Return the receiver; call it in the event loop that the receiver will run in."""
    return EmulatedReceiver(options, store, plan, Usage(options), asyncio.Event())


def build_plan(options: EmulatorOptions) -> FaultPlan:
    return FaultPlan(random.Random(options.seed))
