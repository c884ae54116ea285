"""Which of the points that an event leased in Redis were delivered: one write says it of many."""

from collections.abc import Iterable, Sequence

# Points in one part of the record; a part is written as a whole, a byte for each point.
PART = 1000
_PLACE_BYTES = 4
_DELIVERED = ord("1")


class Deliveries:
    """The record of one event: each point that it leases has a place, whose byte is ``1`` once the point was delivered.

    A point's key in Redis holds the event's token and the place as four bytes, the most significant first; the record is kept in
    parts of 1,000 places, under the token and the number of the part. So the key of a delivered point need not be written
    again.

    Args:
        token: identifies the event; 8 bytes.
    """

    def __init__(self, token: bytes) -> None:
        self.token = token
        self._places: dict[bytes, int] = {}
        self._record = bytearray()
        self._changed: set[int] = set()

    def leases(self, identities: Iterable[bytes]) -> list[bytes]:
        """Return what the key of each point holds while this event has leased it: the same whenever it is asked."""
        token, places, record = self.token, self._places, self._record
        leases = []
        for identity in identities:
            place = places.setdefault(identity, len(record))
            if place == len(record):
                record.append(0)
            leases.append(token + place.to_bytes(_PLACE_BYTES, "big"))
        return leases

    def forget(self, identities: Iterable[bytes]) -> None:
        """These are not leased by this event, or no longer."""
        for identity in identities:
            self._places.pop(identity, None)

    def add(self, identities: Iterable[bytes]) -> list[bytes]:
        """Note that these were delivered; return those that the event has not leased."""
        others = []
        for identity in identities:
            place = self._places.get(identity)
            if place is None:
                others.append(identity)
            else:
                self._record[place] = _DELIVERED
                self._changed.add(place // PART)
        return others

    def all(self) -> list[bytes]:
        """Return the identities of all leased points that were delivered."""
        # Copied in one step, since another thread may lease more meanwhile.
        return [identity for identity, place in list(self._places.items()) if self._record[place]]

    @property
    def is_written(self) -> bool:
        """Whether nothing was added since ``take``."""
        return not self._changed

    def take(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the names and the contents of the parts that have changed since the last time."""
        numbers, self._changed = sorted(self._changed), set()
        names = [self.token + b"%d" % number for number in numbers]
        return names, [bytes(self._record[number * PART : (number + 1) * PART]) for number in numbers]
