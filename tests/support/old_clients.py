"""Clients of the receiver as its document shows them, written from the document alone: none of the project's code."""

import base64
import hashlib
import hmac
import json
import random
import time
import urllib.parse
import urllib.request
from typing import Any, NamedTuple


class OldClient(NamedTuple):
    """One of the many that are in use; ``method`` and ``path`` are its own, and it knows no other."""

    secret_id: str
    secret_key: str
    method: str = "POST"
    path: str = "/v2/index.php"
    sends_action: bool = False
    region: str = "gz"

    def members(self, namespace: str, data: Any, **replaced: Any) -> dict[str, Any]:
        """What it sends; ``replaced`` stands for what went wrong in it, or on the way."""
        signed: dict[str, Any] = {"Timestamp": int(time.time()), "Nonce": random.randint(10000, 100000)}
        signed |= {name: value for name, value in replaced.items() if name in signed}
        text = (
            f"{self.method}receiver.monitor.tencentyun.com{self.path}?Action=PutMonitorData&Nonce={signed['Nonce']}"
            f"&Region={self.region}&SecretId={self.secret_id}&Timestamp={signed['Timestamp']}"
        )
        digest = hmac.new(self.secret_key.encode(), text.encode(), hashlib.sha1).digest()
        members = {
            "SecretId": self.secret_id,
            "Namespace": namespace,
            "Region": self.region,
            "Data": data,
            **signed,
            "Signature": base64.b64encode(digest).decode(),
        }
        if self.sends_action:
            members["Action"] = "PutMonitorData"
        return {name: value for name, value in {**members, **replaced}.items() if value is not None}

    def send(self, base_url: str, namespace: str, data: Any, **replaced: Any) -> tuple[int, dict[str, Any]]:
        """Send, and return the HTTP status and the decoded answer."""
        members = self.members(namespace, data, **replaced)
        url = base_url + self.path
        if self.method == "GET":
            request = urllib.request.Request(f"{url}?{encode_query(members)}")
        else:
            request = urllib.request.Request(url, json.dumps(members).encode())
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.loads(reply.read())


def encode_query(members: dict[str, Any]) -> str:
    """A GET's query string, as the document's sample makes it: spaces become plus signs."""
    return urllib.parse.urlencode({**members, "Data": json.dumps(members["Data"])})
