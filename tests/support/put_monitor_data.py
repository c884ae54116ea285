"""A client of the receiver's protocol, for tests that only need points to arrive."""

import itertools
import json
import time
from typing import Any
from urllib.request import Request, urlopen

from metric_forwarder.put_monitor_data.server import PATHS
from metric_forwarder.put_monitor_data.signing import sign, string_to_sign
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator

_NONCES = itertools.count(1)


def put(emulator: Emulator, points: list[dict[str, Any]], namespace: str = "pc") -> int:
    """Send points as they are; return the code of the reply."""
    signed = {
        "secret_id": EXAMPLE_SECRET_ID,
        "region": "gz",
        "timestamp": int(time.time()),
        "nonce": next(_NONCES),
    }
    body = {
        "SecretId": signed["secret_id"],
        "Region": signed["region"],
        "Timestamp": signed["timestamp"],
        "Nonce": signed["nonce"],
        "Namespace": namespace,
        "Data": points,
        "Signature": sign(string_to_sign("POST", PATHS[0], **signed), EXAMPLE_SECRET_KEY),  # type: ignore[arg-type]
    }
    request = Request(emulator.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=20) as reply:
        code: int = json.loads(reply.read())["code"]
    return code
