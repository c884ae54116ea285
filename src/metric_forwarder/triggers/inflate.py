"""Inflates gzip data piece by piece, up to a limit: a few KB can hold gigabytes."""

import zlib
from collections.abc import Iterable, Iterator

from metric_forwarder.triggers.decoding import TooLarge, Unreadable

MAGIC = b"\x1f\x8b"
_GZIP_ONLY = 31  # zlib's window size 15, and 16 for "a gzip header is there"
_PIECE_BYTES = 65_536
_SLICE_BYTES = 4_096


def inflate(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the content of gzip data, which may have several members.

    Raises:
        TooLarge: it holds more than ``limit`` bytes.
        Unreadable: it is not gzip, or it stops too early.
    """
    member = zlib.decompressobj(_GZIP_ONLY)
    left = limit
    for data in _sliced(chunks):
        while data:
            if member.eof:
                # Gzip's own tools also ignore such padding.
                data = data.lstrip(b"\0")  # noqa: PLW2901 - the rest of it
                if not data:
                    break
                member = zlib.decompressobj(_GZIP_ONLY)
            try:
                piece = member.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise Unreadable("is not intact gzip data: compress it again") from None
            left -= len(piece)
            if left < 0:
                raise TooLarge(limit)
            if piece:
                yield piece
            data = member.unconsumed_tail or member.unused_data  # noqa: PLW2901 - the rest of it
    if not member.eof:
        raise Unreadable("is gzip data that stops too early: it was cut off")


def _sliced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut data into small pieces: the data after each member is copied, and there may be ten thousand empty members."""
    for chunk in chunks:
        for start in range(0, len(chunk), _SLICE_BYTES):
            yield chunk[start : start + _SLICE_BYTES]


def bounded(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Pass uncompressed data on, up to a limit.

    Raises:
        TooLarge: it holds more than ``limit`` bytes.
    """
    left = limit
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise TooLarge(limit)
        yield chunk
