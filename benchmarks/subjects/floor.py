"""The floor: only the work that every program needs that delivers by ``requests``.

It decodes each message, encodes and signs each batch, posts it by a plain session, and parses each reply. It does not
validate, recognise duplicates, count, limit time or retry.
"""

import base64
import hashlib
import hmac
import json
import random
import time
from typing import Any

import requests

from benchmarks.subjects import Handle, serve
from benchmarks.workload import NAMESPACE, REGION, SECRET_ID, SECRET_KEY


def request_body(data: list[Any]) -> str:
    """Make a signed request as the receiver's document describes it."""
    timestamp, nonce = int(time.time()), random.randint(1, 2**31 - 1)
    text = (
        "POSTreceiver.monitor.tencentyun.com/v2/index.php?Action=PutMonitorData"
        f"&Nonce={nonce}&Region={REGION}&SecretId={SECRET_ID}&Timestamp={timestamp}"
    )
    digest = hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
    return json.dumps(
        {
            "Action": "PutMonitorData",
            "SecretId": SECRET_ID,
            "Region": REGION,
            "Timestamp": timestamp,
            "Nonce": nonce,
            "Signature": base64.b64encode(digest).decode(),
            "Namespace": NAMESPACE,
            "Data": data,
        }
    )


def decoded_points(event: dict[str, Any]) -> list[Any]:
    """Return the points of an event, whatever the form of its messages."""
    points: list[Any] = []
    texts = (
        [event["body"]] if "body" in event else [record["Ckafka"]["msgBody"] for record in event["Records"]]
    )
    for text in texts:
        decoded = json.loads(text)
        if isinstance(decoded, list):
            points += decoded
        elif "points" in decoded:
            points += decoded["points"]
        else:
            points.append(decoded)
    return points


def make(url: str, batch: int) -> Handle:
    session = requests.Session()

    def handle(event: dict[str, Any]) -> None:
        points = decoded_points(event)
        for start in range(0, len(points), batch):
            reply = session.post(url, data=request_body(points[start : start + batch]))
            if reply.json()["code"] != 0:
                raise RuntimeError("the receiver refused a request")

    return handle


if __name__ == "__main__":
    serve(make)
