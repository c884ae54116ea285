"""Who may use the bridge: the keys by which requests meant for the receiver (``PutMonitorData``) are let in.

The signature is the authentication, checked with the receiver's own rules in ``put_monitor_data.server``. It covers neither
``Namespace`` nor ``Data``, and holds for two hours either way: that is the protocol's, and no better here.
"""

from collections.abc import Callable, Mapping

from metric_forwarder.clock import Deadline
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Rejection, authenticate, reject
from metric_forwarder.secret import Secret

# Whoever knows the SecretId alone must not make the function read its secret over and over.
_REREAD_AFTER_S = 60.0
_READ_TIMEOUT_S = 3.0


class Accounts:
    """An ``Authenticator`` for accounts of its own: ``MF_BRIDGE_ACCOUNTS`` names them.

    Args:
        accounts: SecretId → SecretKey.
        time: Unix seconds.
    """

    def __init__(self, accounts: Mapping[str, Secret], time: Callable[[], float]) -> None:
        self._accounts = accounts
        self._time = time

    def check(self, request: PutRequest, deadline: Deadline) -> Rejection | None:  # noqa: ARG002 - the keys are there
        return _check(request, self._accounts, self._time())


class OwnKey:
    """An ``Authenticator`` for the forwarder's own key: ``MF_BRIDGE_ACCOUNTS=own``.

    A key that was changed in Secrets Manager is read again when a signature does not fit, at most once a minute.

    Args:
        credentials: the key the forwarder signs with.
        time: Unix seconds.
    """

    def __init__(self, credentials: CredentialSource, time: Callable[[], float]) -> None:
        self._credentials = credentials
        self._time = time
        self._read_at = float("-inf")

    def check(self, request: PutRequest, deadline: Deadline) -> Rejection | None:
        if self._credentials.obtain(_timeout_s(deadline)) is not None:
            return reject(ReturnCode.NOT_READY, "the key to check the signature with could not be read")
        rejection = self._check(request)
        if (
            rejection is None
            or rejection.code is not ReturnCode.AUTHENTICATION_FAILED
            or not self._may_reread()
        ):
            return rejection
        return self._check(request) if self._credentials.refresh(_timeout_s(deadline)) else rejection

    def _check(self, request: PutRequest) -> Rejection | None:
        secret_id, secret_key = self._credentials.current()
        return _check(request, {secret_id: secret_key}, self._time())

    def _may_reread(self) -> bool:
        if self._time() - self._read_at < _REREAD_AFTER_S:
            return False
        self._read_at = self._time()
        return True


def _timeout_s(deadline: Deadline) -> float:
    return min(_READ_TIMEOUT_S, deadline.remaining())


def _check(request: PutRequest, accounts: Mapping[str, Secret], now: float) -> Rejection | None:
    secret_key = accounts.get(request.secret_id)
    # An empty key would let in whoever signs with none.
    keys = {request.secret_id: secret_key.reveal()} if secret_key else {}
    return authenticate(request, keys, now)
