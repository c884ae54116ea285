"""Signature version 3 of Tencent Cloud's API, TC3-HMAC-SHA256, written from its document."""

import hashlib
import hmac
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler


def authorization(
    request: BaseHTTPRequestHandler, body: bytes, *, service: str, secret_id: str, secret_key: str
) -> str:
    """The header that this request must carry."""
    timestamp = request.headers["X-TC-Timestamp"]
    date = datetime.fromtimestamp(int(timestamp), timezone.utc).strftime("%Y-%m-%d")
    headers = f"content-type:{request.headers['Content-Type']}\nhost:{request.headers['Host']}\n"
    canonical = "\n".join(["POST", "/", "", headers, "content-type;host", hashlib.sha256(body).hexdigest()])
    scope = f"{date}/{service}/tc3_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"TC3" + secret_key.encode()
    for part in (date, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"TC3-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    return f"TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}"
