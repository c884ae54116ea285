"""One pace for all instances of the function, kept in Redis: each asks when it may send, and says what was refused.

As long as no request is refused, an instance asks once in an event and sends as fast as it can. If nothing is known yet and
many instances begin at once, a few of them find out first, and twice as many follow each tenth of a second.

After a refusal there is one rate for all, and one line in which they wait. An instance that asks gets a ticket, and is told
when to come again. When it is its turn it gets the next free moments, evenly spaced as in GCRA, and a new ticket at the end
of the line. So the shares are equal, however many there are, and no list of instances is needed: a place in the line that
nobody takes is passed over. A fast instance gets the moments of a quarter of a second at once, a slow one a single moment.

The rate is searched by doubling each second. A later refusal lowers it by 5 %, further refusals in the next second count as
the same one, and those of the second after that lower it more. Then it rises as in CUBIC (RFC 9438): fast up to where it was
refused, hardly at all there, then faster and faster. ``tests/dedupe/test_quota_with_redis.py`` holds what this achieves.

Where Redis does not answer, each instance goes on by itself with its share (``delivery.pacing``).
"""

import re
from enum import Enum
from hashlib import blake2b
from typing import Protocol

from metric_forwarder.clients.redis import Script
from metric_forwarder.delivery.pacing import Pacer, Turn
from metric_forwarder.machine import Machine

# No lane takes a moment that is further away: a refusal until then makes it too early.
_AHEAD_S = 0.25
# A moment that no lane was free for is good for so long.
_LATE_S = 0.25
# What Redis said about the absence of a limit is believed for so long, and then until the event ends.
_FREE_S = 1.0
# With less time than this, Redis might not answer before the event ends.
_TOO_SHORT_S = 0.2
_SHORTEST_PAUSE_S = 0.01
_MOST_MOMENTS = 999

# Redis's own clock, as seconds. Before version 5 a script that has read it may write only if its writes are replicated as such.
_TIME = """
if redis.replicate_commands then redis.replicate_commands() end
local clock = redis.pcall('TIME')
if clock.err then return 'forbidden' end
local now = clock[1] + clock[2] / 1000000
"""
# KEYS: the pace. ARGV: how many moments are wanted (0: only refusals are reported), how many requests were refused, how many
# were accepted a second before that, the instance's ticket and the last gap that it was told, microseconds (each 0 if none).
# → "free", or "wait" and milliseconds: too many begin at once; or "line": ticket, milliseconds until it should ask again,
# number of moments, milliseconds until the first, microseconds from one to the next.
LAW = """
local wanted, refused, recent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ticket, gap = tonumber(ARGV[4]), tonumber(ARGV[5])
local floor, ceil, log, max, min = math.floor, math.ceil, math.log, math.max, math.min

local kept = {}
for word in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
  kept[#kept + 1] = tonumber(word)
end
local function keep(...)
  local words = {...}
  for i, number in ipairs(words) do words[i] = string.format('%.17g', number) end
  redis.call('SET', KEYS[1], table.concat(words, ' '), 'PX', 3600000)
end

-- The rate is base * 2 ^ age in a search (target 0), then a cubic curve from base through target; age: seconds of full use.
-- Refusals until deaf belong to the last one. Moments are handed out up to next, tickets up to last, called up to called.
local base, target, age, deaf, row, next, called, last, at, block
local function rate()
  if target == 0 then return min(100000, base * 2 ^ age) end
  local x = age / 30 - 1
  return min(100000, max(1 / 64, target + (target - base) * x * x * x))
end
local function start(from, aim, pause)
  base, target, age, deaf, row, next = from, aim, 0, now + pause, 0, now + pause
  called, last, at, block = 0, 0, now, 1
end

local is_limited = #kept == 11
if is_limited then
  base, target, age, deaf, row, next, called, last, at, block =
    kept[2], kept[3], kept[4], kept[5], kept[6], kept[7], kept[8], kept[9], kept[10], kept[11]
  if now < at then
    -- A clock that was set back, or that of another server.
    deaf, next, at = deaf - at + now, next - at + now, now
  end
  is_limited = now - deaf <= 600
elseif #kept ~= 4 and gap > 0 then
  -- Redis has lost what this instance still knows.
  is_limited = true
  start(1000000 / gap * 0.95, 1000000 / gap, 0)
end

if not is_limited and refused > 0 then
  is_limited = true
  start(max(recent, 1), 0, 1)
elseif not is_limited then
  local allowed, window, count = kept[2], kept[3], kept[4]
  if #kept ~= 4 then allowed, window, count = 4, now, 0 end
  if now < window or now - window >= 0.1 then
    if count >= allowed then allowed = min(2 * allowed, 1000000) end
    window, count = now, 0
  end
  count = count + 1
  keep(0, allowed, window, count)
  if count <= allowed then return 'free' end
  local doublings = floor(log((count - allowed) / (2 * allowed) + 1) / log(2))
  return 'wait ' .. 100 * (1 + doublings)
end

local r = rate()
-- Call as many as there is room for. Nobody came for long: pass over so many places.
local unused = now - max(next, at)
if unused <= max(0.25, 5 / r) then unused = 0 end
called = min(last, called + r * (max(0, min(now - at, now - next + 0.25)) + unused))
at = now

-- Without a ticket the request was not sent at this rate: a frozen instance may hear late of one from before the line.
if refused > 0 and now > deaf and ticket > 0 then
  if target == 0 then
    base, target = 0.6 * r, 0.75 * r
  else
    row = now - deaf < max(1, 2 / r) and row + 1 or 0
    if row == 0 then
      base, target = 0.95 * r, 0.985 * r
    else
      local part = row == 1 and 0.75 or 0.5
      base, target = part * r, 1.5 * part * r
    end
  end
  age, base, target = 0, max(base, 1 / 64), max(target, 1.5 / 64)
  r = rate()
  -- A short pause empties a window that counts what it refuses.
  next = max(next, now) + max(0.1, 1 / r)
  deaf = next + max(1, 2 / r)
end

if ticket > last then ticket = 0 end
local room, count, first = next - now, 0, 0
local is_busy = room >= -max(0.1, 2 / r)
if wanted > 0 then
  local place = ticket > 0 and ticket or last + 1
  local is_due = place <= called + 1 + r / 20
  if room <= 60 and (is_due or room <= (ticket > 0 and 0 or 1 / r)) then
    local cycle = last - called + block
    block = min(max(1, r / 4), max(1, block * min(2, max(0.5, r / 4 / cycle))))
    count = min(floor(block), wanted)
    -- Whoever asks a little late, as one does with a block of moments, loses none.
    local from = max(next, now - max(0, 0.07 - 1 / r))
    first = max(0, from - now)
    if is_busy then age = age + count / r end
    next = from + count / r
    -- Somebody who came early, and found nobody before it, keeps its place.
    if is_due or ticket == 0 then
      last = last + count
      ticket = last
    end
  elseif ticket == 0 then
    last = last + 1
    ticket = last
  end
end
keep(1, base, target, age, deaf, row, next, called, last, at, block)

local ahead = max(0, ticket - called - max(1, count))
local wait = target == 0 and log(1 + ahead * log(2) / r) / log(2) or 1.02 * ahead / r
-- Those ahead do not come now: whoever is here may go on.
if count > 0 and not is_busy then wait = 0 end
wait = min(60, max(wait, count > 0 and next - now or min(room, 1 / r)))
return string.format('line %d %d %d %d %d', ticket, ceil(1000 * max(0, wait)), count, ceil(1000 * first), ceil(1000000 / r))
"""
PACE = Script(_TIME + LAW)
# The reply to a user who may not read the time.
FORBIDDEN = b"forbidden"
_REPLY = re.compile(
    rb"(?P<word>free|forbidden)|wait (?P<wait_ms>\d{1,6})"
    rb"|line (?P<ticket>\d{1,15}) (?P<again_ms>\d{1,5}) (?P<count>\d{1,3}) (?P<first_ms>\d{1,5}) (?P<gap_us>[1-9]\d{0,8})"
)
_NUMBERS = ("ticket", "again_ms", "count", "first_ms", "gap_us")


class Line(Protocol):
    """Where instances ask for their turns: a ``RedisStore``."""

    def ask(
        self, form: re.Pattern[bytes], script: Script, key: bytes, *arguments: int
    ) -> re.Match[bytes] | None:
        """Run a script on a key of the function; None if Redis gives no reply of this form, or rests."""


class _Mode(Enum):
    UNASKED = "it is not known whether there is a limit"
    FREE = "there is none"
    IN_LINE = "requests start when it is this instance's turn"
    ALONE = "Redis does not say"


class SharedPacer:
    """Hands out the moments of the shared pace; a ``Pace``.

    Args:
        own: the pace of this instance alone, where there is no other; its largest rate and pauses always hold.
        line: asked for turns.
        scope: identifies the destination.
    """

    def __init__(self, own: Pacer, line: Line, scope: str, machine: Machine) -> None:
        self._own = own
        self._line = line
        self._key = b":pace:" + blake2b(scope.encode(), digest_size=9).digest()
        self._clock = machine.clock
        self._lock = machine.tasks.lock()
        self._mode = _Mode.UNASKED
        self._asked_at = self._ask_again_at = 0.0
        self._began_at, self._accepted_before = 0.0, 0
        self._ticket = self._gap_us = 0
        # Moments that are left, the next of them, and how many of these were taken.
        self._moments, self._next, self._taken = 0, 0.0, 0
        self._share = 0.0
        self._refused = 0
        self._was_alone = False

    @property
    def accepted(self) -> int:
        return self._own.accepted

    @property
    def is_probing(self) -> bool:
        return self._own.is_probing

    @is_probing.setter
    def is_probing(self, is_probing: bool) -> None:
        self._own.is_probing = is_probing

    def begin(self, within_s: float) -> None:
        self._own.begin(within_s)
        with self._lock:
            now = self._clock.monotonic()
            if self._mode is _Mode.ALONE or (self._mode is _Mode.FREE and now - self._asked_at > _FREE_S):
                self._mode = _Mode.UNASKED
            self._began_at, self._accepted_before = now, self._own.accepted

    def reserve(self, within_s: float) -> Turn | None:
        with self._lock:
            is_late = within_s <= _TOO_SHORT_S
            if self._must_ask():
                if is_late and (self._refused or self._mode is _Mode.IN_LINE):
                    return None
                if not is_late:
                    self._ask()
            is_bound = self._mode is _Mode.IN_LINE or (self._mode is _Mode.UNASKED and not is_late)
            if not is_bound or self._own.wait_s() > _AHEAD_S:
                return self._own.reserve(within_s)
            wait_s = max(0.0, self._wait_s())
            if wait_s > within_s:
                return None
            if not self._moments or wait_s > _AHEAD_S:
                return Turn(wait_s, is_taken=False)
            turn = self._own.reserve(within_s)
            if turn is None or not turn.is_taken:
                return turn
            self._moments -= 1
            self._taken += 1
            self._next += self._gap_us / 1e6
            return Turn(max(turn.wait_s, wait_s), is_taken=True)

    def accept(self) -> None:
        self._own.accept()

    def refuse(self) -> bool:
        with self._lock:
            if self._mode is _Mode.ALONE:
                return self._own.refuse()
            self._refused += 1
            self._moments = 0
            return self._refused == 1

    def pause(self, seconds: float) -> None:
        self._own.pause(seconds)

    def asked_s(self) -> float:
        return self._own.asked_s()

    def wait_s(self) -> float:
        return max(self._own.wait_s(), self._wait_s())

    def _wait_s(self) -> float:
        """Seconds until the next moment, or until this instance may ask for one."""
        if self._mode in (_Mode.FREE, _Mode.ALONE):
            return 0.0
        return (self._next if self._moments else self._ask_again_at) - self._clock.monotonic()

    def _must_ask(self) -> bool:
        """Whether there is something to report, or no moment is left and it is time to ask for more."""
        if self._mode is _Mode.ALONE:
            return False
        if self._refused:
            return True
        now = self._clock.monotonic()
        while self._moments and self._next < now - _LATE_S:
            self._moments -= 1
            self._next += self._gap_us / 1e6
        return self._mode is not _Mode.FREE and not self._moments and now >= self._ask_again_at

    def _ask(self) -> None:
        now = self._clock.monotonic()
        is_report = self._mode is _Mode.IN_LINE and now < self._ask_again_at
        wanted = 0 if is_report else min(1 + 2 * self._taken, _MOST_MOMENTS)
        accepted_a_second = (self._own.accepted - self._accepted_before) / max(1.0, now - self._began_at)
        told = (wanted, self._refused, round(accepted_a_second), self._ticket, self._gap_us)
        reply = self._line.ask(_REPLY, PACE, self._key, *told)
        self._asked_at = self._clock.monotonic()
        if reply is None or reply["word"] == FORBIDDEN:
            self._go_on_alone()
            return
        if self._was_alone:
            self._own.assume(None)
            self._was_alone = False
        self._refused = 0
        if reply["ticket"]:
            self._stand_in_line(reply)
        elif reply["wait_ms"]:
            self._ask_again_at = self._asked_at + int(reply["wait_ms"]) / 1000
        else:
            self._mode, self._ticket, self._gap_us = _Mode.FREE, 0, 0

    def _stand_in_line(self, reply: re.Match[bytes]) -> None:
        ticket, again_ms, moments, first_ms, gap_us = map(int, reply.group(*_NUMBERS))
        self._mode, self._ticket, self._gap_us = _Mode.IN_LINE, ticket, gap_us
        self._ask_again_at = self._asked_at + max(again_ms / 1000, 0 if moments else _SHORTEST_PAUSE_S)
        if moments:
            self._moments, self._next, self._taken = moments, self._asked_at + first_ms / 1000, 0
        cycle_s = max(again_ms / 1000, max(1, moments) * gap_us / 1e6)
        self._share = max(1, moments) / cycle_s

    def _go_on_alone(self) -> None:
        """Use this instance's own pace for the rest of the event."""
        if self._mode is _Mode.IN_LINE:
            self._own.assume(self._share)
        if self._refused:
            self._own.refuse()
        self._mode, self._was_alone = _Mode.ALONE, True
        self._moments = self._refused = 0
