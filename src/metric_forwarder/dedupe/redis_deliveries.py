"""Which of the points that an event leased in Redis were delivered: one write says it of many."""

from collections.abc import Iterable, Sequence

# Points in one part of the record; a part is written as a whole, a byte for each point.
PART = 1000
# For fewer points a record takes more memory and time than it saves.
FEWEST = 10
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
        # The complement of a place: the key does not hold the lease.
        self._places: dict[bytes, int] = {}
        self._record = bytearray()
        self._changed: set[int] = set()

    def leases(self, identities: Sequence[bytes]) -> list[bytes]:
        """Return what the key of each point holds while this event has leased it: the same whenever it is asked."""
        token, places, record = self.token, self._places, self._record
        new = [identity for identity in identities if identity not in places]
        first = len(record)
        # Before another thread can find the places.
        record.extend(bytes(len(new)))
        places.update(zip(new, range(first, len(record)), strict=True))
        if len(new) < len(identities):
            places.update((each, ~places[each]) for each in identities if places[each] < 0)
        return [token + places[each].to_bytes(_PLACE_BYTES, "big") for each in identities]

    def forget(self, identities: Iterable[bytes]) -> None:
        """The keys of these do not hold leases of this event, or no longer."""
        for identity in identities:
            place = self._places.get(identity, -1)
            if place >= 0:
                # It stays the place of this point: a late copy of a command may still write the lease.
                self._places[identity] = ~place

    def add(self, identities: Sequence[bytes]) -> Sequence[bytes]:
        """Note that these were delivered; return those for which the record is not used."""
        if len(self._record) < FEWEST:
            return identities
        others = []
        for identity in identities:
            place = self._places.get(identity, -1)
            if place < 0:
                others.append(identity)
            else:
                self._record[place] = _DELIVERED
                self._changed.add(place // PART)
        return others

    def all(self) -> list[bytes]:
        """Return the identities of all points that the record calls delivered."""
        # Copied in one step, since another thread may lease more meanwhile.
        places = list(self._places.items())
        return [identity for identity, place in places if place >= 0 and self._record[place]]

    @property
    def is_written(self) -> bool:
        """Whether nothing was added since ``take``."""
        return not self._changed

    def take(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the names and the contents of the parts that have changed since the last time."""
        numbers, self._changed = sorted(self._changed), set()
        names = [self.token + b"%d" % number for number in numbers]
        return names, [bytes(self._record[number * PART : (number + 1) * PART]) for number in numbers]
