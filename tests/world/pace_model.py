"""What the script of the shared pace means, statement for statement; ``test_redis_model.py`` holds it to the real one."""

import math
import re
from typing import NamedTuple

from metric_forwarder.clients.redis import Script
from metric_forwarder.dedupe.shared_pace import LAW

# The script with the time as its last argument, so that a real Redis and the model can be asked at the same moment.
PACE_AT = Script("local now = tonumber(ARGV[6])\n" + LAW)
KEPT_MS = 3_600_000
_LIMITED, _FREE = 11, 4
_is_number = re.compile(rb"[-+.e\d]+").fullmatch


class _State:
    """One rate and one line for all."""

    def __init__(self, kept: list[float]) -> None:
        self.base, self.target, self.age, self.deaf, self.row, self.next = kept[:6]
        self.called, self.last, self.at, self.block = kept[6:]

    @classmethod
    def start(cls, now: float, base: float, target: float, pause: float) -> "_State":
        return cls([base, target, 0, now + pause, 0, now + pause, 0, 0, now, 1])

    def kept(self) -> list[float]:
        line = [self.called, self.last, self.at, self.block]
        return [1, self.base, self.target, self.age, self.deaf, self.row, self.next, *line]

    def rate(self) -> float:
        if self.target == 0:
            return min(100_000, self.base * math.pow(2, self.age))
        x = self.age / 30 - 1
        return min(100_000, max(1 / 64, self.target + (self.target - self.base) * x * x * x))

    def call(self, now: float, rate: float) -> None:
        unused = now - max(self.next, self.at)
        if unused <= max(0.25, 5 / rate):
            unused = 0
        room = max(0, min(now - self.at, now - self.next + 0.25))
        self.called = min(self.last, self.called + rate * (room + unused))
        self.at = now

    def lower(self, now: float, rate: float) -> float:
        if self.target == 0:
            self.base, self.target = 0.6 * rate, 0.75 * rate
        else:
            self.row = self.row + 1 if now - self.deaf < max(1, 2 / rate) else 0
            part = {0: 0.95, 1: 0.75}.get(int(self.row), 0.5)
            self.base, self.target = part * rate, (1.5 * part if self.row else 0.985) * rate
        self.age, self.base, self.target = 0, max(self.base, 1 / 64), max(self.target, 1.5 / 64)
        rate = self.rate()
        self.next = max(self.next, now) + max(0.1, 1 / rate)
        self.deaf = self.next + max(1, 2 / rate)
        return rate


class _Asked(NamedTuple):
    wanted: float
    refused: float
    recent: float
    ticket: float
    gap: float


def decide(kept: bytes | None, now: float, arguments: list[bytes]) -> tuple[bytes, bytes]:
    """Return what is kept from now on, and the reply."""
    asked = _Asked(*map(float, arguments[:5]))
    numbers = [float(word) for word in (kept or b"").split() if _is_number(word)]
    state = _limited(numbers, now, asked)
    if state is None and asked.refused > 0:
        state = _State.start(now, max(asked.recent, 1), 0, 1)
    if state is None:
        return _rush(numbers if len(numbers) == _FREE else [0, 4, now, 0], now)
    rate = state.rate()
    state.call(now, rate)
    if asked.refused > 0 and now > state.deaf and asked.ticket > 0:
        rate = state.lower(now, rate)
    return _place(state, now, rate, asked)


def _limited(numbers: list[float], now: float, asked: _Asked) -> _State | None:
    if len(numbers) == _LIMITED:
        state = _State(numbers[1:])
        if now < state.at:
            state.deaf, state.next, state.at = state.deaf - state.at + now, state.next - state.at + now, now
        return state if now - state.deaf <= 600 else None
    if len(numbers) != _FREE and asked.gap > 0:
        return _State.start(now, 1_000_000 / asked.gap * 0.95, 1_000_000 / asked.gap, 0)
    return None


def _rush(numbers: list[float], now: float) -> tuple[bytes, bytes]:
    _, allowed, window, count = numbers
    if now < window or now - window >= 0.1:
        if count >= allowed:
            allowed = min(2 * allowed, 1_000_000)
        window, count = now, 0
    count += 1
    kept = _text([0, allowed, window, count])
    if count <= allowed:
        return kept, b"free"
    doublings = math.floor(math.log((count - allowed) / (2 * allowed) + 1) / math.log(2))
    return kept, b"wait %d" % (100 * (1 + doublings))


def _place(state: _State, now: float, rate: float, asked: _Asked) -> tuple[bytes, bytes]:
    ticket = asked.ticket if asked.ticket <= state.last else 0
    room, count, first = state.next - now, 0.0, 0.0
    is_busy = room >= -max(0.1, 2 / rate)
    if asked.wanted > 0:
        place = ticket if ticket > 0 else state.last + 1
        is_due = place <= state.called + 1 + rate / 20
        if room <= 60 and (is_due or room <= (0 if ticket > 0 else 1 / rate)):
            cycle = state.last - state.called + state.block
            grown = state.block * min(2, max(0.5, rate / 4 / cycle))
            state.block = min(max(1, rate / 4), max(1, grown))
            count = min(math.floor(state.block), asked.wanted)
            start = max(state.next, now - max(0, 0.07 - 1 / rate))
            first = max(0, start - now)
            if is_busy:
                state.age += count / rate
            state.next = start + count / rate
            if is_due or ticket == 0:
                state.last += count
                ticket = state.last
        elif ticket == 0:
            state.last += 1
            ticket = state.last
    ahead = max(0, ticket - state.called - max(1, count))
    wait = (
        math.log(1 + ahead * math.log(2) / rate) / math.log(2) if state.target == 0 else 1.02 * ahead / rate
    )
    if count > 0 and not is_busy:
        wait = 0
    wait = min(60, max(wait, state.next - now if count > 0 else min(room, 1 / rate)))
    reply = b"line %d %d %d %d %d" % (
        ticket,
        math.ceil(1000 * max(0, wait)),
        count,
        math.ceil(1000 * first),
        math.ceil(1_000_000 / rate),
    )
    return _text(state.kept()), reply


def _text(numbers: list[float]) -> bytes:
    return " ".join(f"{number:.17g}" for number in numbers).encode()
