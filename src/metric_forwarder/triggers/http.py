"""A Function URL or API Gateway: ``{"httpMethod":"POST","path":"/","headers":{…},"body":"…","queryString":{…}}``.

API Gateway adds ``requestContext``, ``isBase64Encoded`` and more; ``body`` may be missing, or be decoded already; the
names of headers come in any case. Sources: Tencent Cloud, SCF Function URL and API Gateway trigger.

Points are accepted on any path. If the bridge is open, it reads the requests to the receiver's own paths
(``/v2/index.php``, ``/report.cgi``).
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from metric_forwarder.model import Message
from metric_forwarder.triggers.decoding import (
    BodyStart,
    DecodeContext,
    Decoded,
    HttpAccess,
    HttpRejection,
    TooLarge,
    Unreadable,
    checksum,
)
from metric_forwarder.triggers.inflate import MAGIC, inflate
from metric_forwarder.triggers.traits import HTTP

# The platform's own limit for a synchronous event; a compressed body is held to it once inflated.
MAX_BODY_BYTES = 6 * 2**20
_METHODS = ("POST", "PUT")
_GZIP = ("gzip", "x-gzip")
_ENCODED_MAGIC = base64.b64encode(MAGIC + b"\x08").decode()  # every gzip file goes on with 8, for "deflate"
_BEARER = {"WWW-Authenticate": "Bearer"}

_CLOSED = (
    "HTTP is closed: set MF_HTTP_TOKEN to a token for the clients, or MF_HTTP_AUTH=cam if the platform "
    "authenticates them"
)


def matches(event: Any) -> bool:
    return isinstance(event, dict) and "httpMethod" in event and "headers" in event


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded | HttpRejection:
    headers = _lower_case(event["headers"])
    bridge = context.http.bridge
    if bridge is not None and bridge.serves(event):
        return bridge.decode(event, HttpBody(event, headers), context.deadline)
    rejection = _check_head(event, headers, context.http)
    if rejection is not None:
        return rejection
    key = headers.get("idempotency-key")
    try:
        body = HttpBody(event, headers).read()
        # A client that takes a key again for something else says something else.
        message = Message("body", body, f"http/{key}~{checksum(body)}" if key else None)
    except TooLarge as too_large:
        return HttpRejection(413, f"the body {too_large.reason}")
    except Unreadable as unreadable:
        message = Message("body", None, broken=unreadable.reason)
    return Decoded(HTTP, (message,))


def check_head(event: Mapping[str, Any], access: HttpAccess) -> HttpRejection | None:
    """Return why a request is not let in, by its method and headers alone; None if its body may be read."""
    if access.bridge is not None and access.bridge.serves(event):
        return None
    return _check_head(event, _lower_case(event["headers"]), access)


def _check_head(
    event: Mapping[str, Any], headers: Mapping[str, str], access: HttpAccess
) -> HttpRejection | None:
    if not access.platform_authenticates:
        if not access.token:
            return HttpRejection(401, _CLOSED, _BEARER)
        if not _knows(access.token.reveal(), headers.get("authorization", "")):
            reason = 'send the header "Authorization: Bearer …" with the token of MF_HTTP_TOKEN'
            return HttpRejection(401, reason, _BEARER)
    method = event["httpMethod"]
    if not isinstance(method, str) or method.upper() not in _METHODS:
        return HttpRejection(405, "points are sent with POST or PUT", {"Allow": ", ".join(_METHODS)})
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in ("", "identity", *_GZIP):
        return HttpRejection(
            415, "a body is sent as it is, or with Content-Encoding: gzip", {"Accept-Encoding": "gzip"}
        )
    return None


def _knows(token: str, authorization: str) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    # Also compared when the scheme is wrong, so that time tells nothing.
    same = hmac.compare_digest(
        credentials.strip().encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass")
    )
    return same and scheme.lower() == "bearer"


def _lower_case(headers: Any) -> dict[str, str]:
    """Headers by their names in lower case; of a list of values the first."""
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if isinstance(value, list) and value:
            value = value[0]  # noqa: PLW2901 - the value that counts
        if isinstance(value, str):
            found.setdefault(str(name).lower(), value.strip())
    return found


class HttpBody:
    """A ``RequestBody``: see there."""

    def __init__(self, event: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._body = event.get("body")
        self._is_base64 = event.get("isBase64Encoded") in (True, "true")
        self._may_be_gzip = headers.get("content-encoding", "").lower() in _GZIP

    def read(self) -> Any:
        if self._body is None:
            return ""
        if not isinstance(self._body, str):
            return self._body
        data = self._data(self._body)
        if self._is_compressed(data):
            return b"".join(inflate([data], MAX_BODY_BYTES))
        if len(_as_bytes(data)) > MAX_BODY_BYTES:
            raise TooLarge(MAX_BODY_BYTES)
        return data

    def start(self, limit: int) -> BodyStart:
        if not isinstance(self._body, str):
            return BodyStart(_as_json(self.read()), is_whole=True)
        data = self._data(self._body)
        if not self._is_compressed(data):
            content = _as_bytes(data)
            if len(content) > MAX_BODY_BYTES:
                raise TooLarge(MAX_BODY_BYTES)
            return BodyStart(content, is_whole=True)
        inflated = bytearray()
        for piece in inflate([data], MAX_BODY_BYTES):
            inflated += piece
            if len(inflated) > limit:
                return BodyStart(bytes(inflated[:limit]), is_whole=False)
        return BodyStart(bytes(inflated), is_whole=True)

    def _data(self, body: str) -> str | bytes:
        data = _from_base64(body) if self._is_base64 else body
        return _undamaged(data) if self._may_be_gzip and isinstance(data, str) else data

    def _is_compressed(self, data: str | bytes) -> TypeGuard[bytes]:
        # A body that does not begin like gzip was inflated on the way.
        return self._may_be_gzip and isinstance(data, bytes) and data.startswith(MAGIC)


def _as_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")


def _as_json(body: Any) -> bytes:
    """Write as JSON what was decoded on the way; no body is an empty text."""
    if body == "":
        return b""
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        raise Unreadable("was decoded on the way into something that is not JSON") from None


def _from_base64(text: str) -> bytes:
    if len(text) > MAX_BODY_BYTES * 3 // 2:
        raise TooLarge(MAX_BODY_BYTES)
    try:
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except ValueError:
        raise Unreadable("is not base64, though isBase64Encoded says so") from None


def _undamaged(text: str) -> str | bytes:
    """Return a body as bytes if it is gzip data that a gateway made a text of, and the text itself otherwise.

    Text cannot hold gzip data: a gateway that does not mention base64 has used it nonetheless, or has turned every byte
    into a character.
    """
    if text.startswith(_ENCODED_MAGIC):
        return _from_base64(text)
    if not text.startswith(MAGIC.decode("latin-1")):
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Unreadable(
            "is gzip data damaged on the way: send it base64-encoded, or as plain JSON"
        ) from None
