"""What makes a point the same when it comes again."""

import hashlib

from metric_forwarder.model import Message, Series

DIGEST_BYTES = 16


class Identifier:
    """Computes identities.

    Args:
        scope: where points go; the same point sent elsewhere is another delivery.
        by: ``content``, or ``message``: then equal points with equal timestamps are two points.
    """

    def __init__(self, scope: str, by: str) -> None:
        person = hashlib.blake2b(scope.encode(), digest_size=16).digest()
        # Copied for each point: that costs two thirds of making one.
        self._empty = hashlib.blake2b(digest_size=DIGEST_BYTES, person=person)
        self._by_content = by == "content"

    def identity(
        self,
        series: Series,
        value: float,
        timestamp_ms: int | None,
        key: str | None,
        message: Message,
        pointer: str,
    ) -> bytes | None:
        """The digest of what makes this point the same when it comes again; None if nothing does.

        In this order: the producer's idempotency key within the namespace; the content, if it has a time; the place in
        the event. Two equal readings with none of these are two readings.
        """
        if key is not None:
            text = f"key {len(series.namespace)} {series.namespace}{key}"
        elif timestamp_ms is not None and self._by_content:
            # 1 and 1.0 are one JSON number; beyond 2**53 a float no longer tells integers apart.
            number = int(value) if value == int(value) else value
            text = f"content {timestamp_ms} {number!r} {series.key}"
        elif message.coordinates is not None:
            text = f"place {message.place(pointer) if pointer else message.coordinates}"
        else:
            return None
        digest = self._empty.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()
