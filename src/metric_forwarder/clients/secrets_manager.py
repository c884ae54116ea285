"""A key in Secrets Manager (SSM), read with the function's role. Only this module uses Tencent Cloud's SDK in the function.

The secret's text is ``{"SecretId": "…", "SecretKey": "…"}``. Sources: Tencent Cloud, Secrets Manager,
``GetSecretValue`` (2019-09-23); SCF, environment variables of a function with a role; the SDK's own code.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clock import Clock, Deadline
from metric_forwarder.credentials import Credentials
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.machine import Machine
from metric_forwarder.secret import Secret, is_plain

_SERVICE, _VERSION, _ACTION = "ssm", "2019-09-23", "GetSecretValue"
_ROLE = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")
# At DEBUG the SDK prints headers and bodies, with the role's token and the secret.
_IMPORTING = threading.Lock()
_SDK_LOGGER = "tencentcloud_sdk_common"

# A secret's text has at most 4 KB.
_MAX_ANSWER_BYTES = 65_536

_FORM = 'its text must be {"SecretId": "…", "SecretKey": "…"}'
_PERMISSION = "let the function's role do ssm:GetSecretValue on the secret: docs/deploy.md has the policy"
_NO_ROLE = (
    f"give it one, and {_PERMISSION}; outside of SCF, which sets them, export TENCENTCLOUD_SECRETID and "
    "TENCENTCLOUD_SECRETKEY of a sub-account that may do the same"
)
_UNTRUSTED = "name its authority's certificates in MF_CA_FILE, for an MF_SECRET_ENDPOINT outside of tencentcloudapi.com"
_UNREACHABLE = "a function in a VPC reaches it through public access, a NAT gateway or an MF_SECRET_ENDPOINT inside the VPC"

# The beginning of an error's code → what to do. Source: Tencent Cloud, Secrets Manager, error codes.
_ERRORS: Mapping[str, tuple[Action, str]] = {
    "ResourceNotFound": (
        Action.STOP,
        "check MF_SECRET_NAME and MF_SECRET_VERSION, and that the secret is in the region of MF_REGION",
    ),
    "ResourceUnavailable": (Action.STOP, "enable the secret in the console of Secrets Manager"),
    "UnauthorizedOperation": (Action.STOP, _PERMISSION),
    "AuthFailure": (Action.STOP, _PERMISSION),
    "RequestLimitExceeded": (Action.RETRY, "wait; the points can still be delivered"),
    "InternalError": (Action.RETRY, "wait; the points can still be delivered"),
    "FailedOperation": (Action.RETRY, "wait; if it lasts, check the secret's key in Key Management Service"),
}
_OTHER_ERROR = (Action.STOP, "look the code up among those of GetSecretValue")


class SecretReference(NamedTuple):
    """The name and the place of a secret.

    Attributes:
        region: the full name, such as ``ap-guangzhou``.
        endpoint: ``https://host``, or ``http://`` for one on this machine.
        ca_file: the certificates to trust; None: those of the SDK.
    """

    name: str
    version: str
    region: str
    endpoint: str
    ca_file: str | None = None


ReadSecret = Callable[[SecretReference, list[str], float], Credentials | Verdict]
"""Reads a secret within a number of seconds, with the role's temporary key: id, key and token."""


class SecretsManager:
    """A ``CredentialSource`` that reads a secret once while the instance is warm, and again when its key is refused.

    Args:
        environ: the environment, in which the platform renews the role's temporary key at each invocation.
        machine: its threads read.
        read: reads the secret; None: with the SDK.
    """

    def __init__(
        self,
        reference: SecretReference,
        environ: Mapping[str, str],
        machine: Machine,
        read: ReadSecret | None = None,
    ) -> None:
        self._reference = reference
        self._tasks = machine.tasks
        self._read_secret = read or partial(_read_secret, machine.clock)
        self._environ = environ
        self._credentials: Credentials | None = None
        self._worker: SerialWorker | None = None

    def ensure_loaded(self, timeout_s: float) -> Verdict | None:
        if self._credentials is None:
            found = self.read(timeout_s)
            if isinstance(found, Verdict):
                return found
            self._credentials = found
        return None

    def current(self) -> Credentials:
        if self._credentials is None:
            raise RuntimeError("the secret was not obtained")
        return self._credentials

    def reload(self, timeout_s: float) -> bool:
        found = self.read(timeout_s)
        if isinstance(found, Verdict) or found == self._credentials:
            return False
        self._credentials = found
        return True

    def read(self, timeout_s: float) -> Credentials | Verdict:
        """Read the secret in a second thread: the SDK waits without limit for a name server that never answers.

        While a thread hangs, no other is started.
        """
        role = [self._environ.get(name, "") for name in _ROLE]
        if not role[0] or not role[1]:
            return _cannot(Action.STOP, "the function has no role", _NO_ROLE)
        if self._worker is not None and self._worker.is_busy:
            return _TOO_SLOW
        try:
            self._worker = SerialWorker("secret", self._tasks)
        except RuntimeError:
            return _cannot(Action.RETRY, "no thread could be started", "give the function more memory")
        future = self._worker.submit(lambda: self._read_secret(self._reference, role, timeout_s))
        self._worker.dismiss()
        try:
            return future.result(timeout_s)
        except TimeoutError:
            return _TOO_SLOW


def _read_secret(
    clock: Clock, reference: SecretReference, role: list[str], timeout_s: float
) -> Credentials | Verdict:
    answer = _get_secret_value(clock, reference, role, timeout_s)
    return answer if isinstance(answer, Verdict) else _parse(answer)


class _BoundedRequests:
    """Replaces the SDK's own client, which would accept a reply of any size, for any time.

    Args:
        inner: the SDK's own.
        deadline: when reading ends.
    """

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def send_request(self, request: Any) -> Any:
        response = self._inner.send_request(request)
        try:
            content = self._read(response)
        finally:
            response.close()
        bounded = type(response)()
        bounded.status_code, bounded.headers = response.status_code, response.headers
        bounded.raw = BytesIO(content)
        return bounded

    def _read(self, response: Any) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ValueError("encoded, which was not asked for: a few bytes may become gigabytes")
        content = bytearray()
        # Read in small pieces, since a piece is waited for until it is complete.
        for piece in response.iter_content(64):
            content += piece
            if len(content) > _MAX_ANSWER_BYTES:
                raise ValueError("too large")
            if self._deadline.remaining() <= 0:
                raise OSError("too slow")
        return bytes(content)


def _get_secret_value(
    clock: Clock, reference: SecretReference, role: list[str], timeout_s: float
) -> Verdict | dict[str, Any]:
    # Imported here, since it is slow; all at once, since two threads may not import parts of it at the same time.
    with _IMPORTING:
        from tencentcloud.common.common_client import CommonClient  # noqa: PLC0415
        from tencentcloud.common.credential import Credential  # noqa: PLC0415
        from tencentcloud.common.exception import TencentCloudSDKException  # noqa: PLC0415
        from tencentcloud.common.profile.client_profile import ClientProfile  # noqa: PLC0415
        from tencentcloud.common.profile.http_profile import HttpProfile  # noqa: PLC0415

    logging.getLogger(_SDK_LOGGER).disabled = True
    endpoint = urlsplit(reference.endpoint)
    # The SDK waits this long for a connection, and again for a reply.
    http = HttpProfile(
        protocol=endpoint.scheme,
        endpoint=endpoint.netloc,
        reqTimeout=timeout_s / 2,
        certification=reference.ca_file,
    )
    request = {"SecretName": reference.name, "VersionId": reference.version}
    try:
        credential = Credential(role[0], role[1], role[2] or None)
        # Without the SDK's retryer, which raises the first error even after a later success.
        client = CommonClient(
            _SERVICE, _VERSION, credential, reference.region, ClientProfile(httpProfile=http)
        )
        client.request = _BoundedRequests(client.request, Deadline(clock, clock.monotonic() + timeout_s))
        response = client.call_json(_ACTION, request, headers={"Accept-Encoding": "identity"})["Response"]
        # The SDK looks for an error only in replies of two content types.
        return _judge_error(str(response["Error"]["Code"])) if "Error" in response else dict(response)
    except TencentCloudSDKException as error:
        return _judge_error(str(error.code), str(error.message))
    except OSError:
        # requests raises these while the SDK reads the body.
        return _cannot(Action.RETRY, "Secrets Manager's answer broke off", _UNREACHABLE)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _cannot(Action.RETRY, "the reply is not from Secrets Manager", "check MF_SECRET_ENDPOINT")


def _judge_error(code: str, message: str = "") -> Verdict:
    if code == "ClientNetworkError":
        # The SDK keeps only the text of the error that requests raised.
        if "CERTIFICATE_VERIFY_FAILED" in message:
            return _cannot(Action.RETRY, "the certificate of Secrets Manager is not trusted", _UNTRUSTED)
        if "timed out" in message:
            return _TOO_SLOW
        return _cannot(
            Action.RETRY, "Secrets Manager could not be reached", f"check MF_SECRET_ENDPOINT; {_UNREACHABLE}"
        )
    if code == "ServerNetworkError":
        return _cannot(
            Action.RETRY, "Secrets Manager answered with an HTTP error", "check MF_SECRET_ENDPOINT"
        )
    action, remedy = next((rule for prefix, rule in _ERRORS.items() if code.startswith(prefix)), _OTHER_ERROR)
    shown = re.sub(r"[^A-Za-z0-9.]", "", code)[:80]
    return _cannot(action, f"Secrets Manager answered {shown}", remedy)


def _parse(response: Mapping[str, Any]) -> Credentials | Verdict:
    text = response.get("SecretString")
    if not isinstance(text, str) or not text:
        return _cannot(Action.STOP, "the secret of MF_SECRET_NAME is not a text", _FORM)
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        return _cannot(Action.STOP, "the secret of MF_SECRET_NAME is not a JSON object", _FORM)
    key = {name: members.get(name) for name in ("SecretId", "SecretKey")}
    lacking = [name for name, value in key.items() if not isinstance(value, str) or not value.strip()]
    if lacking:
        return _cannot(Action.STOP, f"the secret of MF_SECRET_NAME has no {' and no '.join(lacking)}", _FORM)
    secret_id, secret_key = (str(value).strip() for value in key.values())
    if not is_plain(secret_id + secret_key):
        what = "the secret of MF_SECRET_NAME holds characters that no key has"
        return _cannot(Action.STOP, what, f"{_FORM}, with only letters and digits")
    return Credentials(secret_id, Secret(secret_key))


def _cannot(action: Action, what: str, remedy: str) -> Verdict:
    return Verdict(action, "secret", f"the key could not be read: {what}: {remedy}")


_TOO_SLOW = _cannot(Action.RETRY, "Secrets Manager could not be reached in time", _UNREACHABLE)
