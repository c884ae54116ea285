"""Snappy block → bytes, bounded before memory is taken. Source: google/snappy, the format's description."""

from metric_forwarder.formats.protobuf import write_varint

# Decompressed; senders limit their requests to some hundred thousand bytes.
MAX_BYTES = 32 * 2**20
# A copy of 64 bytes takes three.
_BEST_RATIO = 22


class BadSnappy(Exception):
    """Bytes that are not a snappy block."""


def decompress(data: bytes) -> bytes:
    """Decompress a block.

    Raises:
        BadSnappy: it is not a block, or holds too much.
    """
    size, position = _size(data)
    if size > MAX_BYTES:
        raise BadSnappy(f"holds more than {MAX_BYTES // 2**20} MB: send less in one request")
    if size > _BEST_RATIO * len(data):
        raise BadSnappy(
            "is not a snappy block, since its bytes cannot hold as much as it says: compress it again"
        )
    try:
        # Takes a thirtieth of the time; the package is installed if points go to remote write.
        import cramjam  # noqa: PLC0415
    except ModuleNotFoundError:
        return _decompress(data, size, position)
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError:
        raise BadSnappy(_BROKEN) from None


def _decompress(data: bytes, size: int, position: int) -> bytes:
    found = bytearray()
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            extra = length - 60
            if extra > 0:
                length = int.from_bytes(data[position : position + extra], "little") + 1
                position += extra
            if length > end - position or len(found) + length > size:
                raise BadSnappy(_BROKEN)
            found += data[position : position + length]
            position += length
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset = (tag >> 5) << 8 | data[position] if position < end else 0
            position += 1
        else:
            width = 2 if kind == 2 else 4  # noqa: PLR2004 - as the format numbers its copies
            offset = int.from_bytes(data[position : position + width], "little")
            position += width
        begin = len(found) - offset
        if offset == 0 or begin < 0 or position > end or len(found) + length > size:
            raise BadSnappy(_BROKEN)
        if offset >= length:
            found += found[begin : begin + length]
        else:
            # The copy overlaps itself.
            pattern = bytes(found[begin:])
            found += (pattern * (length // offset + 1))[:length]
    if len(found) != size:
        raise BadSnappy(_BROKEN)
    return bytes(found)


_BROKEN = (
    "is not a snappy block: compress the request as a block, not as a stream of frames, and let a gateway on the way pass "
    "binary bodies on as base64"
)


def _size(data: bytes) -> tuple[int, int]:
    size = shift = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follow
            return size, position + 1
        shift += 7
    raise BadSnappy(_BROKEN)


def store(data: bytes) -> bytes:
    """Write a block that is not compressed: its length, and all of it as one literal."""
    if not data:
        return b"\0"
    # A literal; the four bytes after the tag are its length minus one.
    return b"%b%c%b%b" % (write_varint(len(data)), 63 << 2, (len(data) - 1).to_bytes(4, "little"), data)
