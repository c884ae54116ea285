"""Recognise a point that comes again: the store's port, the window, and the store in memory.

The platform redelivers whole events and runs instances side by side. An identity is remembered only once the fate of its
point is known: delivered, rejected for good, or held because it is unknown (``MF_UNCERTAIN=hold``). So a redelivery sends
only the points that are still missing.

The window starts again whenever a point comes again, because an event may be redelivered for longer than the window. Only
a rejection is not prolonged: once a window has passed, the destination is asked again, in case its owner has corrected
the cause.
"""

from collections import deque
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
    and the ``mark_…`` methods are called by whichever thread has sent, one at a time, and wait a tenth of a second at most.
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


# Identities in a group, at most: the oldest group may have to be cut for each batch that is remembered.
_GROUP = 1000


class MemoryStore:
    """Remembers within one warm instance, which handles one event at a time: a claim needs no lease.

    Nearly all identities come once and are delivered. They are added to a set and leave it group by group, without a loop in
    Python.

    Args:
        window_s: how long an identity is remembered after it last came.
        clock: monotonic seconds.
        capacity: how many identities are remembered at most; the oldest goes first. One takes about 120 bytes,
            and 180 once it comes again.
    """

    status = "memory"

    def __init__(self, window_s: float, clock: Callable[[], float], capacity: int = 100_000) -> None:
        self.window_s = window_s
        self._clock = clock
        self._capacity = capacity
        self._known: set[bytes] = set()
        # In the order in which they expire, with their identities; an identity that came again is in several of them.
        self._groups: deque[tuple[_Remembered, Sequence[bytes]]] = deque()
        self._in_groups = 0
        # The last outcome of identities that came again, or were not delivered.
        self._special: dict[bytes, _Remembered] = {}

    def begin(self, _deadline: Deadline) -> Claims:
        return self

    def claim(self, identities: Sequence[bytes]) -> Sequence[Claim]:
        now = self._clock()
        while self._groups and self._groups[0][0].expires_at <= now:
            self._forget(len(self._groups[0][1]))
        if self._known.isdisjoint(identities):
            return [_OURS] * len(identities)
        known, get, delivered = self._known, self._special.get, _Remembered(0, _DELIVERED)
        claims = [get(each, delivered).claim if each in known else _OURS for each in identities]
        self.confirm(with_claim(identities, claims, _DELIVERED))
        self.mark_uncertain(with_claim(identities, claims, _UNCERTAIN))
        return claims

    def rejection(self, identity: bytes) -> KnownRejection:
        remembered = self._special.get(identity)
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
        if remembered.claim is not _DELIVERED or not self._known.isdisjoint(identities):
            self._special.update(dict.fromkeys(identities, remembered))
        self._known.update(identities)
        for start in range(0, len(identities), _GROUP):
            self._groups.append((remembered, identities[start : start + _GROUP]))
        self._in_groups += len(identities)
        while (surplus := len(self._known) - self._capacity) > 0:
            self._forget(surplus)
        if self._in_groups > 2 * len(self._known) + _GROUP:
            # A few identities that come again and again would fill any number of groups.
            groups = ((group, self._last_in(group, members)) for group, members in self._groups)
            self._groups = deque((group, members) for group, members in groups if members)
            self._in_groups = sum(len(members) for _, members in self._groups)

    def _forget(self, most: int) -> None:
        """Forget the oldest group, or the first identities of it."""
        remembered, identities = self._groups.popleft()
        if most < len(identities):
            self._groups.appendleft((remembered, identities[most:]))
            identities = identities[:most]
        self._in_groups -= len(identities)
        last = self._last_in(remembered, identities)
        self._known.difference_update(last)
        if self._special:
            for identity in last:
                self._special.pop(identity, None)

    def _last_in(self, group: _Remembered, identities: Sequence[bytes]) -> Sequence[bytes]:
        """The identities of a group that did not come again later."""
        get = self._special.get
        return [each for each in identities if get(each, group) is group] if self._special else identities


def with_claim(identities: Sequence[bytes], claims: Sequence[Claim], claim: Claim) -> list[bytes]:
    """Return the identities that got this claim."""
    return [identity for identity, given in zip(identities, claims, strict=True) if given is claim]
