"""Fetches objects from COS by a signed GET, with the credentials of the function's role.

Sources: Tencent Cloud, COS request signature (its worked example is in the tests) and GET Object.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from metric_forwarder.clients.http import Failure, HttpRequest, Streamed, Streaming
from metric_forwarder.clock import Deadline
from metric_forwarder.secret import Secret
from metric_forwarder.triggers.cos import MAX_OBJECT_BYTES
from metric_forwarder.triggers.decoding import ObjectName, StoredObject, TooLarge, Unreadable

# Inside a VPC of the same region, this name resolves to an internal address.
ENDPOINT = "https://{bucket}.cos.{region}.myqcloud.com"
_VALID_S = 600
_SKEW_S = 60


class RoleCredentials(NamedTuple):
    """The temporary key that the platform gives a function with a role, and its session token."""

    secret_id: str
    secret_key: Secret
    token: Secret

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "RoleCredentials | None":
        """Read them from the environment, which the platform renews for each invocation; None if the function has no role."""
        secret_id, secret_key, token = (
            environ.get(f"TENCENTCLOUD_{name}", "") for name in ("SECRETID", "SECRETKEY", "SESSIONTOKEN")
        )
        if not secret_id or not secret_key:
            return None
        return cls(secret_id, Secret(secret_key), Secret(token))


class CosObjects:
    """An ``ObjectSource``.

    Args:
        role: returns the present credentials.
        connect: makes the transport; called when the first object is fetched.
        time: Unix seconds.
        endpoint: the address of a bucket, with ``{bucket}`` and ``{region}``.
    """

    def __init__(
        self,
        role: Callable[[], RoleCredentials | None],
        connect: Callable[[], Streaming],
        time: Callable[[], float],
        endpoint: str = ENDPOINT,
    ) -> None:
        self._role = role
        self._connect = connect
        self._time = time
        self._endpoint = endpoint
        self._streaming: Streaming | None = None

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        """See ``ObjectSource``."""
        role = self._role()
        if role is None:
            raise Unreadable(
                "cannot be fetched: give the function a role that may read the bucket (cos:GetObject)",
                retriable=True,
            )
        if deadline.remaining() <= 0:
            raise _not_now("there was no time left to fetch it")
        if self._streaming is None:
            self._streaming = self._connect()
        answer = self._streaming.stream(self._request(name, role), deadline)
        if isinstance(answer, Failure):
            raise _not_now(answer.detail)
        if answer.status != 200:  # noqa: PLR2004 - the one status that carries an object
            answer.close()
            raise _refused(answer.status)
        if answer.announced_bytes > MAX_OBJECT_BYTES:
            answer.close()
            raise TooLarge(MAX_OBJECT_BYTES)
        return StoredObject(_version(answer.headers), _chunks(answer), answer.close)

    def _request(self, name: ObjectName, role: RoleCredentials) -> HttpRequest:
        base = self._endpoint.format(bucket=name.bucket, region=name.region)
        path = f"/{name.key}"
        headers = {"host": urlsplit(base).netloc}
        if role.token:
            headers["x-cos-security-token"] = role.token.reveal()
        now = int(self._time())
        signature = authorization(
            "GET",
            path,
            headers,
            secret_id=role.secret_id,
            secret_key=role.secret_key.reveal(),
            key_time=f"{now - _SKEW_S};{now + _VALID_S}",
        )
        return HttpRequest("GET", base + quote(path, safe="/"), {**headers, "Authorization": signature}, None)


def authorization(
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    secret_id: str,
    secret_key: str,
    key_time: str,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """Return the value of the ``Authorization`` header of a request to COS.

    Args:
        method: in upper or lower case.
        path: not URL-encoded.
        headers: those to sign.
        secret_id: of the key that signs.
        secret_key: of the key that signs.
        key_time: the beginning and the end of its validity, Unix seconds: ``"1557989753;1557996953"``.
        parameters: those of the query to sign.
    """
    header_names, header_text = _canonical(headers)
    parameter_names, parameter_text = _canonical(parameters or {})
    request = f"{method.lower()}\n{path}\n{parameter_text}\n{header_text}\n"
    digest = hashlib.sha1(request.encode()).hexdigest()  # noqa: S324 - the protocol's choice
    key = _hmac_sha1(secret_key, key_time)
    signature = _hmac_sha1(key, f"sha1\n{key_time}\n{digest}\n")
    return (
        f"q-sign-algorithm=sha1&q-ak={secret_id}&q-sign-time={key_time}&q-key-time={key_time}"
        f"&q-header-list={header_names}&q-url-param-list={parameter_names}&q-signature={signature}"
    )


def _canonical(members: Mapping[str, str]) -> tuple[str, str]:
    encoded = sorted((quote(name, safe="").lower(), quote(value, safe="")) for name, value in members.items())
    return ";".join(name for name, _ in encoded), "&".join(f"{name}={value}" for name, value in encoded)


def _hmac_sha1(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest()


def _version(headers: Mapping[str, str]) -> str:
    """Return the digest of the content and the time of the upload, so that the same content uploaded again is new."""
    tag = headers.get("ETag", "")
    return f"{tag}@{headers.get('Last-Modified', '')}" if tag else ""


def _chunks(answer: Streamed) -> Iterator[bytes]:
    for chunk in answer.chunks:
        if isinstance(chunk, Failure):
            raise _not_now(chunk.detail)
        yield chunk


def _not_now(detail: str) -> Unreadable:
    return Unreadable(f"could not be fetched from COS this time: {detail}", retriable=True)


def _refused(status: int) -> Unreadable:
    if status == 404:  # noqa: PLR2004 - not found
        return Unreadable("is not in COS (HTTP 404): it was removed, or the bucket is in another region")
    remedy = "let the function's role read the bucket (cos:GetObject)" if status == 403 else "COS refused it"  # noqa: PLR2004 - forbidden
    return Unreadable(f"could not be fetched from COS this time (HTTP {status}): {remedy}", retriable=True)
