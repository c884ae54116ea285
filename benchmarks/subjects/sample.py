"""The sample of the receiver's document, in today's Python: one point a request, and a new connection for each request."""

import json
import urllib.request
from typing import Any

from benchmarks.subjects import Handle, serve
from benchmarks.subjects.floor import request_body


def make(url: str) -> Handle:
    def handle(event: dict[str, Any]) -> None:
        for record in event["Records"]:
            body = request_body([json.loads(record["Ckafka"]["msgBody"])])
            request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as reply:
                if int(json.loads(reply.read())["code"]) != 0:
                    raise RuntimeError("the receiver refused a request")

    return handle


if __name__ == "__main__":
    serve(make)
