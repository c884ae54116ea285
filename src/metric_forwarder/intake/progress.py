"""Remembers how far an event was taken in, so that its redelivery continues there.

On a slow processor, time may be up before all messages of an event are taken in. The platform then redelivers the whole
event. Without this, each delivery would take in the same first messages again, as duplicates, and stop there.

The points of messages that are not read again are not looked up either, so the deduplication window goes on for them. If the
event gets no further, one delivery in some minutes therefore reads its messages from the beginning.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from metric_forwarder.clock import Clock
from metric_forwarder.model import Message, Outcome
from metric_forwarder.reporting.ledger import Ledger

# The most unfinished events that are remembered; each partition has one at a time.
_MAX_EVENTS = 100
# Half of the usual deduplication window.
_READ_AGAIN_AFTER_S = 300.0


class _Done(NamedTuple):
    """The messages at the beginning of an event that need not be read again.

    Attributes:
        digest: identifies these messages.
        messages: how many they are.
        outcomes: what became of their points.
        at: when the event got so far, or was last read from its beginning; of the monotonic clock.
    """

    digest: bytes
    messages: int
    outcomes: Counter[Outcome]
    at: float


class Progress:
    """How far unfinished events were taken in; kept while the instance is warm."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done: OrderedDict[str, _Done] = OrderedDict()

    def begin(self, ledger: Ledger) -> "EventProgress":
        return EventProgress(self._done, ledger, self._clock.monotonic())


class EventProgress:
    """One delivery of an event."""

    def __init__(self, done: OrderedDict[str, _Done], ledger: Ledger, now: float) -> None:
        self._done = done
        self._ledger = ledger
        self._now = now
        self._key: str | None = None
        # How many messages an earlier delivery got through, if they are read again.
        self._known = 0
        self._places: list[str] = []

    def rest(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages that are not done; count the points of the others with their earlier outcomes."""
        remaining = iter(messages)
        first = next(remaining, None)
        if first is None:
            return
        remaining = chain((first,), remaining)
        self._key = first.coordinates
        done = self._done.get(self._key) if self._key is not None else None
        if self._key is not None and done is not None:
            remaining = self._skip(self._key, done, remaining)
        for message in remaining:
            self._places.append(message.coordinates or "")
            yield message

    def _skip(self, key: str, done: _Done, messages: Iterator[Message]) -> Iterator[Message]:
        held = list(islice(messages, done.messages))
        places = [message.coordinates or "" for message in held]
        if _digest(places) != done.digest:
            return chain(held, messages)
        if self._now - done.at >= _READ_AGAIN_AFTER_S:
            self._done[key], self._known = done._replace(at=self._now), done.messages
            return chain(held, messages)
        self._places = places
        for outcome, count in done.outcomes.items():
            self._ledger.receive_again(outcome, count)
        return messages

    def close(self, stopped_at: tuple[Message, int] | None, *, is_whole: bool) -> None:
        """Remember which messages are done.

        Args:
            stopped_at: the first message that was not taken in whole, and how many points were received before it; None:
                taking in did not stop.
            is_whole: whether all messages were taken in.
        """
        if self._key is None:
            return
        if is_whole:
            self._done.pop(self._key, None)
        if stopped_at is None:
            return
        left, rows = stopped_at
        outcomes = Counter(self._ledger.outcome(row) for row in range(rows))
        if left.coordinates not in self._places or not _FINAL.issuperset(outcomes):
            return
        places = self._places[: self._places.index(left.coordinates)]
        if len(places) < self._known:
            return
        again = Counter({outcome or Outcome.UNDELIVERED: count for outcome, count in outcomes.items()})
        again[Outcome.DUPLICATE] += again.pop(Outcome.DELIVERED, 0)
        self._done[self._key] = _Done(_digest(places), len(places), +again, self._now)
        self._done.move_to_end(self._key)
        while len(self._done) > _MAX_EVENTS:
            self._done.popitem(last=False)


# These outcomes do not change when the event comes again.
_FINAL = frozenset(Outcome) - {Outcome.UNDELIVERED}


def _digest(places: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for place in places:
        digest.update(place.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()
