"""Sign a PutMonitorData request as the custom-monitoring receiver checks it.

Source: the receiver's own document, section 5. It differs from the general API v1 signature in two ways:
only five parameters are signed, and the host is written without its port. ``Namespace`` and ``Data`` are not
signed at all.
"""

import base64
import hashlib
import hmac

ACTION = "PutMonitorData"
# The signature always covers this name, without a port, even if the request goes elsewhere.
SIGNED_HOST = "receiver.monitor.tencentyun.com"


def string_to_sign(method: str, path: str, *, secret_id: str, region: str, timestamp: int, nonce: int) -> str:
    """Return the text the signature covers: five raw (not URL-encoded) parameters in alphabetical order.

    Args:
        method: ``GET`` or ``POST``.
        path: the path as requested, ``/v2/index.php`` or ``/report.cgi``.
        secret_id: the main account's SecretId.
        region: the short region code, such as ``gz``.
        timestamp: Unix seconds at the moment of signing.
        nonce: a positive integer, fresh for every request.
    """
    return (
        f"{method}{SIGNED_HOST}{path}"
        f"?Action={ACTION}&Nonce={nonce}&Region={region}&SecretId={secret_id}&Timestamp={timestamp}"
    )


def sign(text: str, secret_key: str) -> str:
    """Return ``base64(HMAC-SHA1(secret_key, text))``."""
    digest = hmac.new(secret_key.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")
