"""The key in Secrets Manager: read with the function's role, kept while warm, read again when refused."""

import contextlib
import gzip
import json
import logging
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.secrets_manager import SecretReference, SecretsManager
from metric_forwarder.credentials import Credentials, make_credentials
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.errors import ConfigError, DeliveryIncomplete
from metric_forwarder.machine import system_machine
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator
from support.fakes import FakeClock, InProcessReceiver
from support.harness import CONTEXT, ROOT, ckafka, environ, outcomes, point, report_of
from support.patience import ends_within
from support.secrets_manager_server import ROLE, SecretsManagerServer, send
from support.tcp_server import listening

# A certificate of 127.0.0.1 that signs itself.
CERTIFICATE = str(ROOT / "tests" / "support" / "tls_server.pem")
KEY = {"SecretId": EXAMPLE_SECRET_ID, "SecretKey": EXAMPLE_SECRET_KEY}
OLD_KEY = {"SecretId": EXAMPLE_SECRET_ID, "SecretKey": "the-key-of-yesterday-0123456789"}
# Every text that no log and no report may hold.
SECRETS = (EXAMPLE_SECRET_KEY, OLD_KEY["SecretKey"], *list(ROLE.values())[1:], "Signature=")


@pytest.fixture
def manager() -> Iterator[SecretsManagerServer]:
    with SecretsManagerServer(json.dumps(KEY)) as server:
        yield server


def settings(manager: SecretsManagerServer, **others: str) -> dict[str, str]:
    read = {"SECRET_NAME": "monitor", "SECRET_VERSION": "v1", "SECRET_ENDPOINT": manager.endpoint, **others}
    return ROLE | environ(SECRET_ID="", SECRET_KEY="", **read)


class Warm:
    """An application whose key is in Secrets Manager and whose receiver is in this process."""

    def __init__(self, manager: SecretsManagerServer, **others: str) -> None:
        self.environ = settings(manager, **others)
        self.clock = FakeClock()
        self.receiver = InProcessReceiver(self.clock)
        self.application = Application(self.environ, self.clock, lambda: self.receiver)

    def handle(self, event: Any, time_limit_ms: int = 60_000) -> dict[str, Any]:
        return report_of(self.application, event, time_limit_ms)


def test_points_are_signed_with_the_key_in_secrets_manager(
    manager: SecretsManagerServer, emulator: Emulator
) -> None:
    application = Application(settings(manager, RECEIVER_URL=emulator.url))
    assert outcomes(report_of(application, ckafka(point(1), point(2)))) == {"delivered": 2}
    assert manager.calls == [("monitor", "v1", "ap-guangzhou")]
    assert len(emulator.points()) == 2


def test_a_warm_instance_reads_the_secret_once(manager: SecretsManagerServer) -> None:
    warm = Warm(manager, BATCH_MAX_POINTS="1", CONCURRENCY="4")
    for value in range(3):
        points = [point(value, metric=f"metric{number}") for number in range(8)]
        assert outcomes(warm.handle(points)) == {"delivered": 8}
    assert len(manager.calls) == 1


def test_an_event_without_points_reads_no_secret(manager: SecretsManagerServer) -> None:
    report = Warm(manager).handle({"Type": "Timer", "TriggerName": "t", "Time": "", "Message": ""})
    assert report["status"] == "empty"
    assert manager.calls == []


def test_a_key_that_changed_is_read_again_once_it_is_refused(manager: SecretsManagerServer) -> None:
    manager.text = json.dumps(OLD_KEY)
    warm = Warm(manager)
    old = {EXAMPLE_SECRET_ID: OLD_KEY["SecretKey"]}
    receiver = InProcessReceiver(warm.clock, old)
    warm.application = Application(warm.environ, warm.clock, lambda: receiver)
    assert outcomes(warm.handle(point(1))) == {"delivered": 1}
    manager.text = json.dumps(KEY)
    receiver.replace_accounts({EXAMPLE_SECRET_ID: EXAMPLE_SECRET_KEY})
    report = warm.handle(point(2))
    assert outcomes(report) == {"delivered": 1}
    assert report["requests"] == {"sent": 2, "retried": 1, "returnCodes": {"0": 1, "1011": 1}}
    assert len(manager.calls) == 2


def test_a_refused_key_that_has_not_changed_stops_the_event_after_one_more_look(
    manager: SecretsManagerServer,
) -> None:
    manager.text = json.dumps(OLD_KEY)
    report = Warm(manager, BATCH_MAX_POINTS="1").handle([point(value, id=str(value)) for value in range(5)])
    assert outcomes(report) == {"undelivered": 5}
    assert report["errors"][0]["code"] == 1011
    assert report["requests"]["sent"] == 1
    assert len(manager.calls) == 2


def test_a_refused_key_that_cannot_be_read_again_leaves_the_points_to_the_platform(
    manager: SecretsManagerServer,
) -> None:
    manager.text = json.dumps(OLD_KEY)
    warm = Warm(manager)
    manager.script = [None, "InternalError"]
    assert outcomes(warm.handle(point())) == {"undelivered": 1}
    manager.text = json.dumps(KEY)
    warm.clock.sleep(60)
    assert outcomes(warm.handle(point())) == {"delivered": 1}


def hang(request: BaseHTTPRequestHandler) -> None:
    request.connection.settimeout(5)
    request.connection.recv(1)


def break_off(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"Response":')


UNREADABLE: list[tuple[str, str | Callable[[BaseHTTPRequestHandler], None], str, int]] = [
    ("no such secret", "ResourceNotFound", "check MF_SECRET_NAME and MF_SECRET_VERSION", 1),
    ("not allowed", "UnauthorizedOperation", "let the function's role do ssm:GetSecretValue", 1),
    ("role's key expired", "AuthFailure.TokenFailure", "AuthFailure.TokenFailure", 1),
    ("disabled", "ResourceUnavailable.ResourceDisabled", "enable the secret", 1),
    ("an unknown code", "Weird{}Code", "WeirdCode: look the code up", 1),
    ("too many requests", "RequestLimitExceeded", "RequestLimitExceeded: wait", 3),
    ("internal error", "InternalError", "InternalError: wait", 3),
    ("no answer", hang, "could not be reached in time", 3),
    ("broken off", break_off, "answer broke off", 3),
    ("a server error", lambda request: send(request, "<html>", status=502), "answered with an HTTP error", 3),
    ("a page", lambda request: send(request, "<html>"), "the reply is not from Secrets Manager", 3),
    ("other JSON", lambda request: send(request, "[]"), "the reply is not from Secrets Manager", 3),
    ("JSON null", lambda request: send(request, '{"Response":null}'), "the reply is not from", 3),
    ("an error of no shape", lambda request: send(request, '{"Response":{"Error":1}}'), "the reply is not from", 3),
    ("deep JSON", lambda request: send(request, "[" * 100_000), "the reply is not from", 3),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "reason", "tries"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
def test_a_secret_that_cannot_be_read_leaves_every_point_to_the_platform_and_says_why(
    manager: SecretsManagerServer,
    step: str | Callable[[BaseHTTPRequestHandler], None],
    reason: str,
    tries: int,
) -> None:
    manager.script = [step] * 4
    warm = Warm(manager, REQUEST_TIMEOUT_S="0.2", MAX_ATTEMPTS="3")
    with pytest.raises(DeliveryIncomplete) as raised:
        warm.application.handle(ckafka(point(1), point(2)), CONTEXT)
    report = raised.value.report
    assert outcomes(report) == {"undelivered": 2}
    assert report["requests"]["sent"] == 0
    assert [error["rule"] for error in report["errors"]] == ["secret", "secret"]
    assert reason in report["errors"][0]["message"]
    assert len(manager.calls) == tries


def test_lanes_side_by_side_share_one_failed_reading(manager: SecretsManagerServer) -> None:
    manager.script = ["UnauthorizedOperation"] * 8
    report = Warm(manager, BATCH_MAX_POINTS="1").handle([point(metric=f"metric{n}") for n in range(8)])
    assert outcomes(report) == {"undelivered": 8}
    assert len(manager.calls) == 1


def test_a_key_that_is_refused_again_and_again_is_not_read_for_every_event(
    manager: SecretsManagerServer,
) -> None:
    manager.text = json.dumps(OLD_KEY)
    warm = Warm(manager)
    for number in range(100):
        assert outcomes(warm.handle(point(number))) == {"undelivered": 1}
        warm.clock.sleep(0.02)
    assert len(manager.calls) <= 3


def test_a_redelivery_reads_a_secret_that_could_not_be_read(manager: SecretsManagerServer) -> None:
    manager.script = ["UnauthorizedOperation"]
    warm = Warm(manager)
    assert outcomes(warm.handle(point())) == {"undelivered": 1}
    warm.clock.sleep(60)
    assert outcomes(warm.handle(point())) == {"delivered": 1}


def test_a_passing_failure_of_secrets_manager_is_waited_out(manager: SecretsManagerServer) -> None:
    manager.script = ["InternalError", lambda request: send(request, "", status=503)]
    warm = Warm(manager)
    assert outcomes(warm.handle(point())) == {"delivered": 1}
    assert len(warm.clock.slept) >= 2


def test_an_error_in_an_answer_of_another_content_type_is_an_error(manager: SecretsManagerServer) -> None:
    manager.content_type = "application/json; charset=utf-8"
    manager.script = ["ResourceNotFound"]
    assert "ResourceNotFound" in Warm(manager).handle(point())["errors"][0]["message"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "is not a text", id="binary or empty"),
        pytest.param(EXAMPLE_SECRET_KEY, "is not a JSON object", id="the key alone"),
        pytest.param("[1]", "is not a JSON object", id="a list"),
        pytest.param(json.dumps({"SecretKey": EXAMPLE_SECRET_KEY}), "has no SecretId:", id="no SecretId"),
        pytest.param(json.dumps({"SecretId": "x", "secretKey": EXAMPLE_SECRET_KEY}), "has no SecretKey:", id="case"),
        pytest.param(json.dumps(KEY | {"SecretKey": EXAMPLE_SECRET_KEY + "\ud800"}), "holds characters that no key", id="no UTF-8"),
        pytest.param(json.dumps(KEY | {"SecretId": "ß"}), "holds characters that no key", id="not ASCII"),
        pytest.param(json.dumps({"SecretId": "", "SecretKey": 7}), "no SecretId and no SecretKey:", id="both"),
    ],
)  # fmt: skip
def test_a_malformed_secret_is_named_by_what_it_lacks_and_never_by_a_value(
    manager: SecretsManagerServer, text: str, reason: str
) -> None:
    manager.text = text
    report = Warm(manager).handle(point())
    assert outcomes(report) == {"undelivered": 1}
    message = report["errors"][0]["message"]
    assert reason in message
    assert '{"SecretId": "…", "SecretKey": "…"}' in message
    assert EXAMPLE_SECRET_KEY not in json.dumps(report)
    assert len(manager.calls) == 1


def test_without_a_role_the_points_wait_for_one(manager: SecretsManagerServer) -> None:
    warm = Warm(manager)
    role = {name: warm.environ.pop(name) for name in ROLE}
    report = warm.handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert "the function has no role" in report["errors"][0]["message"]
    assert "export TENCENTCLOUD_SECRETID" in report["errors"][0]["message"]
    warm.environ.update(role)
    warm.clock.sleep(60)
    assert outcomes(warm.handle(point())) == {"delivered": 1}


def test_the_role_is_taken_from_the_environment_as_it_is_at_each_reading(
    manager: SecretsManagerServer,
) -> None:
    warm = Warm(manager)
    token = warm.environ["TENCENTCLOUD_SESSIONTOKEN"]
    warm.environ["TENCENTCLOUD_SESSIONTOKEN"] = "expired"
    assert outcomes(warm.handle(point())) == {"undelivered": 1}
    warm.environ["TENCENTCLOUD_SESSIONTOKEN"] = token
    warm.clock.sleep(60)
    assert outcomes(warm.handle(point())) == {"delivered": 1}


@pytest.mark.slow
@pytest.mark.parametrize("is_read_before", [False, True], ids=["at first", "when the key was refused"])
def test_a_secrets_manager_that_never_ends_its_answer_does_not_hold_the_event_past_its_deadline(
    manager: SecretsManagerServer,
    emulator: Emulator,
    is_read_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    finished = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        while not finished.wait(0.02):
            request.wfile.write(b" ")

    manager.text = json.dumps(OLD_KEY)
    manager.script = [None, trickle] if is_read_before else [trickle]
    application = Application(settings(manager, RECEIVER_URL=emulator.url, DEADLINE_MARGIN_MS="0"))
    with ends_within(1):
        report = report_of(application, point(), time_limit_ms=1000)
    finished.set()
    assert outcomes(report) == {"undelivered": 1}
    assert len(manager.calls) == (2 if is_read_before else 1)


HOSTILE: dict[str, str] = {
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "a text": '"Response"',
    "no Response": "{}",
    "a list for Response": '{"Response": ["SecretString"]}',
    "a number for Response": '{"Response": 5}',
    "null for Response": '{"Response": null}',
    "a text for Response": '{"Response": "SecretString"}',
    "null for Error": '{"Response": {"Error": null}}',
    "a list for Error": '{"Response": {"Error": []}}',
    "no Code": '{"Response": {"Error": {}}}',
    "a list for Code": '{"Response": {"Error": {"Code": [{}], "Message": {}}}}',
    "a Code of 50 KB": '{"Response": {"Error": {"Code": "%s", "Message": ""}}}' % ("x" * 50_000),
    "a number for SecretString": '{"Response": {"SecretString": 7}}',
    "a list for SecretString": '{"Response": {"SecretString": [1]}}',
    "numbers in it": '{"Response": {"SecretString": "{\\"SecretId\\": 1, \\"SecretKey\\": [2]}"}}',
    "depth in it": '{"Response": {"SecretString": "%s"}}' % ("[" * 60_000),
    "depth": "[" * 60_000,
    "a giant number": '{"Response": {"a": %s}}' % ("9" * 50_000),
    "no JSON": "<html>",
    "nothing": "",
}


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_no_answer_of_secrets_manager_raises(
    manager: SecretsManagerServer, answer: str, content_type: str
) -> None:
    manager.script = [lambda request: send(request, answer, content_type=content_type)] * 9
    report = Warm(manager).handle(point())
    assert outcomes(report) == {"undelivered": 1}
    assert "the key could not be read" in report["errors"][0]["message"]


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "compressed"])
def test_an_answer_of_any_size_takes_little_memory(manager: SecretsManagerServer, *, packed: bool) -> None:
    body = gzip.compress(bytes(50_000_000), 1) if packed else bytes(50_000_000)

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        if packed:
            request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        with contextlib.suppress(OSError):
            request.wfile.write(body)

    warm = Warm(manager)
    assert outcomes(warm.handle(point())) == {"delivered": 1}, "everything is imported"
    manager.script = [flood] * 9
    flooded = Warm(manager)
    tracemalloc.start()
    try:
        report = flooded.handle(point())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcomes(report) == {"undelivered": 1}
    assert "not from Secrets Manager" in report["errors"][0]["message"]
    assert peak < 5_000_000


def test_a_reading_that_hangs_keeps_one_thread_and_no_more(manager: SecretsManagerServer) -> None:
    finished = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            while not finished.wait(0.01):
                request.wfile.write(b" ")

    manager.script = [trickle] * 9
    source = SecretsManager(
        SecretReference("monitor", "v1", "ap-guangzhou", manager.endpoint), ROLE, system_machine()
    )
    verdicts = [source.ensure_loaded(0.05) for _ in range(5)]
    hanging = [thread for thread in threading.enumerate() if thread.name == "secret"]
    finished.set()
    assert all(verdict is not None for verdict in verdicts)
    assert len(hanging) <= 1
    for thread in hanging:
        thread.join(30)


def test_no_secret_is_in_any_log_with_every_logger_at_debug(
    manager: SecretsManagerServer,
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    manager.script = ["InternalError"]
    application = Application(
        settings(manager, RECEIVER_URL=emulator.url, RECEIVER_METHOD="GET", LOG_LEVEL="DEBUG")
    )
    reports = [report_of(application, point())]
    manager.script = ["UnauthorizedOperation"]
    application = Application(settings(manager, RECEIVER_URL=emulator.url, LOG_LEVEL="DEBUG"))
    reports.append(report_of(application, point()))
    written = "".join(
        [*capsys.readouterr(), *map(logging.Formatter().format, caplog.records), json.dumps(reports)]
    )
    assert "undelivered" in written
    assert [text for text in SECRETS if text in written] == []


def problems(**given: str) -> str:
    with pytest.raises(ConfigError) as raised:
        Application(environ(**given)).handle(point(), CONTEXT)
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize("name", ["SECRET_ID", "SECRET_KEY"])
@pytest.mark.parametrize("text", ["hiddenß", "hidden\udcff", "hid den", "hidden\tx"], ids=ascii)
def test_a_key_that_cannot_be_signed_with_is_a_configuration_error(name: str, text: str) -> None:
    told = problems(**{name: text})
    assert f"MF_{name} holds characters that are never in a key of Tencent Cloud" in told
    assert "hid" not in told


def test_a_key_and_a_secret_together_are_a_choice_left_open() -> None:
    text = problems(SECRET_NAME="monitor")
    assert "MF_SECRET_NAME and MF_SECRET_ID and MF_SECRET_KEY are set: choose one" in text
    assert EXAMPLE_SECRET_KEY not in text


def test_neither_a_key_nor_a_secret_is_answered_with_both_ways() -> None:
    text = problems(SECRET_ID="", SECRET_KEY="")
    assert "set MF_SECRET_ID and MF_SECRET_KEY" in text
    assert "or MF_SECRET_NAME" in text


@pytest.mark.parametrize("missing", ["SECRET_ID", "SECRET_KEY"])
def test_half_a_key_is_asked_for_its_other_half(missing: str) -> None:
    assert f"MF_{missing} is empty" in problems(**{missing: ""})


@pytest.mark.parametrize(
    "endpoint",
    [
        "ssm.tencentcloudapi.com",
        "http://ssm.tencentcloudapi.com",
        "https://ssm.tencentcloudapi.com/path",
        "https://user:hidden@ssm.tencentcloudapi.com",
        "https://",
        "https://host:port",
    ],
)
def test_an_endpoint_that_is_not_a_safe_origin_is_a_configuration_error(endpoint: str) -> None:
    text = problems(SECRET_ID="", SECRET_KEY="", SECRET_NAME="monitor", SECRET_ENDPOINT=endpoint)
    assert "MF_SECRET_ENDPOINT" in text
    assert "https://host" in text
    assert "hidden" not in text


def untrusted(connection: socket.socket) -> None:
    with contextlib.suppress(ssl.SSLError):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        context.wrap_socket(connection, server_side=True)


def read_from(endpoint: str) -> str:
    reference = SecretReference("monitor", "v1", "ap-guangzhou", endpoint)
    verdict = SecretsManager(reference, ROLE, system_machine()).read(30.0)
    assert isinstance(verdict, Verdict)
    return verdict.reason


def test_a_certificate_that_is_not_trusted_is_named_with_the_setting_that_trusts_it() -> None:
    with listening(untrusted) as place:
        told = read_from(f"https://{place}")
    assert "the certificate of Secrets Manager is not trusted" in told
    assert "MF_CA_FILE" in told


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"], ids=["refused", "unknown"])
def test_an_address_without_a_server_is_not_called_slow(host: str) -> None:
    told = read_from(f"https://{host}")
    assert "Secrets Manager could not be reached: check MF_SECRET_ENDPOINT" in told


@pytest.mark.parametrize(
    ("endpoint", "trusted"),
    [
        ("https://ssm.tencentcloudapi.com", None),
        ("https://ssm.tencentcloudapi.com:443", None),
        ("https://SSM.TencentCloudAPI.com", None),
        ("https://ssm.example.com", CERTIFICATE),
    ],
)
def test_a_private_authority_counts_only_outside_of_tencent_clouds_own_addresses(
    endpoint: str, trusted: str | None
) -> None:
    references: list[SecretReference] = []

    def read(reference: SecretReference, role: list[str], timeout_s: float) -> Credentials:
        references.append(reference)
        return Credentials(role[0], Secret(f"read within {timeout_s} s"))

    given = {"SECRET_NAME": "monitor", "SECRET_ENDPOINT": endpoint, "CA_FILE": CERTIFICATE}
    settings = Settings.read(environ(SECRET_ID="", SECRET_KEY="", **given))
    assert make_credentials(settings, ROLE, system_machine(), read).ensure_loaded(1.0) is None
    assert [reference.ca_file for reference in references] == [trusted]
