"""Recognise a point that comes again: the store's port, the window, and the store in memory.

The platform redelivers whole events and runs instances side by side. An identity is remembered only once the fate of its
point is known: delivered, rejected for good, or held because it is unknown (``MF_UNCERTAIN=hold``). So a redelivery sends
only the points that are still missing.

The window starts again whenever a point comes again, because an event may be redelivered for longer than the window. Only
a rejection is not prolonged: once a window has passed, the destination is asked again, in case its owner has corrected
the cause.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from metric_forwarder.clock import Deadline


class Claim(Enum):
    """The answer of a store about an identity before its point is sent."""

    OURS = "ours"  # send it, then confirm or release
    DELIVERED = "delivered"  # a duplicate
    UNCERTAIN = "uncertain"  # sent before without a reply, and not to be sent again
    REJECTED = "rejected"  # refused by the destination before, and not to be sent again yet
    HELD = "held"  # another instance is sending it


# Local names: looking up a member of an Enum is slow.
_OURS, _DELIVERED, _UNCERTAIN, _REJECTED = Claim.OURS, Claim.DELIVERED, Claim.UNCERTAIN, Claim.REJECTED


class KnownRejection(NamedTuple):
    """Why the destination refused a point: as much as another report needs to say it again.

    Attributes:
        label: the name of the reply in the report, such as ``1019``.
        code: the destination's own code or status, if it gave one.
        reason: the reason in full; empty if only the label was kept.
    """

    label: str
    code: int | None = None
    reason: str = ""


UNKNOWN_REJECTION = KnownRejection("rejected before")


class Claims(Protocol):
    """One event's use of a store; no method raises.

    ``claim`` is called by the thread that handles the event and may wait, but not past the event's deadline. ``confirm``
    and the ``mark_…`` methods are called by whichever thread has sent, one at a time, and must not wait.
    """

    @property
    def status(self) -> str:
        """The store's name in the report: ``memory``, ``off`` and so on; ``degraded`` once the store has failed."""

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        """Ask what may be sent; return one claim for each identity. An event may claim its own identities again.

        Delivered and uncertain identities are remembered for a whole window from now on.
        """

    def rejection(self, identity: bytes) -> KnownRejection:
        """Return why a point was rejected, after ``claim`` has said so."""

    def confirm(self, identities: Sequence[bytes]) -> None:
        """Remember that these were delivered."""

    def mark_uncertain(self, identities: Sequence[bytes]) -> None:
        """Remember that these were sent without a reply, so that no instance sends them again."""

    def mark_rejected(self, identities: Sequence[bytes], rejection: KnownRejection) -> None:
        """Remember that the destination refused these, so that a redelivered event does not ask again."""

    def release(self, identities: Sequence[bytes]) -> None:
        """Let others send these: they were claimed and not delivered."""

    def close(self) -> None:
        """End the event: everything confirmed, marked and released is written, or the status says ``degraded``."""


class DedupeStore(Protocol):
    """Remembers the outcomes of points, while an instance is warm or longer."""

    def begin(self, deadline: Deadline) -> Claims:
        """Start an event; its leases last until a little after the deadline."""


class NoStore:
    """``MF_DEDUPE=off``: remembers nothing."""

    status = "off"

    def begin(self, _deadline: Deadline) -> Claims:
        return self

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        return [Claim.OURS] * len(identities)

    def rejection(self, _identity: bytes) -> KnownRejection:
        return UNKNOWN_REJECTION

    def confirm(self, identities: Sequence[bytes]) -> None:
        """Nothing to remember."""

    def mark_uncertain(self, identities: Sequence[bytes]) -> None:
        """Nothing to remember."""

    def mark_rejected(self, identities: Sequence[bytes], rejection: KnownRejection) -> None:
        """Nothing to remember."""

    def release(self, identities: Sequence[bytes]) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Nothing is under way."""


class _Remembered(NamedTuple):
    """An outcome, and until when it is remembered; shared by all points that were remembered together."""

    expires_at: float
    claim: Claim
    rejection: KnownRejection | None = None


class MemoryStore:
    """Remembers within one warm instance, which handles one event at a time: a claim needs no lease.

    Args:
        window_s: how long an identity is remembered after it last came.
        clock: monotonic seconds.
        capacity: how many identities are remembered at most; the oldest goes first. One takes about 180 bytes.
    """

    status = "memory"

    def __init__(self, window_s: float, clock: Callable[[], float], capacity: int = 100_000) -> None:
        self.window_s = window_s
        self._clock = clock
        self._capacity = capacity
        # In the order in which they expire.
        self._known: OrderedDict[bytes, _Remembered] = OrderedDict()

    def begin(self, _deadline: Deadline) -> Claims:
        return self

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        self._forget_expired()
        get, ours = self._known.get, _OURS
        claims = [ours if (known := get(identity)) is None else known.claim for identity in identities]
        if claims.count(ours) < len(claims):
            self.confirm(with_claim(identities, claims, _DELIVERED))
            self.mark_uncertain(with_claim(identities, claims, _UNCERTAIN))
        return claims

    def rejection(self, identity: bytes) -> KnownRejection:
        remembered = self._known.get(identity)
        return (remembered and remembered.rejection) or UNKNOWN_REJECTION

    def confirm(self, identities: Sequence[bytes]) -> None:
        self._remember(identities, _Remembered(self._expiry(), _DELIVERED))

    def mark_uncertain(self, identities: Sequence[bytes]) -> None:
        self._remember(identities, _Remembered(self._expiry(), _UNCERTAIN))

    def mark_rejected(self, identities: Sequence[bytes], rejection: KnownRejection) -> None:
        self._remember(identities, _Remembered(self._expiry(), _REJECTED, rejection))

    def release(self, identities: Sequence[bytes]) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Nothing is under way."""

    def _expiry(self) -> float:
        return self._clock() + self.window_s

    def _remember(self, identities: Sequence[bytes], remembered: _Remembered) -> None:
        known = self._known
        for identity in identities:
            if identity in known:
                known.move_to_end(identity)
            known[identity] = remembered
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._known and next(iter(self._known.values())).expires_at <= now:
            self._known.popitem(last=False)


def with_claim(identities: Sequence[bytes], claims: Sequence[Claim], claim: Claim) -> list[bytes]:
    """Return the identities that got this claim."""
    return [identity for identity, given in zip(identities, claims, strict=True) if given is claim]
