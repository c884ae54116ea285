"""Recognise a point that comes again: identities, the window, the store's port and the store in memory.

The platform redelivers whole events and runs instances side by side. An identity is remembered only after its point
was delivered, or is to be held since nobody knows (``MF_UNCERTAIN=hold``), so a redelivery sends exactly what is still
missing. The window begins anew whenever a point comes again: an event may be redelivered for longer than it lasts.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from metric_forwarder.clock import Deadline


class Claim(Enum):
    """What a store says of an identity before its point is sent."""

    OURS = "ours"  # send it, then confirm or release
    DELIVERED = "delivered"  # a duplicate
    UNCERTAIN = "uncertain"  # sent before, without an answer, and not to be sent again
    HELD = "held"  # another instance is sending it


class Claims(Protocol):
    """One event's dealings with a store, none of which raises.

    ``claim`` is called by the thread that handles the event and may wait, but not past the event's deadline.
    ``confirm`` and ``doubt`` are called by whichever thread has sent, one at a time, and must not wait.
    """

    @property
    def status(self) -> str:
        """As the report names it: ``memory``, ``off`` and so on; ``degraded`` once the store has failed."""

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        """Ask what may be sent, one answer each; asking again for one's own is no harm.

        What is remembered is from now on remembered for a whole window again.
        """

    def confirm(self, identities: Sequence[bytes]) -> None:
        """Remember them: they were delivered."""

    def doubt(self, identities: Sequence[bytes]) -> None:
        """Remember them: they were sent and not answered, and nobody may send them again."""

    def release(self, identities: Sequence[bytes]) -> None:
        """Let others send them: they were claimed and not delivered."""

    def close(self) -> None:
        """End the event: what was confirmed and released is written, or the status says ``degraded``."""


class DedupeStore(Protocol):
    """Remembers what was delivered, for as long as an instance is warm or longer."""

    def begin(self, deadline: Deadline) -> Claims:
        """Start an event; its leases last until a little after the deadline."""


class NoStore:
    """``MF_DEDUPE=off``: remembers nothing."""

    status = "off"

    def begin(self, _deadline: Deadline) -> Claims:
        return self

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        return [Claim.OURS] * len(identities)

    def confirm(self, identities: Sequence[bytes]) -> None:
        """Nothing to remember."""

    def doubt(self, identities: Sequence[bytes]) -> None:
        """Nothing to remember."""

    def release(self, identities: Sequence[bytes]) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Nothing is under way."""


class _Remembered(NamedTuple):
    """What became of a point, until when it is known; shared by all that were remembered together."""

    expires_at: float
    claim: Claim


class MemoryStore:
    """Remembers within one warm instance, which handles one event at a time: a claim needs no lease.

    Args:
        window_s: how long an identity is remembered after it was last met.
        clock: monotonic seconds.
        capacity: how many identities are remembered at most; the oldest goes first. One takes about 180 bytes.
    """

    status = "memory"

    def __init__(self, window_s: float, clock: Callable[[], float], capacity: int = 100_000) -> None:
        self._window_s = window_s
        self._clock = clock
        self._capacity = capacity
        # The one that expires first comes first.
        self._known: OrderedDict[bytes, _Remembered] = OrderedDict()

    def begin(self, _deadline: Deadline) -> Claims:
        return self

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        self._forget_expired()
        # An Enum's member is looked up by its metaclass each time.
        get, ours = self._known.get, Claim.OURS
        claims = [ours if (known := get(identity)) is None else known.claim for identity in identities]
        if claims.count(ours) < len(claims):
            self.confirm(told(identities, claims, Claim.DELIVERED))
            self.doubt(told(identities, claims, Claim.UNCERTAIN))
        return claims

    def confirm(self, identities: Sequence[bytes]) -> None:
        self._remember(identities, Claim.DELIVERED)

    def doubt(self, identities: Sequence[bytes]) -> None:
        self._remember(identities, Claim.UNCERTAIN)

    def release(self, identities: Sequence[bytes]) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Nothing is under way."""

    def _remember(self, identities: Sequence[bytes], claim: Claim) -> None:
        remembered = _Remembered(self._clock() + self._window_s, claim)
        for identity in identities:
            self._known[identity] = remembered
            self._known.move_to_end(identity)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._known and next(iter(self._known.values())).expires_at <= now:
            self._known.popitem(last=False)


def told(identities: Sequence[bytes], claims: Sequence[Claim], claim: Claim) -> list[bytes]:
    """Those of which a store said this."""
    return [identity for identity, answer in zip(identities, claims, strict=True) if answer is claim]
