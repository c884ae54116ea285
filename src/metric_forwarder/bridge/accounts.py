"""The keys by which the bridge authenticates requests that are meant for the receiver (``PutMonitorData``).

The signature is checked by the receiver's own rules in ``put_monitor_data.server``. It covers neither ``Namespace`` nor
``Data``, and is valid for two hours before and after its time, as the protocol defines it.
"""

from collections.abc import Callable, Mapping

from metric_forwarder.clock import Deadline
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal, authenticate, refuse
from metric_forwarder.secret import Secret

# A client that knows only the SecretId must not make the function read its secret repeatedly.
_REREAD_AFTER_S = 60.0
_READ_TIMEOUT_S = 3.0


class Accounts:
    """An ``Authenticator`` for the accounts that ``MF_BRIDGE_ACCOUNTS`` lists.

    Args:
        accounts: SecretId → SecretKey.
        time: Unix seconds.
    """

    def __init__(self, accounts: Mapping[str, Secret], time: Callable[[], float]) -> None:
        self._accounts = accounts
        self._time = time

    def check(self, request: PutRequest, deadline: Deadline) -> Refusal | None:  # noqa: ARG002 - the keys are there
        return _check(request, self._accounts, self._time())


class OwnKey:
    """An ``Authenticator`` for the forwarder's own key: ``MF_BRIDGE_ACCOUNTS=own``.

    If a signature does not fit, the key is read again from Secrets Manager, at most once a minute: it may have changed.

    Args:
        credentials: the key that the forwarder signs with.
        time: Unix seconds.
    """

    def __init__(self, credentials: CredentialSource, time: Callable[[], float]) -> None:
        self._credentials = credentials
        self._time = time
        self._read_at = float("-inf")

    def check(self, request: PutRequest, deadline: Deadline) -> Refusal | None:
        if self._credentials.ensure_loaded(_timeout_s(deadline)) is not None:
            return refuse(ReturnCode.NOT_READY, "the key to check the signature with could not be read")
        refusal = self._check(request)
        if refusal is None or refusal.code is not ReturnCode.AUTHENTICATION_FAILED or not self._may_reread():
            return refusal
        return self._check(request) if self._credentials.reload(_timeout_s(deadline)) else refusal

    def _check(self, request: PutRequest) -> Refusal | None:
        secret_id, secret_key = self._credentials.current()
        return _check(request, {secret_id: secret_key}, self._time())

    def _may_reread(self) -> bool:
        if self._time() - self._read_at < _REREAD_AFTER_S:
            return False
        self._read_at = self._time()
        return True


def _timeout_s(deadline: Deadline) -> float:
    return min(_READ_TIMEOUT_S, deadline.remaining())


def _check(request: PutRequest, accounts: Mapping[str, Secret], now: float) -> Refusal | None:
    secret_key = accounts.get(request.secret_id)
    # An empty key would let in every client that signs with an empty key.
    keys = {request.secret_id: secret_key.reveal()} if secret_key else {}
    return authenticate(request, keys, now)
