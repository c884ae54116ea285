"""A Function URL or API Gateway: ``{"httpMethod":"POST","path":"/","headers":{…},"body":"…","queryString":{…}}``.

API Gateway adds ``requestContext``, ``isBase64Encoded`` and more; ``body`` may be missing, or be decoded already; the
names of headers come in any case. A load balancer (CLB) sends ``{"headers":{"X-Stgw-Time":"…",…},"payload":…}``, with the
path and the method in ``X-Uri`` and ``X-Method`` where it is configured to. Sources: Tencent Cloud, SCF Function URL, API
Gateway trigger and CLB trigger.

Points are accepted on any path; ``http_routes`` has the paths of common metrics clients. If the bridge is open, it reads the
requests to the receiver's own paths (``/v2/index.php``, ``/report.cgi``).
"""

import base64
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeGuard
from urllib.parse import parse_qsl

from metric_forwarder.model import FormatHint, Message
from metric_forwarder.settings.extras import missing
from metric_forwarder.triggers.decoding import (
    BodyStart,
    DecodeContext,
    Decoded,
    HttpAccess,
    HttpRefusal,
    TooLarge,
    Unreadable,
    checksum,
)
from metric_forwarder.triggers.http_routes import NoRoute, Route, find_route
from metric_forwarder.triggers.inflate import MAGIC, inflate
from metric_forwarder.triggers.traits import HTTP
from metric_forwarder.uint64 import parse_uint64

# The platform's own limit for a synchronous event; a compressed body is held to it once inflated.
MAX_BODY_BYTES = 6 * 2**20
_METHODS = ("POST", "PUT")
_GZIP = ("gzip", "x-gzip")
_ZSTD = "zstd"
# How compressed data begins, by its encoding; in gzip the third byte is always 8, for "deflate".
_BEGINNINGS = {**dict.fromkeys(_GZIP, MAGIC + b"\x08"), _ZSTD: b"\x28\xb5\x2f\xfd"}
# Content types that name a format if the path does not; see ``formats.detect``.
_TELLING_TYPES = (
    "application/openmetrics-text",
    "application/vnd.google.protobuf",
    "application/vnd.influx.line-protocol",
    "text/plain; version=0.0.4",
)
_SCHEMES = ("bearer", "token", "basic")
# Basic, too: some clients, such as collectd, send a password only after a reply that asks for it.
_CHALLENGE = {"WWW-Authenticate": 'Bearer, Basic realm="metric-forwarder"'}

CLOSED = (
    "HTTP is closed: set MF_HTTP_TOKEN to a token for the clients, or MF_HTTP_AUTH=cam if the platform "
    "authenticates them"
)

_LOST = (
    "is missing, though Content-Length announces one, so it was lost on the way: look at the gateway's limits, and let it "
    "pass binary bodies on as base64"
)


def matches(event: Any) -> bool:
    return isinstance(event, dict) and "headers" in event and ("httpMethod" in event or _is_balanced(event))


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded | HttpRefusal:
    headers, access = _lower_case(event["headers"]), context.http
    if "httpMethod" not in event:
        event, access = _as_gateway(event, headers), access._replace(platform_authenticates=False)
    bridge = access.bridge
    if bridge is not None and bridge.serves(event):
        return bridge.decode(event, HttpBody(event, headers), context.deadline)
    route = _check_head(event, headers, access)
    if isinstance(route, HttpRefusal):
        return route
    if event.get("body") in (None, "") and parse_uint64(headers.get("content-length")):
        return _decoded(Message("body", None, broken=_LOST), route, "")
    try:
        body = HttpBody(event, headers).read((route and route.max_zstd_bytes) or MAX_BODY_BYTES)
    except TooLarge as too_large:
        return HttpRefusal(413, f"the body {too_large.reason}")
    except Unreadable as unreadable:
        return _decoded(Message("body", event["body"], broken=unreadable.reason), route, "")
    if route is not None and route.is_binary and isinstance(body, str):
        body = _binary(body)
    key = headers.get("idempotency-key")
    # The same key with another body is not a repetition.
    message = Message("body", body, f"http/{key}~{checksum(body)}" if key else None)
    route = _without_zstd(route) if headers.get("content-encoding", "").lower() == _ZSTD else route
    return _decoded(message, route, headers.get("content-type", "").lower())


def _is_balanced(event: Mapping[str, Any]) -> bool:
    """Whether an event comes from a load balancer, which authenticates nobody."""
    return "payload" in event and "x-stgw-time" in _lower_case(event["headers"])


def _as_gateway(event: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the event of a load balancer as API Gateway would send it."""
    path, _, query = headers.get("x-uri", "/").partition("?")
    method = headers.get("x-method", "POST")
    return {
        **event,
        "httpMethod": method,
        "path": path,
        "queryString": dict(parse_qsl(query)),
        "body": event["payload"],
    }


def _binary(text: str) -> bytes:
    """Return the bytes of a message in protobuf that a gateway passed on as text.

    It does so if they are valid text, and some gateways write base64 without saying so. Base64 has no character for how
    a message with metrics begins: a tag of 10, behind a length if it is compressed.
    """
    with suppress(Unreadable):
        if text and "\n" not in text:
            return _from_base64(text)
    return text.encode("utf-8", "surrogatepass")


def _without_zstd(route: Route | None) -> Route | None:
    """Note in the hint that zstd has replaced the format's usual compression."""
    return route and route._replace(hint=route.hint._replace(content_encoding=_ZSTD))


def _decoded(message: Message, route: Route | None, content_type: str) -> Decoded:
    if route is None:
        hint = (
            FormatHint(content_type=content_type) if content_type.startswith(_TELLING_TYPES) else FormatHint()
        )
        return Decoded(HTTP, (message._replace(hint=hint),))
    traits = HTTP._replace(reply_to=route.reply_to)
    return Decoded(traits, (message._replace(format=route.format, hint=route.hint),))


def check_head(event: Mapping[str, Any], access: HttpAccess) -> HttpRefusal | None:
    """Return why a request is refused, by its method and headers alone; None if its body may be read."""
    if access.bridge is not None and access.bridge.serves(event):
        return None
    found = _check_head(event, _lower_case(event["headers"]), access)
    return found if isinstance(found, HttpRefusal) else None


def _check_head(
    event: Mapping[str, Any], headers: Mapping[str, str], access: HttpAccess
) -> Route | HttpRefusal | None:
    """Return the route of a request, or why it is refused; None: it is read as an ordinary payload."""
    if not (access.platform_authenticates or access.is_open):
        if not access.token:
            return HttpRefusal(401, CLOSED, _CHALLENGE)
        if not _knows(access.token.reveal(), headers.get("authorization", "")):
            reason = 'send the header "Authorization: Bearer …" with the token of MF_HTTP_TOKEN, or the token as password'
            return HttpRefusal(401, reason, _CHALLENGE)
    method = event["httpMethod"]
    if not isinstance(method, str) or method.upper() not in _METHODS:
        return HttpRefusal(405, "points are sent with POST or PUT", {"Allow": ", ".join(_METHODS)})
    route = find_route(event, headers.get("content-type", "").lower())
    if isinstance(route, NoRoute):
        return HttpRefusal(route.status, route.reason)
    return _check_encoding(headers.get("content-encoding", "").lower(), route) or route


def _check_encoding(encoding: str, route: Route | None) -> HttpRefusal | None:
    encodings = route.encodings if route else ()
    if encoding in ("", "identity", *_GZIP, *encodings):
        return None
    reads_zstd = _reads_zstd()
    if encoding == _ZSTD and reads_zstd:
        return None
    accepted = ", ".join(["gzip", *encodings, *([_ZSTD] if reads_zstd else [])])
    reason = f"a body is sent as it is, or with one of these as Content-Encoding: {accepted}"
    if encoding == _ZSTD:
        reason = f"{missing('remote-write', 'Content-Encoding zstd')}; or send {accepted}"
    return HttpRefusal(415, reason, {"Accept-Encoding": accepted})


def _reads_zstd() -> bool:
    """Whether the package that reads zstd is installed."""
    try:
        import_module("metric_forwarder.triggers.zstd")
    except ModuleNotFoundError:
        return False
    return True


def _knows(token: str, authorization: str) -> bool:
    """Return whether a header carries the token: as a bearer token, as InfluxDB's, or as the password of any user."""
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "basic":
        credentials = _password(credentials)
    # Also compared if the scheme is wrong, so that the time does not reveal anything.
    same = hmac.compare_digest(
        credentials.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass")
    )
    return same and scheme.lower() in _SCHEMES


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _lower_case(headers: Any) -> dict[str, str]:
    """Headers by their names in lower case; the first value if there is a list."""
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if isinstance(value, list) and value:
            value = value[0]  # noqa: PLW2901 - the value that counts
        if isinstance(value, str):
            found.setdefault(str(name).lower(), value.strip())
    return found


class HttpBody:
    """A ``RequestBody``."""

    def __init__(self, event: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._body = event.get("body")
        self._is_base64 = event.get("isBase64Encoded") in (True, "true")
        encoding = headers.get("content-encoding", "").lower()
        self._is_zstd = encoding == _ZSTD
        self._beginning = _BEGINNINGS.get(encoding)

    def read(self, max_zstd_bytes: int = MAX_BODY_BYTES) -> Any:
        """Read it whole; zstd data may hold up to ``max_zstd_bytes``."""
        if self._body is None:
            return ""
        if not isinstance(self._body, str):
            return self._body
        data = self._data(self._body)
        if self._is_compressed(data):
            if self._is_zstd:
                # Few clients send it.
                from metric_forwarder.triggers.zstd import decompress  # noqa: PLC0415

                return decompress(data, max_zstd_bytes)
            return b"".join(inflate([data], MAX_BODY_BYTES))
        if len(_as_bytes(data)) > MAX_BODY_BYTES:
            raise TooLarge(MAX_BODY_BYTES)
        return data

    def start(self, limit: int) -> BodyStart:
        if not isinstance(self._body, str):
            return BodyStart(_as_json(self.read()), is_whole=True)
        data = self._data(self._body)
        if self._is_zstd or not self._is_compressed(data):
            # No client of the receiver sends zstd.
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
        if self._beginning is None or isinstance(data, bytes):
            return data
        return _undamaged(data, self._beginning, _ZSTD if self._is_zstd else "gzip")

    def _is_compressed(self, data: str | bytes) -> TypeGuard[bytes]:
        # A body that does not begin like compressed data was decompressed by a gateway.
        return (
            self._beginning is not None and isinstance(data, bytes) and data.startswith(self._beginning[:2])
        )


def _as_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")


def _as_json(body: Any) -> bytes:
    """Write a body that a gateway has decoded as JSON again; a missing body is an empty text."""
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


def _undamaged(text: str, beginning: bytes, name: str) -> str | bytes:
    """Return a body as bytes if it is compressed data that a gateway has turned into text; otherwise the text itself.

    Text cannot hold such data: either the gateway used base64 without saying so, or it turned every byte into a character.
    """
    if text.startswith(base64.b64encode(beginning[:3]).decode()):
        return _from_base64(text)
    if not text.startswith(beginning[:2].decode("latin-1")):
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Unreadable(
            f"is {name} data that was damaged on the way: send it base64-encoded, or as plain JSON"
        ) from None
