"""Secrets Manager on loopback: one secret, behind the signature and the errors of the real API."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from support import tc3

ROLE = {
    "TENCENTCLOUD_SECRETID": "AKIDroleroleroleroleroleroleroleroles",
    "TENCENTCLOUD_SECRETKEY": "role-secret-key-0123456789abcdef",
    "TENCENTCLOUD_SESSIONTOKEN": "role-session-token-0123456789abcdef",
}


class SecretsManagerServer:
    """Answers ``GetSecretValue`` for the one secret ``monitor/v1`` of the one role ``ROLE``.

    Attributes:
        text: the secret's text.
        script: what the next requests meet: None is the usual, an error code, or a function that handles the connection.
        calls: what was asked, one (name, version, region) for each request.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.script: list[str | Callable[[BaseHTTPRequestHandler], None] | None] = []
        self.calls: list[tuple[str, str, str]] = []
        self.content_type = "application/json"
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.handle(self)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "SecretsManagerServer":  # noqa: PYI034 - typing.Self came after Python 3.10
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        asked = json.loads(body)
        self.calls.append((asked["SecretName"], asked["VersionId"], request.headers["X-TC-Region"]))
        step = self.script.pop(0) if self.script else None
        if callable(step):
            step(request)
            return
        code = step or self._refusal(request, body, asked)
        if code:
            self.reply(request, {"Error": {"Code": code, "Message": "as told"}})
        else:
            self.reply(request, {**asked, "SecretString": self.text, "SecretBinary": ""})

    def reply(self, request: BaseHTTPRequestHandler, response: dict[str, Any]) -> None:
        send(
            request,
            json.dumps({"Response": {**response, "RequestId": "r-1"}}),
            content_type=self.content_type,
        )

    def _refusal(self, request: BaseHTTPRequestHandler, body: bytes, asked: dict[str, Any]) -> str | None:
        if request.headers["X-TC-Token"] != ROLE["TENCENTCLOUD_SESSIONTOKEN"]:
            return "AuthFailure.TokenFailure"
        if request.headers["Authorization"] != tc3.authorization(
            request,
            body,
            service="ssm",
            secret_id=ROLE["TENCENTCLOUD_SECRETID"],
            secret_key=ROLE["TENCENTCLOUD_SECRETKEY"],
        ):
            return "AuthFailure.SignatureFailure"
        if (
            request.headers["X-TC-Action"] != "GetSecretValue"
            or request.headers["X-TC-Version"] != "2019-09-23"
        ):
            return "InvalidAction"
        return None if (asked["SecretName"], asked["VersionId"]) == ("monitor", "v1") else "ResourceNotFound"


def send(
    request: BaseHTTPRequestHandler, text: str, *, status: int = 200, content_type: str = "application/json"
) -> None:
    data = text.encode()
    request.send_response(status)
    request.send_header("Content-Type", content_type)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
