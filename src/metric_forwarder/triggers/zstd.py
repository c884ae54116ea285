"""Decompresses zstd data up to a limit, without taking more memory: a few KB can hold gigabytes.

It needs the package ``cramjam``, which the extra ``remote-write`` installs.
"""

import cramjam

from metric_forwarder.triggers.decoding import TooLarge, Unreadable


def decompress(data: bytes, limit: int) -> bytes:
    """Return the content of zstd data, which may have several frames.

    Raises:
        TooLarge: it holds more than ``limit`` bytes.
        Unreadable: it is not zstd, or it stops too early.
    """
    content = bytearray(limit)
    try:
        size = cramjam.zstd.decompress_into(data, content)
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise TooLarge(limit) from None
        raise Unreadable("is not intact zstd data: compress it again") from None
    del content[size:]
    return bytes(content)
