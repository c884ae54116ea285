"""How commands to Redis are written: ``clients.redis.CommandWriter``."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import Encoder
from redis.connection import PythonRespSerializer

from metric_forwarder.clients.redis import CommandWriter

words = st.lists(
    st.binary(max_size=40) | st.text(st.characters(codec="utf-8"), max_size=20) | st.integers(), max_size=30
)
keys = st.lists(st.binary(min_size=30, max_size=30), max_size=30)


@given(words, keys)
def test_a_command_has_the_bytes_that_the_library_would_write(
    words: list[bytes | str | int], keys: list[bytes]
) -> None:
    command = ("EVALSHA", *keys, *words)
    library: Any = PythonRespSerializer(6000, Encoder("utf-8", "strict", decode_responses=False).encode)  # type: ignore[no-untyped-call]  # not annotated there

    assert b"".join(CommandWriter().pack(*command)) == b"".join(library.pack(*command))


def test_a_command_is_sent_in_one_piece() -> None:
    assert len(CommandWriter().pack("SET", b"key", b"x" * 100_000)) == 1
