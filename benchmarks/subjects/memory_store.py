"""The store in memory alone: each event claims and confirms as many identities as it has points, in batches of 500."""

import time
from itertools import count
from typing import Any

from benchmarks.subjects import Handle, serve
from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.dedupe.identity import DIGEST_BYTES
from metric_forwarder.dedupe.store import MemoryStore

BATCH = 500


def make(capacity: int) -> Handle:
    store = MemoryStore(3600.0, time.monotonic, capacity)
    numbers = count()

    def handle(event: dict[str, Any]) -> None:
        claims = store.begin(Deadline(SystemClock(), float("inf")))
        for _ in range(0, len(event["Records"]), BATCH):
            identities = [next(numbers).to_bytes(DIGEST_BYTES, "big") for _ in range(BATCH)]
            claims.claim(identities)
            claims.confirm(identities)

    return handle


if __name__ == "__main__":
    serve(make)
