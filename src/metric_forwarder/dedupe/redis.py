"""The dedupe store that all instances share: leases and remembered identities in Redis.

One key for each identity, under one hash tag for each function, so that one script may touch many of them on a
cluster too. When an event leases a point, its key gets the token of the event and the point's place in the event's record; the
record says which of its points were delivered, and leases are valid while the event has a key of its own. What else a key may
hold: ``1`` (delivered), ``?`` (its fate is unknown and it must not be sent again), ``refused:`` and a label (the destination
rejected it). All keys expire by themselves. See docs/dedupe.md for the reasons, the memory it takes, and what happens when
Redis fails.
"""

import hashlib
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clients.redis import (
    KEY_PREFIX,
    MAX_REPLY_BYTES,
    NOT_REDIS,
    UNANSWERED,
    Connect,
    Connection,
    RedisUnavailable,
    Script,
)
from metric_forwarder.clock import Deadline
from metric_forwarder.dedupe.redis_deliveries import Deliveries
from metric_forwarder.dedupe.redis_scripts import CLAIM, CONFIRM, LEASE, RELEASE, REMEMBER
from metric_forwarder.dedupe.store import UNKNOWN_REJECTION, Claim, KnownRejection, MemoryStore, with_claim
from metric_forwarder.machine import Future, Machine, Tasks
from metric_forwarder.settings.redis_address import RedisAddress

# Takes the server about 2 ms; while it is a script, other clients wait.
CHUNK = 1000
# A lease outlives the deadline by this: a confirmation may be under way then.
LEASE_SLACK_S = 1.0
# After a failure, no request goes to Redis for this long.
REST_S = 10.0
# Networks drop idle connections silently, and an instance may be frozen for hours.
IDLE_S = 30.0
# The longest of these that is at most an eighth of the event's time; steps, so that a warm connection is kept.
TIMEOUTS_S = (0.5, 0.2, 0.1, 0.05)
# Ten times the usual time of a chunk.
_CHUNK_S = 0.05
# Confirmations wait this long, so that one round trip carries many. If the instance is killed then, their points are sent twice.
LINGER_S = 0.01
# When time is up, the running requests get this much longer.
_GRACE_S = 0.1

TOKEN_BYTES = 8
_DELIVERED, _UNCERTAIN = b"1", b"?"
# It has the length of a token, and scripts take no value that begins so for a lease.
_REJECTED = b"refused:"
_MAX_LABEL = 64
_MAX_CODE_DIGITS = 10
# Reasons for rejections that are kept in full; a destination gives some dozens.
_MAX_REASONS = 200
_OURS = b"o"
_CLAIMS = {
    _OURS[0]: Claim.OURS,
    b"1"[0]: Claim.DELIVERED,
    b"?"[0]: Claim.UNCERTAIN,
    b"r"[0]: Claim.REJECTED,
    b"h"[0]: Claim.HELD,
}
_MARKS = bytes(_CLAIMS)


def key_prefix(function: str) -> bytes:
    """The beginning of a function's keys: short, since each point has it; all keys are in one slot of a cluster."""
    digest = hashlib.blake2b(function.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return f"{KEY_PREFIX}d{{".encode() + urlsafe_b64encode(digest) + b"}"


class RedisStore:
    """Remembers in Redis, and in this instance's memory for when Redis fails.

    Args:
        function: namespace and name of the function whose instances share what they remember.
        window_s: how long an identity is remembered, seconds.
        memory: what this instance delivered, asked first.
        machine: its chance makes the token that identifies the leases of one event.
        connect: makes a connection.
        warn: called once for each event in which Redis failed.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        function: str,
        window_s: float,
        memory: MemoryStore,
        machine: Machine,
        connect: Connect,
        warn: Callable[[str], None],
    ) -> None:
        self._address = address
        self.prefix = key_prefix(function)
        self.window_ms = round(window_s * 1000)
        self.memory = memory
        self.machine = machine
        self._clock = machine.clock
        self._connect = connect
        self._warn = warn
        self._connection: Connection | None = None
        self._used_at = 0.0
        self._stuck: SerialWorker | None = None
        self._rests_until = -math.inf
        self._rejections: dict[bytes, KnownRejection] = {}
        self._event: RedisClaims | None = None

    def begin(self, deadline: Deadline) -> "RedisClaims":
        """Start an event; for some time after a failure, Redis is not used."""
        # A stuck worker keeps its thread; while there is one, no other is started.
        is_stuck = self._stuck is not None and self._stuck.is_busy
        rests = is_stuck or self._clock.monotonic() < self._rests_until
        self._event = RedisClaims(self, deadline, self.machine.chance.token(TOKEN_BYTES), degraded=rests)
        return self._event

    def ask(
        self, form: re.Pattern[bytes], script: Script, key: bytes, *arguments: int
    ) -> re.Match[bytes] | None:
        """Run a script on a key of the function, on behalf of the event under way; see ``RedisClaims.ask``."""
        return self._event.ask(form, script, key, *arguments) if self._event else None

    def connect(self, available_s: float) -> Connection:
        """The connection for an event with this much time: the warm one if it is still good."""
        timeout_s = next((step for step in TIMEOUTS_S if step <= available_s / 8), TIMEOUTS_S[-1])
        now = self._clock.monotonic()
        warm = self._connection
        if warm is None or warm.timeout_s != timeout_s or now - self._used_at > IDLE_S:
            if warm is not None:
                warm.close()
            warm = self._connection = self._connect(self._address, timeout_s, MAX_REPLY_BYTES)
        self._used_at = now
        return warm

    def mark_of(self, rejection: KnownRejection) -> bytes:
        """Return what Redis keeps of a rejection; this instance knows the reason in full when it reads it again."""
        code = "" if rejection.code is None else rejection.code
        label = f"{code} {rejection.label}".encode("ascii", "replace")[:_MAX_LABEL].replace(b"\n", b" ")
        if len(self._rejections) < _MAX_REASONS:
            self._rejections.setdefault(label, rejection)
        return _REJECTED + label

    def known_rejection(self, label: bytes) -> KnownRejection:
        known = self._rejections.get(label)
        if known is not None:
            return known
        code, _, name = label.decode("ascii", "replace").partition(" ")
        is_plain = (
            name.isprintable() and name and len(code) < _MAX_CODE_DIGITS and (code.isdecimal() or not code)
        )
        return KnownRejection(name, int(code) if code else None) if is_plain else UNKNOWN_REJECTION

    def touch(self) -> None:
        """The connection was good until now."""
        self._used_at = self._clock.monotonic()

    def rest(self, reason: str, worker: SerialWorker | None) -> None:
        """Do not use Redis for a while; a worker that is still busy keeps the connection."""
        self._stuck = worker
        self._connection = None
        self._rests_until = self._clock.monotonic() + REST_S
        self._warn(f"{reason}; duplicates are recognised only by this instance's memory")


class RedisClaims:
    """One event's use of the store.

    A worker talks to Redis, so that neither the pipeline nor a lane waits longer than it may. The pipeline waits for a claim,
    but not for outcomes to be remembered; outcomes within a few milliseconds are written together.
    """

    def __init__(self, store: RedisStore, deadline: Deadline, token: bytes, *, degraded: bool) -> None:
        self._store = store
        self._deadline = deadline
        self._token = token
        self._deliveries = Deliveries(token)
        self._lock = store.machine.tasks.lock()
        # Lanes may ask while outcomes are written: only one of them starts the worker.
        self._worker_lock = store.machine.tasks.lock()
        self._degraded = degraded
        self._worker: SerialWorker | None = None
        self._connection: Connection | None = None
        self._reconnected = False
        self._closing = store.machine.tasks.event()
        self._rejections: dict[bytes, KnownRejection] = {}
        # Identities by the mark that is to be written.
        self._unwritten: dict[bytes, list[bytes]] = {}
        self._posted: list[Future[bytes | None]] = []

    @property
    def status(self) -> str:
        return "degraded" if self._degraded else "redis"

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        """Claim what is free; once Redis has failed, every identity that this instance does not know is free.

        Redis is also asked about points that this instance knows as uncertain or rejected: another one may have delivered
        them since.
        """
        remembered = self._store.memory.claim(identities)
        ours = Claim.OURS
        known = {each: claim for each, claim in zip(identities, remembered, strict=True) if claim is not ours}
        asked = (
            [each for each in identities if known.get(each) is not Claim.DELIVERED] if known else identities
        )
        self._ask(asked, known)
        if not known:
            return remembered
        # If Redis fails later, this instance still knows what it was told.
        told = [known.get(each, ours) for each in asked]
        self._store.memory.confirm(with_claim(asked, told, Claim.DELIVERED))
        self._store.memory.mark_uncertain(with_claim(asked, told, Claim.UNCERTAIN))
        # Redis was not asked about these, or has lost them: start their window there again, for other instances.
        self._write_soon(_DELIVERED, with_claim(identities, remembered, Claim.DELIVERED))
        uncertain = with_claim(identities, remembered, Claim.UNCERTAIN)
        uncertain = [identity for identity in uncertain if known[identity] is not Claim.DELIVERED]
        self._write_soon(_UNCERTAIN, uncertain)
        known.update(dict.fromkeys(uncertain, Claim.UNCERTAIN))
        return [known.get(identity, ours) for identity in identities]

    def rejection(self, identity: bytes) -> KnownRejection:
        """Return why a point was rejected: in full if this instance received the rejection itself."""
        return self._rejections.get(identity) or self._store.memory.rejection(identity)

    def _ask(self, asked: Sequence[bytes], known: dict[bytes, Claim]) -> None:
        """Claim in Redis, and put its replies into ``known``, unless all identities are free."""
        deadline = self._deadline.within(2 * TIMEOUTS_S[0] + _CHUNK_S * len(asked) / CHUNK)
        taken: dict[bytes, Claim] = {}
        for chunk in _chunks(asked):
            claims = self._lease(chunk, deadline)
            if known or claims.count(Claim.OURS) < len(claims):
                held = [each for each, claim in zip(chunk, claims, strict=False) if claim is Claim.HELD]
                taken.update((each, known.get(each, Claim.OURS)) for each in held)
                known.update(zip(chunk, claims, strict=False))
        for chunk in _chunks(list(taken)):
            claims = self._claim(chunk, deadline)
            self._deliveries.forget(
                each for each, claim in zip(chunk, claims, strict=False) if claim is not Claim.OURS
            )
            known.update(zip(chunk, claims or map(taken.__getitem__, chunk), strict=True))

    def _lease(self, chunk: Sequence[bytes], deadline: Deadline) -> Sequence[Claim]:
        """Lease what is free; all else is held as far as this says."""
        leases = self._deliveries.leases(chunk)
        reply = self._ask_by(LEASE, chunk, deadline, *self._durations_ms(), b"1", *leases)
        # The first letter is about the event's own key.
        return self._read(chunk, reply[1:] if isinstance(reply, bytes) else reply)

    def _claim(self, chunk: Sequence[bytes], deadline: Deadline) -> Sequence[Claim]:
        """Ask what these are, and lease what is free."""
        leases = self._deliveries.leases(chunk)
        window_ms = self._store.window_ms
        return self._read(
            chunk, self._ask_by(CLAIM, chunk, deadline, *self._durations_ms(), window_ms, *leases)
        )

    def _ask_by(
        self, script: Script, chunk: Sequence[bytes], deadline: Deadline, *arguments: bytes | int
    ) -> bytes | None:
        """Ask Redis about some identities; return nothing if it has failed."""
        if self._degraded:
            return None
        asking = partial(self._run, script, [self._token, *chunk], *arguments)
        return self._wait(self._submit(asking), deadline)

    def _durations_ms(self) -> tuple[int, int]:
        """How long the leases of the event last, and its record: a whole window after the last of its points was delivered."""
        lease_ms = math.ceil((max(0.0, self._deadline.remaining()) + LEASE_SLACK_S) * 1000)
        return lease_ms, lease_ms + self._store.window_ms

    def _read(self, chunk: Sequence[bytes], reply: bytes | None) -> Sequence[Claim]:
        """Read a letter or mark for each identity; return nothing if Redis has failed."""
        if reply is None and self._degraded:
            return ()
        marks, *labels = reply.split(b"\n") if isinstance(reply, bytes) else (b"",)
        if marks.strip(_MARKS) or len(marks) != len(chunk) or marks.count(b"r") != len(labels):
            self._degrade(NOT_REDIS)
            return ()
        claims = [_CLAIMS[mark] for mark in marks] if marks.strip(_OURS) else [Claim.OURS] * len(marks)
        if labels:
            for identity, label in zip(with_claim(chunk, claims, Claim.REJECTED), labels, strict=True):
                self._rejections[identity] = self._store.known_rejection(label)
        return claims

    def confirm(self, identities: Sequence[bytes]) -> None:
        """Remember these: here at once, and in Redis when the worker is free."""
        self._store.memory.confirm(identities)
        self._write_soon(_DELIVERED, identities)

    def mark_uncertain(self, identities: Sequence[bytes]) -> None:
        self._store.memory.mark_uncertain(identities)
        self._write_soon(_UNCERTAIN, identities)

    def mark_rejected(self, identities: Sequence[bytes], rejection: KnownRejection) -> None:
        self._store.memory.mark_rejected(identities, rejection)
        self._write_soon(self._store.mark_of(rejection), identities)

    def release(self, identities: Sequence[bytes]) -> None:
        """Give up the leases of this event; any that remain expire."""
        self._deliveries.forget(identities)
        for chunk in _chunks(identities):
            if not self._degraded:
                self._posted.append(self._submit(partial(self._run, RELEASE, [self._token, *chunk])))

    def ask(
        self, form: re.Pattern[bytes], script: Script, key: bytes, *arguments: int
    ) -> re.Match[bytes] | None:
        """Run a script on a key of the function, and wait for its reply; called by a lane.

        Returns:
            the reply, which has this form; None: Redis has failed, or the event has ended.
        """
        if self._degraded:
            return None
        reply = self._wait(self._submit(partial(self._run, script, [key], *arguments)), self._deadline)
        found = form.fullmatch(reply) if isinstance(reply, bytes) else None
        if found is None and not (self._degraded or self._closing.is_set()):
            self._degrade(NOT_REDIS)
        return found

    def close(self) -> None:
        """Wait a short time for running requests, and end the event."""
        with self._worker_lock:
            self._closing.set()
            if self._worker is None:
                return
            self._worker.dismiss()
        deadline = self._deadline.within(2 * TIMEOUTS_S[0])
        for future in self._posted:
            if self._degraded and not future.done():
                return
            self._wait(future, deadline)
        self._store.touch()

    def _write_soon(self, mark: bytes, identities: Sequence[bytes]) -> None:
        if self._degraded or not identities:
            return
        is_recorded = mark == _DELIVERED and not self._is_record_useless()
        if mark != _DELIVERED:
            self._deliveries.forget(identities)
        with self._lock:
            # As long as some are unwritten, the job that will write them is under way.
            is_first = not self._unwritten and self._deliveries.is_written
            others = self._deliveries.add(identities) if is_recorded else identities
            if others:
                self._unwritten.setdefault(mark, []).extend(others)
        if is_first:
            self._posted.append(self._submit(self._write))

    def _is_record_useless(self) -> bool:
        """After the deadline, another event may have leased the points; another server may not know the leases."""
        return self._reconnected or self._deadline.remaining() <= 0

    def _submit(self, job: Callable[[], bytes | None]) -> Future[bytes | None]:
        with self._worker_lock:
            if self._closing.is_set():
                return _nothing(self._store.machine.tasks)
            if self._worker is None:
                try:
                    self._worker = SerialWorker("redis", self._store.machine.tasks)
                except RuntimeError:
                    self._degrade(
                        "no thread could be started to talk to Redis: give the function more memory"
                    )
                    return _nothing(self._store.machine.tasks)
            return self._worker.submit(partial(self._attempt, job))

    def _wait(self, future: Future[bytes | None], deadline: Deadline) -> bytes | None:
        try:
            return future.result(max(_GRACE_S, min(2 * TIMEOUTS_S[0], deadline.remaining())))
        except TimeoutError:
            self._degrade(UNANSWERED)
            return None

    def _degrade(self, reason: str) -> None:
        with self._lock:
            first, self._degraded = not self._degraded, True
        if first:
            self._store.rest(reason, self._worker)

    # What follows runs in the worker's thread.

    def _attempt(self, job: Callable[[], bytes | None]) -> bytes | None:
        if self._degraded:
            return None
        try:
            return job()
        except RedisUnavailable as unavailable:
            self._degrade(unavailable.reason)
            if self._connection is not None:
                self._connection.close()
            return None

    def _write(self) -> None:
        # When replies come fast, more identities follow at once; a round trip costs as much as a hundred of them.
        self._closing.wait(LINGER_S)
        with self._lock:
            names, parts = self._deliveries.take()
            unwritten, self._unwritten = self._unwritten, {}
        if parts:
            _, record_ms = self._durations_ms()
            self._run(CONFIRM, names, record_ms, record_ms, *parts)
            if self._is_record_useless():
                unwritten.setdefault(_DELIVERED, []).extend(self._deliveries.all())
        window_ms = self._store.window_ms
        for mark, identities in unwritten.items():
            for chunk in _chunks(identities):
                if mark == _DELIVERED:
                    self._run(CONFIRM, chunk, window_ms, window_ms, *[mark] * len(chunk))
                else:
                    self._run(REMEMBER, [self._token, *chunk], mark, window_ms)

    def _run(self, script: Script, names: Sequence[bytes], *arguments: bytes | int) -> bytes | None:
        """Run a script on keys; all of them may run twice, so a connection that broke is replaced, once in an event."""
        if self._connection is None:
            self._connection = self._store.connect(self._deadline.remaining())
        prefix = self._store.prefix
        keys = [prefix + name for name in names]
        try:
            answer: bytes | None = self._connection.run(script, keys, *arguments)
        except RedisUnavailable as unavailable:
            if not unavailable.reconnect or self._reconnected:
                raise
            self._reconnected = True
            self._connection.close()
            answer = self._connection.run(script, keys, *arguments)
        return answer


def _nothing(tasks: Tasks) -> Future[bytes | None]:
    future: Future[bytes | None] = Future(tasks)
    future.run(lambda: None)
    return future


def _chunks(identities: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(identities), CHUNK):
        yield identities[start : start + CHUNK]
