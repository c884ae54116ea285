"""The calls of the SCF API, each tried again if the API is busy or cannot be reached.

Only this module uses the SDK's client, which signs (TC3) and encrypts.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.secret import Secret

_VERSION = "2018-04-16"
_HOST = "scf.tencentcloudapi.com"
_PAGE = 100
# Attempts of one call: throttling and conflicts pass within seconds, the network may need longer.
_ATTEMPTS = 6
# As long as the API has never answered, the network is more likely to be missing than to be slow.
_FIRST_ATTEMPTS = 2
_TIMEOUTS_S = (10, 60)  # for a connection, and for an answer
_FIRST_WAIT_S = 1.0
_POLL_S = 2.0
_LONGEST_CHANGE_S = 300.0
_WORD = re.compile(r"[A-Za-z]+")

_UNREACHABLE = "unreachable"
_THROTTLED = ("RequestLimitExceeded", "LimitExceeded.Request")
_BUSY = (
    "FailedOperation.FunctionStatusError",
    "FailedOperation.FunctionNameStatusError",
    "ResourceInUse.FunctionUpdating",
    "InternalError",
)
# After these it is not known whether the call was carried out.
_UNCERTAIN = ("InternalError", _UNREACHABLE)
# Repeated, it would make a second version like the first.
_NOT_REPEATABLE = "PublishVersion"
_NOT_FOUND = ("ResourceNotFound", "FailedOperation.FunctionNotFound", "ResourceUnavailable.Namespace")

# The beginning of a code → what to do.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        "AuthFailure.UnauthorizedOperation",
        "the sub-account lacks a right: docs/deploy.md has the policy that it needs",
    ),
    ("UnauthorizedOperation", "the sub-account lacks a right: docs/deploy.md has the policy that it needs"),
    (
        "AuthFailure.TokenFailure",
        "check TENCENT_TOKEN in .env: it belongs to the two keys, and ends with them",
    ),
    ("AuthFailure", "check TENCENT_SECRET_ID and TENCENT_SECRET_KEY in .env, and this machine's clock"),
    (
        "LimitExceeded.FunctionVersions",
        "delete old versions of the function in the console, then run it again",
    ),
    ("LimitExceeded", "a quota of the account is used up: remove something, or ask for more in the console"),
    ("RequestLimitExceeded", "the API is called too often: wait a minute and run it again"),
    ("InvalidParameter", "correct the value in serverless.yml or .env"),
    ("ResourceNotFound", "create it first, in the region of the function"),
    ("ResourceInUse", "it exists already: run it again, to compare it with the description"),
    (
        "FailedOperation.CreateFailed",
        "the function could not be created: delete it in the console, then run it again",
    ),
    ("FailedOperation", "look at the function in the console, then run it again"),
    ("UnsupportedRegion", "correct DEPLOY_REGION: a full name such as ap-guangzhou"),
    ("untrusted certificate", "name the certificates to trust in DEPLOY_CA_FILE"),
    (_UNREACHABLE, "check this machine's network, then run it again: what was done so far stays"),
)


class CloudError(Exception):
    """A call failed for good; the text names the call, the API's code and the remedy, never a parameter's value.

    Args:
        parameters: the names of parameters that the API complains of.
        host: the API's host, if it did not answer.
    """

    def __init__(
        self, action: str, code: str, request_id: str = "", parameters: Collection[str] = (), host: str = ""
    ) -> None:
        remedy = next(
            (text for start, text in _REMEDIES if code.startswith(start)),
            "look the code up in the API's documents",
        )
        told = f" (request {request_id})" if request_id else ""
        named = f" [{', '.join(sorted(parameters))}]" if parameters else ""
        at = f" ({host})" if host else ""
        super().__init__(f"{action}: {code}{at}{named}{told}: {remedy}")
        self.code = code

    @property
    def is_not_found(self) -> bool:
        return self.code.startswith(_NOT_FOUND)


class Account(NamedTuple):
    """The account that deploys, and the API's address.

    Attributes:
        token: of temporary keys; empty for permanent ones.
        endpoint: the API's host, for tests and private networks; empty: the public one.
        ca_file: certificates to trust; empty: the SDK's.
    """

    secret_id: str
    secret_key: Secret
    region: str
    token: str = ""
    endpoint: str = ""
    ca_file: str = ""


class Cloud:
    """One function in one namespace.

    Args:
        sleep: waits between attempts, and before the function's state is read again.
        say: gets a line before each wait that a person would notice.
    """

    def __init__(
        self,
        account: Account,
        namespace: str,
        name: str,
        sleep: Callable[[float], None],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = _client(account)
        self._host = account.endpoint or _HOST
        self._function = {"FunctionName": name, "Namespace": namespace}
        self._sleep = sleep
        self._say = say
        self._has_answered = False

    def function(self, qualifier: str = "$LATEST") -> dict[str, Any] | None:
        """The configuration of a version of the function; None if there is no such function."""
        return self._found("GetFunction", {"Qualifier": qualifier, "ShowCode": "FALSE"})

    def triggers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("ListTriggers", {"Offset": len(found), "Limit": _PAGE})
            found += page["Triggers"]
            if len(page["Triggers"]) < _PAGE:
                return found

    def asynchronous(self) -> dict[str, int]:
        """Retries and lifetime of asynchronous events."""
        told = self.call("GetFunctionEventInvokeConfig", {"Qualifier": "$LATEST"})["AsyncTriggerConfig"]
        retries = told.get("RetryConfig") or [{}]
        return {"RetryNum": retries[0].get("RetryNum"), "MsgTTL": told.get("MsgTTL")}

    def alias(self) -> str | None:
        """The version that ``$DEFAULT`` leads to."""
        told = self._found("GetAlias", {"Name": "$DEFAULT"})
        return None if told is None else str(told["FunctionVersion"])

    def is_traffic_split(self) -> bool:
        """Whether ``$DEFAULT`` sends a part of the events to another version."""
        told = self._found("GetAlias", {"Name": "$DEFAULT"}) or {}
        routing = told.get("RoutingConfig") or {}
        return bool(routing.get("AdditionalVersionWeights") or routing.get("AddtionVersionMatchs"))

    def versions(self) -> list[dict[str, Any]]:
        """Published versions, the newest first."""
        told = self.call(
            "ListVersionByFunction", {"Offset": 0, "Limit": _PAGE, "Order": "DESC", "OrderBy": "AddTime"}
        )
        versions = [version for version in told.get("Versions") or [] if version["Version"] != "$LATEST"]
        return sorted(versions, key=lambda version: int(version["Version"]), reverse=True)

    def publish(self, description: str) -> str:
        """Publish ``$LATEST`` as a version, and return its number, even if the reply was lost.

        Raises:
            CloudError: there is no new version.
        """
        before = self.versions()[:1]
        try:
            return str(self.call(_NOT_REPEATABLE, {"Description": description})["FunctionVersion"])
        except CloudError:
            newest = self.versions()[:1]
            if newest == before:
                raise
            return str(newest[0]["Version"])

    def package_address(self, qualifier: str = "$LATEST") -> tuple[str, str]:
        """The URL of the deployed code, and its SHA-256."""
        told = self.call("GetFunctionAddress", {"Qualifier": qualifier})
        return told["Url"], told.get("CodeSha256") or ""

    def settle(self) -> None:
        """Wait until the function is active.

        Raises:
            CloudError: it failed to be created or changed, or takes too long.
        """
        status = self.wait_until_idle()
        if status != "Active":
            raise CloudError("GetFunction", f"FailedOperation.{status}")

    def wait_until_idle(self) -> str:
        """Wait until no change is running, and return the function's state; a failed change can be repeated.

        Raises:
            CloudError: the function could not be created, is gone, or takes too long.
        """
        waited = 0.0
        while True:
            function = self.function()
            status = str(function["Status"]) if function else "Missing"
            if status in ("CreateFailed", "Missing"):
                raise CloudError("GetFunction", f"FailedOperation.{status}")
            if status == "Active" or status.endswith("Failed"):
                return status
            if waited >= _LONGEST_CHANGE_S:
                raise CloudError("GetFunction", f"FailedOperation.{status} for {waited:.0f} s")
            self._sleep(_POLL_S)
            waited += _POLL_S

    def call(self, action: str, parameters: Mapping[str, Any] = {}) -> dict[str, Any]:
        """Call the API; repeat the call while it is throttled or the function is busy.

        Raises:
            CloudError: it failed for good.
        """
        wait_s = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._call_once(action, parameters)
            except CloudError as error:
                is_passing = error.code.startswith((*_THROTTLED, *_BUSY, _UNREACHABLE))
                if action == _NOT_REPEATABLE:
                    is_passing &= not error.code.startswith(_UNCERTAIN)
                attempts = _ATTEMPTS if self._has_answered else _FIRST_ATTEMPTS
                if attempt == attempts or not is_passing:
                    raise
                self._say(f"{action}: {error.code} ({self._host}); trying again in {wait_s:.0f} s")
            self._sleep(wait_s)
            wait_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _found(self, action: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self.call(action, parameters)
        except CloudError as error:
            if error.is_not_found:
                return None
            raise

    def _call_once(self, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

        try:
            reply = self._client.call_json(action, {**self._function, **parameters})
        except TencentCloudSDKException as error:
            # The SDK's own codes, such as ClientNetworkError, mean no answer; its messages may hold addresses.
            code = str(error.get_code() or _UNREACHABLE)
            is_ours = code.startswith("Client") or code == "ServerNetworkError"
            message = str(error.get_message() or "")
            if is_ours:
                is_untrusted = "CERTIFICATE_VERIFY_FAILED" in message
                if is_untrusted:
                    raise CloudError(action, "untrusted certificate") from None
                raise CloudError(action, _UNREACHABLE, host=self._host) from None
            self._has_answered = True
            named = _named(parameters, message)
            raise CloudError(action, code, error.get_request_id() or "", named) from None
        except (OSError, ValueError):  # requests' own errors are OSErrors
            raise CloudError(action, _UNREACHABLE, host=self._host) from None
        response = reply.get("Response") if isinstance(reply, dict) else None
        if not isinstance(response, dict):
            raise CloudError(action, _UNREACHABLE, host=self._host)
        self._has_answered = True
        return response


def _client(account: Account) -> Any:
    from tencentcloud.common.common_client import CommonClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    http = HttpProfile(
        endpoint=account.endpoint or None, certification=account.ca_file or None, reqTimeout=_TIMEOUTS_S
    )
    credential = Credential(account.secret_id, account.secret_key.reveal(), account.token or None)
    return CommonClient("scf", _VERSION, credential, account.region, profile=ClientProfile(httpProfile=http))


def _named(parameters: Any, message: str) -> set[str]:
    """The names of the request's parameters in the API's message; the message itself may repeat a secret."""
    words = set(_WORD.findall(message))
    return {name for name in _names(parameters) if name in words}


def _names(parameters: Any) -> Iterator[str]:
    if isinstance(parameters, Mapping):
        for name, value in parameters.items():
            yield name
            yield from _names(value)
    elif isinstance(parameters, list):
        for value in parameters:
            yield from _names(value)


def described(value: Any) -> str:
    """A value as a plan shows it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
