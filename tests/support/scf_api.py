"""Tencent Cloud's SCF API on loopback, over TLS: it checks signatures, keeps functions, and answers the documented errors.

Each request is judged by the models of Tencent Cloud's own SDK: a parameter that they do not know fails the test.
"""

import base64
import hashlib
import json
import ssl
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tencentcloud.scf.v20180416 import models

from support import tc3
from support.harness import ROOT

CERTIFICATE = str(ROOT / "tests" / "support" / "tls_server.pem")
SECRET_ID = "AKIDdeployerdeployerdeployerdeploye"
SECRET_KEY = "deployer-secret-key-0123456789ab"
REGION = "ap-guangzhou"


class ApiError(Exception):
    """Answered as the API answers."""


class ScfApi:
    """One account in one region.

    Attributes:
        script: by action, the error codes that its next requests meet.
        lost_replies: actions whose next request is carried out, and answered with an error all the same.
        calls: how often each action was called.
        functions: by namespace and name.
        misuses: what the SDK's models found wrong with requests.
        polls: how many looks at a function it takes until a change is done.
        interrupt: called with each action once it is carried out and before it is answered.
        messages: by error code, what the API says of it.
        tells_digests: whether it tells the digest of the code, beside its address.
        breaks_off: whether a download of the code ends too early.
    """

    def __init__(self, polls: int = 2) -> None:
        self.script: dict[str, list[str]] = {}
        self.lost_replies: list[str] = []
        self.calls: Counter[str] = Counter()
        self.functions: dict[tuple[str, str], dict[str, Any]] = {}
        self.misuses: list[str] = []
        self.polls = polls
        self.interrupt: Callable[[str], None] = lambda _: None
        self.messages: dict[str, str] = {}
        self.tells_digests = True
        self.breaks_off = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.answer(self)

            def do_GET(self) -> None:
                owner.send_package(self)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._packages = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"127.0.0.1:{self._server.server_port}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,))
            for server in (self._server, self._packages)
        ]

    def __enter__(self) -> "ScfApi":  # noqa: PYI034 - typing.Self came after Python 3.10
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server, thread in zip((self._server, self._packages), self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
        assert self.misuses == []

    @property
    def function(self) -> dict[str, Any]:
        (only,) = self.functions.values()
        return only

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        action = request.headers["X-TC-Action"]
        self.calls[action] += 1
        try:
            self._check(request, body)
            response = self._scripted(action) or self._act(action, json.loads(body))
            if action in self.lost_replies:
                self.lost_replies.remove(action)
                response = self._error("InternalError")
        except ApiError as error:
            response = self._error(str(error))
        self.interrupt(action)
        _send(request, json.dumps({"Response": {**response, "RequestId": "r-1"}}).encode())

    def _scripted(self, action: str) -> dict[str, Any] | None:
        waiting = self.script.get(action)
        return self._error(waiting.pop(0)) if waiting else None

    def _error(self, code: str) -> dict[str, Any]:
        return {"Error": {"Code": code, "Message": self.messages.get(code, "as documented")}}

    def send_package(self, request: BaseHTTPRequestHandler) -> None:
        package = self.function["versions"][request.path.strip("/")]["package"]
        if self.breaks_off:
            request.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n" + package)
        else:
            _send(request, package)

    def stop_serving_packages(self) -> None:
        """As where the addresses of code cannot be reached."""
        self._packages.shutdown()
        self._packages.server_close()

    def _check(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        wanted = tc3.authorization(request, body, service="scf", secret_id=SECRET_ID, secret_key=SECRET_KEY)
        if request.headers["Authorization"] != wanted:
            raise ApiError("AuthFailure.SignatureFailure")
        if (request.headers["X-TC-Version"], request.headers["X-TC-Region"]) != ("2018-04-16", REGION):
            raise ApiError("InvalidParameterValue")
        model = getattr(models, f"{request.headers['X-TC-Action']}Request")()
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            model._deserialize(json.loads(body))
        self.misuses += [f"{type(model).__name__}: {complaint.message}" for complaint in complaints]

    def _act(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        key = (asked["Namespace"], asked["FunctionName"])
        if action == "CreateFunction":
            if key in self.functions:
                raise ApiError("ResourceInUse.Function")
            self.functions[key] = self._created(asked)
            return {}
        if key not in self.functions:
            raise ApiError("ResourceNotFound.Function")
        function = self.functions[key]
        changes: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
            "UpdateFunctionCode": self._update_code,
            "UpdateFunctionConfiguration": self._update_configuration,
            "PublishVersion": self._publish,
            "CreateTrigger": _create_trigger,
            "UpdateTrigger": _update_trigger,
            "DeleteTrigger": _delete_trigger,
        }
        if action in changes:
            if function["busy"]:
                raise ApiError("FailedOperation.FunctionStatusError")
            if function["failed"] and not action.startswith("UpdateFunction"):
                raise ApiError("FailedOperation.FunctionStatusError")
            return changes[action](function, asked)
        reads: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
            "GetFunction": _get,
            "ListTriggers": _list_triggers,
            "ListVersionByFunction": _list_versions,
            "GetAlias": _get_alias,
            "UpdateAlias": _update_alias,
            "GetFunctionAddress": self._address,
            "GetFunctionEventInvokeConfig": lambda found, _: {"AsyncTriggerConfig": found["asynchronous"]},
            "UpdateFunctionEventInvokeConfig": _set_asynchronous,
        }
        return reads[action](function, asked)

    def _created(self, asked: dict[str, Any]) -> dict[str, Any]:
        left = {name: value for name, value in asked.items() if name not in ("Code", "Handler", "Type")}
        return {
            "configuration": {**left, "Handler": asked["Handler"]},
            "versions": {"$LATEST": {"package": base64.b64decode(asked["Code"]["ZipFile"])}},
            "triggers": [],
            "alias": "$LATEST",
            "asynchronous": {"RetryConfig": [{"RetryNum": 2}], "MsgTTL": 3600},
            "busy": self.polls,
            "status": "Creating",
            "failed": "",
        }

    def _update_code(self, function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        function["versions"]["$LATEST"] = {"package": base64.b64decode(asked["Code"]["ZipFile"])}
        function["configuration"]["Handler"] = asked["Handler"]
        function |= {"busy": self.polls, "status": "Updating", "failed": ""}
        return {}

    def _update_configuration(self, function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        if "Runtime" in asked:
            raise ApiError("InvalidParameterValue.Runtime")
        if asked["Environment"]["Variables"] == [{"Key": "", "Value": ""}]:
            asked["Environment"] = {"Variables": []}
        function["configuration"] |= {name: value for name, value in asked.items() if name != "Layers"}
        if "Layers" in asked:
            # Taking the last layer away is asked for with an empty name.
            function["configuration"]["Layers"] = [layer for layer in asked["Layers"] if layer["LayerName"]]
        function |= {"busy": self.polls, "status": "Updating", "failed": ""}
        return {}

    def _publish(self, function: dict[str, Any], _asked: dict[str, Any]) -> dict[str, Any]:
        number = str(len(function["versions"]))
        function["versions"][number] = {
            **function["versions"]["$LATEST"],
            "configuration": dict(function["configuration"]),
        }
        function |= {"busy": self.polls, "status": "Publishing"}
        return {"FunctionVersion": number}

    def _address(self, function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        package = function["versions"][asked["Qualifier"]]["package"]
        url = f"http://127.0.0.1:{self._packages.server_port}/{asked['Qualifier']}"
        return {"Url": url, "CodeSha256": hashlib.sha256(package).hexdigest() if self.tells_digests else ""}


def _get(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if asked["Qualifier"] != "$LATEST":
        if asked["Qualifier"] not in function["versions"]:
            raise ApiError("ResourceNotFound.FunctionVersion")
        return {**function["versions"][asked["Qualifier"]]["configuration"], "Status": "Active"}
    if function["busy"]:
        function["busy"] -= 1
        return {**function["configuration"], "Status": function["status"]}
    return {**function["configuration"], "Status": function["failed"] or "Active"}


def _list_triggers(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    page = function["triggers"][asked["Offset"] : asked["Offset"] + asked["Limit"]]
    return {"TotalCount": len(function["triggers"]), "Triggers": page}


def _told(asked: dict[str, Any]) -> dict[str, Any]:
    """A trigger as it is told: a timer is asked for as text, and told as an object; numbers are told as texts.

    A function URL is told with its addresses, as in the example of ``ListTriggers``.
    """
    described = asked["TriggerDesc"]
    if asked["Type"] == "http":
        members = json.loads(described)
        members["NetConfig"] |= {
            "IntranetUrl": f"https://1258888888-{asked['TriggerName']}.in.ap-guangzhou.tencentscf.com",
            "ExtranetUrl": "",
        }
        described = json.dumps(members)
    elif asked["Type"] == "timer":
        described = json.dumps({"cron": described})
    elif asked["Type"] == "ckafka":
        members = {name: str(value) for name, value in json.loads(described).items()}
        described = json.dumps({**members, "easConfig": {"password": "easPassw0rd"}})
    return {
        "TriggerName": asked["TriggerName"],
        "Type": asked["Type"],
        "TriggerDesc": described,
        "Enable": 1 if asked["Enable"] == "OPEN" else 0,
        "Qualifier": asked["Qualifier"],
        "CustomArgument": asked.get("CustomArgument", ""),
    }


def _create_trigger(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if asked["Type"] == "http":
        # Each alias or version has one URL at most, whose name is its id: made from its place, so that it is always the same.
        place = f"{asked['FunctionName']} {asked['Qualifier']}"
        asked = {**asked, "TriggerName": hashlib.sha256(place.encode()).hexdigest()[:10]}
    if any(_is_asked(trigger, asked) for trigger in function["triggers"]):
        raise ApiError("ResourceInUse.Trigger")
    trigger = _told(asked)
    function["triggers"].append(trigger)
    return {"TriggerInfo": trigger}


def _update_trigger(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if not any(_is_asked(trigger, asked) for trigger in function["triggers"]):
        raise ApiError("ResourceNotFound.Trigger")
    if asked["Type"] not in ("timer", "ckafka", "http"):
        raise ApiError("InvalidParameterValue.Type")
    function["triggers"] = [
        _told(asked) if _is_asked(trigger, asked) else trigger for trigger in function["triggers"]
    ]
    return {}


def _delete_trigger(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    function["triggers"] = [trigger for trigger in function["triggers"] if not _is_asked(trigger, asked)]
    return {}


def _is_asked(trigger: dict[str, Any], asked: dict[str, Any]) -> bool:
    names = ("Type", "TriggerName", "Qualifier")
    return [trigger[name] for name in names] == [asked[name] for name in names]


def _list_versions(function: dict[str, Any], _asked: dict[str, Any]) -> dict[str, Any]:
    return {"Versions": [{"Version": number} for number in function["versions"]]}


def _get_alias(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "Name": asked["Name"],
        "FunctionVersion": function["alias"],
        "RoutingConfig": function.get("routing"),
    }


def _update_alias(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if asked["FunctionVersion"] not in function["versions"]:
        raise ApiError("ResourceNotFound.FunctionVersion")
    function |= {"alias": asked["FunctionVersion"], "routing": asked.get("RoutingConfig")}
    return {}


def _set_asynchronous(function: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    function["asynchronous"] = asked["AsyncTriggerConfig"]
    return {}


def _send(request: BaseHTTPRequestHandler, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
