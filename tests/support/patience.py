"""Real time, on a machine that may be busy with other things."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

# What other work of the machine may add: only a guard. What a test guards against must take longer than its bound and this.
GRACE_S = 20.0


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Fail if the block takes much longer than it should."""
    started = time.monotonic()
    yield
    took_s = time.monotonic() - started
    assert took_s < seconds + GRACE_S, f"took {took_s:.1f} s, where {seconds} s would be right"
