"""Computes the identity by which a point is recognised when it comes again."""

import hashlib
import struct
from collections.abc import Iterable

from metric_forwarder.model import MEASURED_AGAIN, Message, Series

DIGEST_BYTES = 16
# Up to here, each whole number has its own float.
_EXACT = 2**53
_pack_double = struct.Struct("<d").pack


class Identifier:
    """Computes identities.

    Args:
        scope: where points go; the same point sent elsewhere is another delivery.
        by: ``content``, or ``message``: then equal points with equal timestamps are two points.
    """

    def __init__(self, scope: str, by: str) -> None:
        person = hashlib.blake2b(scope.encode(), digest_size=16).digest()
        # Copied for each point, which takes two thirds of the time of making one.
        self._empty = hashlib.blake2b(digest_size=DIGEST_BYTES, person=person)
        self._by_content = by == "content"

    def keys(
        self, apart: Iterable[str], times_ns: Iterable[int | None], keys: Iterable[str | None]
    ) -> list[str | None]:
        """The idempotency key of each point, which covers what tells it apart from others of its series, a text or nothing.

        Where the place of a point in its event identifies it, it needs none.
        """
        found: list[str | None] = []
        # Most points share what tells them apart with others.
        digests: dict[str, str] = {}
        for text, time_ns, key in zip(apart, times_ns, keys, strict=False):
            if text and (key is not None or (time_ns is not None and self._by_content)):
                written = f"{text}#{key or ''}"
                digest = digests.get(written)
                if digest is None:
                    content = written.encode("utf-8", "surrogatepass")
                    digest = digests[written] = hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
                found.append(digest)
            else:
                found.append(key)
        return found

    def identities(
        self,
        series: Iterable[Series],
        values: Iterable[float],
        times_ns: Iterable[int | None],
        keys: Iterable[str | None],
        messages: Iterable[Message],
        pointers: Iterable[str],
    ) -> list[bytes | None]:
        """The identity of each point, a digest; None if a point cannot be recognised.

        It always covers the series, the value and the time, if there is one. It also covers the first of these that
        applies: the producer's idempotency key; nothing more, if the time is enough (``by`` is ``content``); the place in the
        event. Two equal readings with none of these are two readings.

        ``times_ns`` are the producer's own times, Unix nanoseconds, ``keys`` its idempotency keys.
        """
        copy, by_content = self._empty.copy, self._by_content
        found: list[bytes | None] = []
        of: Message | None = None
        coordinates: str | None = None
        is_again = False
        columns = zip(series, values, times_ns, keys, messages, pointers, strict=False)
        for each, value, time_ns, key, message, pointer in columns:
            if key is not None:
                text = f"#{key}" if time_ns is None else f"@{time_ns}#{key}"
            elif time_ns is not None and by_content:
                text = f"@{time_ns}"
            else:
                if message is not of:
                    of, coordinates = message, message.coordinates
                    is_again = coordinates is not None and coordinates.startswith(MEASURED_AGAIN)
                if coordinates is None:
                    found.append(None)
                    continue
                if pointer:
                    place = message.place(pointer) if message.places else f"{coordinates}#{pointer}"
                else:
                    place = coordinates
                text = f"/{place}" if time_ns is None else f"@{time_ns}/{place}"
                if is_again:
                    value = 0  # noqa: PLW2901 - whatever it was
            if type(value) is float or -_EXACT <= value <= _EXACT:
                number = _pack_double(value)
            else:
                number, text = _large(value, text)
            try:
                written = text.encode()
            except UnicodeEncodeError:
                written = text.encode("utf-8", "surrogatepass")
            digest = copy()
            # Series and number have one length each, and what follows begins with a mark.
            digest.update(each.digest + number + written)
            found.append(digest.digest())
        return found


def _large(value: float, text: str) -> tuple[bytes, str]:
    """Encode a whole number too large for a float to hold exactly: the float, and the text that makes it unique."""
    # 1e300 and the whole number it stands for are one JSON number.
    return _pack_double(value), text if int(float(value)) == value else f"={value}{text}"
