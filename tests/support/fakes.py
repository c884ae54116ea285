"""Stand-ins with real behaviour: a clock that nobody waits for, and the receiver's protocol without its sockets."""

import os
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from urllib.parse import urlsplit

from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest
from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.destinations.remote_write_proof import EMPTY_BODY, UNREADABLE_BODY
from metric_forwarder.machine import Event, Machine, Tasks, Threads
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    PutRequest,
    Refusal,
    RequestLimits,
    WirePoint,
    authenticate,
    check_points,
    encode_reply,
    parse_request,
    refuse,
)
from metric_forwarder.triggers.decoding import ObjectName, StoredObject
from receiver_emulator import EXAMPLE_ACCOUNTS
from support.patience import GRACE_S
from support.remote_write_decoder import DecodedSeries, decode

Answer = HttpReply | Failure
START = 1_767_225_600.0


class FakeClock:
    """Time passes when somebody sleeps, and at once."""

    def __init__(self, start: float = START) -> None:
        self._now = 0.0
        self._start = start
        self._wrong_by = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._start + self._now + self._wrong_by

    def set_wrong_by(self, seconds: float) -> None:
        """Let the wall clock be ahead by so much, and the monotonic one be right."""
        self._wrong_by = seconds

    def process_time(self) -> float:
        """Nothing that is timed with this clock computes."""
        return 0.0

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds
            self.slept.append(seconds)


class KnownChance:
    """Draws what a function makes of the ceiling, 0 unless told otherwise; its tokens come from the system."""

    def __init__(self, draw: Callable[[float], float] = lambda _: 0.0) -> None:
        self.below = draw

    def token(self, size: int) -> bytes:
        return os.urandom(size)


def seeded_draw() -> Callable[[float], float]:
    """Draws uniformly, and the same in each run."""
    draw = random.Random(1).random
    return lambda ceiling: draw() * ceiling


class _PatientEvent(threading.Event):
    """Waits until it is set, however busy the machine is; a wait of milliseconds is only a look, and ends when it is over."""

    def wait(self, timeout: float | None = None) -> bool:
        is_look = timeout is not None and timeout < _LONGEST_LOOK_S
        return super().wait(timeout if is_look else GRACE_S)


_LONGEST_LOOK_S = 0.1


class PatientThreads(Threads):
    """The threads beside a clock that stands still while they work: real time may not end a wait for them."""

    def event(self) -> Event:
        return _PatientEvent()


def machine_of(
    clock: Clock, draw: Callable[[float], float] = lambda _: 0.0, tasks: Tasks | None = None
) -> Machine:
    """A machine with real threads, this clock, and what is drawn by chance.

    Beside a ``FakeClock`` its threads are patient. Where one hangs on purpose, hand in ``Threads`` as ``tasks``: they give up
    when the time is over.
    """
    if tasks is None:
        tasks = PatientThreads() if isinstance(clock, FakeClock) else Threads()
    return Machine(clock, tasks, KnownChance(draw))


class AnyObject:
    """An ``ObjectSource``: whatever is asked for, it holds this, which comes in pieces of so many bytes."""

    def __init__(self, content: bytes = b"", step: int = 65_536) -> None:
        self.content, self._step = content, step

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        assert name.bucket.isascii()
        assert deadline.remaining() >= 0
        starts = range(0, len(self.content), self._step)
        pieces = (self.content[start : start + self._step] for start in starts)
        return StoredObject("v", pieces, lambda: None)


class InProcessReceiver:
    """A ``Transport`` that is the receiver: it checks signatures, refuses what the protocol refuses, keeps points.

    Attributes:
        script: what the next requests meet, one entry each: None processes the request, a return code refuses it, a
            reply or a failure is the answer as it is, a callable decides.
        refuse_if: asked for every request that is otherwise fine.
        points: what was stored, oldest first.
        latency_s: passes on the clock with every request.
        clock_offset_s: how far the receiver's clock is ahead.
    """

    def __init__(self, clock: FakeClock, accounts: Mapping[str, str] = EXAMPLE_ACCOUNTS) -> None:
        self._clock = clock
        self._accounts = dict(accounts)
        self._lock = threading.Lock()
        self.script: deque[Answer | ReturnCode | Callable[[HttpRequest], Answer] | None] = deque()
        self.refuse_if: Callable[[PutRequest], ReturnCode | None] = lambda _: None
        self.limits = RequestLimits()
        self.latency_s = 0.0
        self.clock_offset_s = 0.0
        self.clock_tolerance_s = 7200.0
        self.points: list[tuple[str, WirePoint]] = []
        self.batches: list[tuple[str, list[WirePoint]]] = []
        self.requests: list[HttpRequest] = []
        self.timeouts: list[float] = []
        self._keeps = True

    def keep_nothing(self) -> None:
        """Answer from now on without remembering anything, for tests that count memory."""
        self._keeps = False

    def replace_accounts(self, accounts: Mapping[str, str]) -> None:
        """Revoke every key and accept these from now on."""
        self._accounts = dict(accounts)

    def send(self, request: HttpRequest, timeout_s: float) -> Answer:
        with self._lock:
            if not self._keeps:
                return self.answer(None)
            self.requests.append(request)
            self.timeouts.append(timeout_s)
            self._clock.sleep(self.latency_s)
            step = self.script.popleft() if self.script else None
            if step is None:
                return self.process(request)
            if isinstance(step, ReturnCode):
                return self.answer(refuse(step, "as told"))
            return step(request) if callable(step) else step

    def process(self, request: HttpRequest) -> HttpReply:
        """Judge and store, as a request without a fault is."""
        parts = urlsplit(request.url)
        parsed = parse_request(request.method, parts.path, parts.query, request.body or b"")
        return self.answer(parsed if isinstance(parsed, Refusal) else self._take(parsed))

    def answer(self, refusal: Refusal | None, **headers: str) -> HttpReply:
        """The HTTP reply to a refusal, or to success."""
        date = formatdate(self._clock.time() + self.clock_offset_s, usegmt=True)
        return HttpReply(200, {"Date": date, **headers}, encode_reply(refusal))

    def _take(self, request: PutRequest) -> Refusal | None:
        now = self._clock.time() + self.clock_offset_s
        refusal = authenticate(request, self._accounts, now, tolerance_s=self.clock_tolerance_s)
        refusal = refusal or check_points(request, self.limits)
        if refusal is None:
            code = self.refuse_if(request)
            refusal = None if code is None else refuse(code, "as told")
        if refusal is None:
            self.batches.append((request.namespace, list(request.data)))
            self.points += [(request.namespace, point) for point in request.data]
        return refusal


class InProcessPrometheus:
    """A ``Transport`` that takes remote write as Prometheus does without an out-of-order window.

    A sample older than the newest of its series is refused, and so is another value at the newest one's time; the same
    value there is taken and changes nothing.

    Attributes:
        script: what the next requests meet, one entry each: None processes the request, a reply or a failure is the
            answer as it is, a callable decides.
        proofs: the requests that no remote write can read; they are answered without the script.
        proof_answer: how they are answered.
        empty_requests: those without series; they are answered without the script.
        empty_answer: how they are answered.
        refuse_if: asked for every series of a request that is otherwise fine; such a series is refused.
        is_partial: whether a refused request's good samples are stored, as newer Prometheus and Mimir do.
        samples: what was stored: labels → (Unix milliseconds, value), in the order of arrival.
    """

    def __init__(self, clock: FakeClock, *, is_partial: bool = False) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.script: deque[Answer | Callable[[HttpRequest], Answer] | None] = deque()
        self.refuse_if: Callable[[DecodedSeries], bool] = lambda _: False
        self.is_partial = is_partial
        self.samples: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = {}
        self.requests: list[HttpRequest] = []
        self.proofs: list[HttpRequest] = []
        self.empty_requests: list[HttpRequest] = []
        self.empty_answer: Answer = HttpReply(204, {}, b"")
        self.proof_answer: Answer = HttpReply(400, {}, b"snappy: corrupt input")

    def send(self, request: HttpRequest, timeout_s: float) -> Answer:
        del timeout_s
        with self._lock:
            if request.body == EMPTY_BODY:
                self.empty_requests.append(request)
                return self.empty_answer
            if request.body == UNREADABLE_BODY:
                self.proofs.append(request)
                return self.proof_answer
            self.requests.append(request)
            step = self.script.popleft() if self.script else None
            if step is None:
                return self.process(request)
            return step(request) if callable(step) else step

    def process(self, request: HttpRequest) -> HttpReply:
        """Judge and store, as a request without a fault is."""
        told = ""
        good = []
        for series in decode(request.body or b""):
            refusal = "invalid series" if self.refuse_if(series) else self._refusal(series)
            told = told or refusal
            if not refusal:
                good.append(series)
        if not told or self.is_partial:
            for series in good:
                held = self.samples.setdefault(series.labels, [])
                held += [sample for sample in series.samples if sample not in held[-1:]]
        date = {"Date": formatdate(self._clock.time(), usegmt=True)}
        return HttpReply(400 if told else 204, date, told.encode())

    def _refusal(self, series: DecodedSeries) -> str:
        held = self.samples.get(series.labels)
        if not held:
            return ""
        newest, value = held[-1]
        for time_ms, other in series.samples:
            if time_ms < newest:
                return "out of order sample"
            if time_ms == newest and repr(other) != repr(value):
                return "duplicate sample for timestamp"
        return ""
