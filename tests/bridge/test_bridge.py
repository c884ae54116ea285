"""Clients of the receiver, unchanged, are served by the function in its place."""

import base64
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.bridge.accounts import Accounts, OwnKey
from metric_forwarder.bridge.replies import return_code
from metric_forwarder.bridge.requests import MAX_UNAUTHENTICATED_BYTES, ReceiverBridge
from metric_forwarder.clients.http import Failure, Fault
from metric_forwarder.clock import Deadline
from metric_forwarder.credentials import Credentials
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.errors import ConfigError
from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.claims import find_claims
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal, parse_request
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings
from metric_forwarder.triggers import Decoded
from metric_forwarder.triggers.decoding import BodyStart
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator, EmulatorOptions
from support.command_line import settings_for
from support.fakes import FakeClock
from support.harness import ROOT, Harness, environ, make_harness, make_remote_write_harness
from support.old_clients import OldClient, encode_query
from support.patience import ends_within
from support.secrets_manager_server import ROLE, SecretsManagerServer
from support.served import serving

TOKEN = "sample-token-of-the-docs"
DATA = [
    {"dimensions": {"diskname": "sda", "ip": "172.31.58.160"}, "metricName": "diskusage", "value": 0.3},
    {"dimensions": {"ip": "172.31.58.160"}, "metricName": "cpuload", "value": 2},
]
OK = {"code": 0, "message": "OK"}
CLIENT = OldClient(EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY)
CLIENTS = [
    CLIENT._replace(method=method, path=path, sends_action=sends_action)
    for method in ("POST", "GET")
    for path in ("/v2/index.php", "/report.cgi")
    for sends_action in (True, False)
]


def _id(client: OldClient) -> str:
    return f"{client.method} {client.path}{' with Action' if client.sends_action else ''}"


# --- over real sockets: old client → serve → the function → the emulated receiver ----------------------------


@pytest.fixture(scope="module")
def receiver() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def front(receiver: Emulator) -> Iterator[str]:
    with serving(**settings_for(receiver), BRIDGE_ACCOUNTS="own") as url:
        yield url


@pytest.mark.parametrize("client", CLIENTS, ids=_id)
def test_an_old_client_that_only_resolves_another_address_goes_on_as_before(
    receiver: Emulator, front: str, client: OldClient
) -> None:
    receiver.clear()
    assert client.send(front, "pc", DATA) == client.send(receiver.base_url, "direct", DATA) == (200, OK)
    stored = [
        {"dimensions": p["dimensions"], "metricName": p["metricName"], "value": p["value"]}
        for p in receiver.points()
        if p["namespace"] == "pc"
    ]
    assert sorted(stored, key=json.dumps) == sorted(DATA, key=json.dumps)


@pytest.mark.parametrize("client", CLIENTS, ids=_id)
def test_a_wrong_signature_is_refused_with_1011_and_nothing_is_forwarded(
    receiver: Emulator, front: str, client: OldClient
) -> None:
    receiver.clear()
    for wrong in (client._replace(secret_key="another"), client._replace(secret_id="AKIDanother")):
        status, answer = wrong.send(front, "pc", DATA)
        assert (status, answer["code"]) == (200, 1011)
    assert receiver.requests() == []


# --- in one process: what is answered, and what is forwarded --------------------------------------------------


def bridge(**more: str) -> Harness:
    return make_harness(BRIDGE_ACCOUNTS="own", MAX_ATTEMPTS="1", **more)


def event_of(client: OldClient, members: dict[str, Any]) -> dict[str, Any]:
    """The event that a Function URL makes of a client's request."""
    event = {"httpMethod": client.method, "path": client.path, "headers": {}, "queryString": {}, "body": ""}
    if client.method == "POST":
        return {**event, "body": json.dumps(members)}
    return {**event, "queryString": {name: str(value) for name, value in members.items()} | {"Data": json.dumps(members["Data"])}}  # fmt: skip


def call(harness: Harness, event: dict[str, Any], time_limit_ms: int = 5000) -> dict[str, Any]:
    """What the client reads; it always comes with HTTP 200."""
    reply = harness.application.handle(event, {"request_id": "r-1", "time_limit_in_ms": time_limit_ms})
    assert json.loads(json.dumps(reply)) == reply
    assert reply["statusCode"] == 200
    answer: dict[str, Any] = json.loads(reply["body"])
    assert answer.keys() == {"code", "message"}
    return answer


def send(
    harness: Harness, data: Any, namespace: str = "pc", client: OldClient = CLIENT, **replaced: Any
) -> Any:
    replaced = {"Timestamp": round(harness.clock.time()), **replaced}
    return call(harness, event_of(client, client.members(namespace, data, **replaced)))


def point(**replaced: Any) -> dict[str, Any]:
    return {**DATA[1], **replaced}


def test_unless_a_setting_opens_it_the_bridge_is_closed(harness: Harness) -> None:
    members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time()))
    reply = harness.application.handle(event_of(CLIENT, members), {})
    assert reply["statusCode"] == 401
    assert harness.receiver.requests == []


def test_settings_that_cannot_be_used_do_not_open_the_bridge_for_good() -> None:
    harness = make_harness()
    variables = environ()
    app = Application(variables, harness.clock, lambda: harness.receiver)
    members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time()))
    assert app.handle(event_of(CLIENT, members), {})["statusCode"] == 401
    wrong = {"MF_BRIDGE_ACCOUNTS": "own", "MF_SCHEMA": "/no/such.json"}
    variables.update(wrong)
    with pytest.raises(ConfigError, match="MF_SCHEMA"):
        app.handle(event_of(CLIENT, members), {})
    for name in wrong:
        del variables[name]
    assert app.handle(event_of(CLIENT, members), {})["statusCode"] == 401


def test_the_http_token_neither_opens_the_bridge_nor_is_asked_for_there() -> None:
    harness = bridge(HTTP_TOKEN=TOKEN)
    event = event_of(CLIENT, {"Namespace": "pc", "Data": DATA})
    event["headers"] = {"Authorization": f"Bearer {TOKEN}"}
    assert call(harness, event)["code"] == 1009
    assert send(harness, DATA) == OK


@pytest.mark.parametrize(
    "accounts",
    [
        "AKIDone:key-1,AKIDtwo:key:2",
        " AKIDone:key-1 , AKIDtwo:key:2 ,",
        '{"AKIDone": "key-1", "AKIDtwo": "key:2"}',
    ],
    ids=["text", "spaced", "JSON"],
)
def test_each_account_signs_with_its_own_key_and_the_forwarders_key_is_rejected(accounts: str) -> None:
    harness = make_harness(BRIDGE_ACCOUNTS=accounts)
    assert send(harness, DATA, client=OldClient("AKIDone", "key-1")) == OK
    assert send(harness, DATA, client=OldClient("AKIDtwo", "key:2")) == OK
    assert send(harness, DATA, client=OldClient("AKIDtwo", "key-1"))["code"] == 1011
    assert send(harness, DATA)["code"] == 1011
    assert len(harness.receiver.points) == 4


@pytest.mark.parametrize(
    "accounts",
    ["sEcret", "sEcret:", ":sEcret", "a:b,a:sEcret", "a:sEcretß", '{"a": "sEcret\\ud800"}', '{"a": "sEcret"', '{"a": 1}', '{"a": {"b": "sEcret"}}', '{"a": "b", "a": "sEcret"}', "{}"],
    ids=repr,
)  # fmt: skip
def test_accounts_that_cannot_be_read_are_a_configuration_error_that_shows_none_of_them(
    accounts: str,
) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.read(environ(BRIDGE_ACCOUNTS=accounts))
    assert "MF_BRIDGE_ACCOUNTS cannot be read" in str(raised.value)
    assert "sEcret" not in str(raised.value)


def test_settings_and_log_show_no_key_of_an_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sEcret" not in repr(Settings.read(environ(BRIDGE_ACCOUNTS="a:sEcret")))
    harness = make_harness(BRIDGE_ACCOUNTS="a:sEcret")
    members = OldClient("a", "other").members("pc", DATA, Timestamp=round(harness.clock.time()))
    assert call(harness, event_of(CLIENT, members))["code"] == 1011
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["returnCode"]) == ("refused", 1011)
    assert "or MF_BRIDGE_ACCOUNTS" in line
    assert "sEcret" not in line
    assert members["Signature"] not in line


@pytest.mark.parametrize(("late_s", "code"), [(7000, 0), (-7000, 0), (7300, 1021), (-7300, 1021)])
def test_a_clock_may_be_off_by_at_most_two_hours(late_s: int, code: int) -> None:
    harness = bridge()
    assert send(harness, DATA, Timestamp=round(harness.clock.time()) - late_s)["code"] == code
    assert len(harness.receiver.points) == (0 if code else 2)


@pytest.mark.parametrize("signed", ["/v2/index.php", "/release/v2/index.php"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stage_of_api_gateway_in_front_of_the_path_may_be_signed_or_not(method: str, signed: str) -> None:
    harness = bridge()
    client = CLIENT._replace(method=method, path=signed)
    event = event_of(client, client.members("pc", DATA, Timestamp=round(harness.clock.time())))
    assert call(harness, {**event, "path": "/release/v2/index.php"}) == OK
    assert call(harness, {**event, "path": "/other/report.cgi"})["code"] == 1011


def test_the_forms_in_which_gateways_hand_over_a_query_are_all_read() -> None:
    harness = bridge()
    client = CLIENT._replace(method="GET")
    for form in ("lists", "still encoded", "declared parameters"):
        members = client.members("pc", DATA, Timestamp=round(harness.clock.time()))
        event = event_of(client, members)
        query: dict[str, Any] = {**event["queryString"], "debug": True}
        if form == "lists":
            query = {name: ["older", value] for name, value in query.items()}
        elif form == "still encoded":
            query = dict(pair.split("=", 1) for pair in encode_query(members).split("&"))
            assert query["Data"].startswith("%5B")
        event["queryString"] = query
        if form == "declared parameters":
            event["queryStringParameters"] = event.pop("queryString")
        assert call(harness, event) == OK, form
    assert len(harness.receiver.points) == 6


def test_a_path_that_cannot_be_signed_is_not_served_by_the_bridge() -> None:
    opened = bridge(HTTP_TOKEN=TOKEN)
    members = CLIENT._replace(secret_key="other").members("pc", DATA)
    event = {**event_of(CLIENT, members), "path": "/\ud800/v2/index.php"}
    assert opened.application.handle(event, {})["statusCode"] == 401


def test_a_dimension_that_is_a_number_is_sent_as_its_text() -> None:
    harness = bridge()
    assert send(harness, [point(dimensions={"size": 1.5, "count": 2})]) == OK
    assert harness.receiver.points[0][1]["dimensions"] == {"count": "2", "size": "1.5"}


MALFORMED: dict[str, tuple[int, dict[str, Any]]] = {
    "PUT": (1000, {"httpMethod": "PUT"}),
    "no method": (1000, {"httpMethod": None}),
    "no body": (1004, {"body": None}),
    "not JSON": (1005, {"body": "views=1"}),
    "not base64": (1005, {"body": "***", "isBase64Encoded": True}),
    "a list": (1010, {"body": "[]"}),
    "decoded on the way": (1009, {"body": {"SecretId": "x"}}),
    "a GET without a query": (1004, {"httpMethod": "GET", "queryString": None}),
    "7 MB": (1015, {"body": " " * (7 * 2**20)}),
}


@pytest.mark.parametrize(("code", "members"), MALFORMED.values(), ids=list(MALFORMED))
def test_a_request_that_breaks_the_protocol_gets_its_return_code(code: int, members: dict[str, Any]) -> None:
    harness = bridge()
    assert call(harness, {**event_of(CLIENT, {}), **members})["code"] == code
    assert harness.receiver.requests == []


@pytest.mark.parametrize(
    ("code", "replaced"),
    [
        (1009, {"Nonce": None}),
        (1010, {"Nonce": "many"}),
        (1012, {"Action": "DescribeMetrics"}),
        (1013, {"Region": "mars"}),
        (1010, {"Data": {}}),
        (1009, {"Data": [{"metricName": "m", "value": 1}]}),
        (1010, {"Data": [{"metricName": "m", "value": "1", "dimensions": {}}]}),
        (1019, {"Data": []}),
    ],
    ids=str,
)
def test_a_request_with_a_wrong_member_is_refused_as_a_whole(code: int, replaced: dict[str, Any]) -> None:
    harness = bridge()
    if replaced.get("Nonce") == "many":
        members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time())) | replaced
        assert call(harness, event_of(CLIENT, members))["code"] == code
    elif "Nonce" in replaced:
        members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time()))
        del members["Nonce"]
        assert call(harness, event_of(CLIENT, members))["code"] == code
    else:
        assert send(harness, DATA, **replaced)["code"] == code
    assert harness.receiver.requests == []


BAD: dict[str, tuple[int, dict[str, Any]]] = {
    "value": (1013, {"value": 10**400}),
    "metric name": (1019, {"metricName": "cpu load"}),
    "dimension name": (1017, {"dimensions": {"i p": "1"}}),
    "six dimensions": (1017, {"dimensions": {f"d{i}": "1" for i in range(6)}}),
    "too long": (1015, {"dimensions": {"ip": "1" * 70_000}}),
}


@pytest.mark.parametrize(("code", "replaced"), BAD.values(), ids=list(BAD))
def test_a_bad_point_gets_its_return_code_and_the_good_ones_are_delivered(
    code: int, replaced: dict[str, Any]
) -> None:
    harness = bridge()
    answer = send(harness, [point(), point(**replaced)])
    assert answer["code"] == code
    assert "1 of 2 points were not delivered" in answer["message"]
    assert "/Data/1" in answer["message"]
    assert send(harness, [point(**replaced)])["code"] == code
    assert len(harness.receiver.points) == 1


@pytest.mark.parametrize("namespace", ["", "a b", "n" * 33], ids=["empty", "a space", "too long"])
def test_an_illegal_namespace_gets_its_return_code(namespace: str) -> None:
    harness = bridge()
    assert send(harness, DATA, namespace)["code"] == 1016
    assert harness.receiver.requests == []


@pytest.mark.parametrize("code", [1009, 1010, 1013, 1016, 1017, 1019, 1020])
def test_a_point_that_the_receiver_rejects_gets_the_receivers_return_code(code: int) -> None:
    harness = bridge()
    harness.receiver.refuse_if = lambda _: ReturnCode(code)
    assert send(harness, DATA[:1])["code"] == code


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1006, 1008, 1011, 1012, 1014, 1021])
def test_undelivered_points_are_answered_with_1002(code: int) -> None:
    harness = bridge()
    harness.receiver.refuse_if = lambda _: ReturnCode(code)
    answer = send(harness, DATA)
    assert answer["code"] == 1002
    assert "2 of 2 points were not delivered" in answer["message"]


def test_spooled_points_are_answered_with_0(tmp_path: Path) -> None:
    harness = bridge(SPOOL=tmp_path.as_uri())
    harness.receiver.refuse_if = lambda _: ReturnCode.NOT_READY
    assert send(harness, DATA) == OK
    (spooled,) = tmp_path.glob("points-*")
    record = json.loads(spooled.read_text("utf-8").splitlines()[1])
    assert record["time_ms"] == round(harness.clock.time() * 1000), "the receiver stamps points on arrival"
    assert send(harness, [point(metricName="cpu load")])["code"] == 1019


def test_uncertain_points_are_answered_with_1003() -> None:
    harness = bridge(UNCERTAIN="hold")
    harness.receiver.script.append(Failure(Fault.UNANSWERED, "no answer in time"))
    assert send(harness, DATA)["code"] == 1003


def test_1002_and_1003_give_the_reason_of_the_points_for_which_they_are_answered() -> None:
    harness = bridge(UNCERTAIN="hold")
    points = [point(metricName="cpu load"), *DATA]
    harness.receiver.refuse_if = lambda _: ReturnCode.CLIENT_BLOCKED
    answer = send(harness, points, Nonce=1)
    assert (answer["code"], "blocked this client" in answer["message"]) == (1002, True), answer
    harness = bridge(UNCERTAIN="hold")
    harness.receiver.script.append(Failure(Fault.UNANSWERED, "no answer in time"))
    answer = send(harness, points, Nonce=2)
    assert (answer["code"], "no reply came" in answer["message"]) == (1003, True), answer


def test_many_bad_points_leave_no_reason_for_1002_rather_than_theirs() -> None:
    harness = bridge()
    harness.receiver.refuse_if = lambda _: ReturnCode.CLIENT_BLOCKED
    answer = send(harness, [*[point(metricName="cpu load")] * 25, *DATA])
    assert answer["code"] == 1002
    assert answer["message"].endswith("27 of 27 points were not delivered")


# --- the same request twice -----------------------------------------------------------------------------------


def test_a_request_sent_twice_as_it_is_arrives_once() -> None:
    harness = bridge()
    members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time()))
    assert [call(harness, event_of(CLIENT, members)) for _ in range(3)] == [OK] * 3
    assert len(harness.receiver.points) == 2


def test_equal_readings_that_are_signed_again_are_two_readings() -> None:
    harness = bridge()
    assert [send(harness, DATA, Nonce=nonce) for nonce in (10001, 10002)] == [OK] * 2
    assert len(harness.receiver.points) == 4


def test_two_hosts_that_draw_the_same_nonce_in_the_same_second_are_two_hosts() -> None:
    harness = bridge()
    for ip in ("10.0.0.1", "10.0.0.2"):
        assert send(harness, [point(dimensions={"ip": ip})], Nonce=10001) == OK
    assert send(harness, [point()], "other", Nonce=10001) == OK
    assert len(harness.receiver.points) == 3


def test_a_request_sent_again_delivers_only_what_is_missing() -> None:
    harness = bridge()
    members = CLIENT.members("pc", DATA, Timestamp=round(harness.clock.time()))
    harness.receiver.refuse_if = lambda request: (
        ReturnCode.NOT_READY if any(p["metricName"] == "cpuload" for p in request.data) else None
    )
    harness.receiver.script.append(ReturnCode.NO_VALID_DATA)  # halved: then each point goes alone
    assert call(harness, event_of(CLIENT, members))["code"] == 1002
    harness.receiver.refuse_if = lambda _: None
    assert call(harness, event_of(CLIENT, members)) == OK
    assert sorted(p["metricName"] for _, p in harness.receiver.points) == ["cpuload", "diskusage"]


# --- the forwarder's own key ----------------------------------------------------------------------------------


class ChangingKey:
    """A ``CredentialSource`` whose key is changed elsewhere."""

    def __init__(self) -> None:
        self.stored: Credentials | None = Credentials("AKID", Secret("first"))
        self.held: Credentials | None = None
        self.reads = 0

    def ensure_loaded(self, timeout_s: float) -> Verdict | None:
        if self.held is None:
            self.reload(timeout_s)
        return None if self.held else Verdict(Action.RETRY, "secret", "not now")

    def current(self) -> Credentials:
        assert self.held is not None
        return self.held

    def reload(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        self.reads += 1
        changed, self.held = self.stored != self.held, self.stored
        return changed

    def read(self, timeout_s: float) -> Credentials | Verdict:
        raise NotImplementedError("only the doctor asks for it")


def signed_by(key: str, clock: FakeClock) -> PutRequest:
    members = OldClient("AKID", key).members("pc", DATA, Timestamp=round(clock.time()))
    request = parse_request("POST", "/v2/index.php", "", json.dumps(members).encode())
    assert isinstance(request, PutRequest)
    return request


PATIENCE = Deadline(FakeClock(), 10.0)


def code_of(refusal: Refusal | None) -> int:
    return 0 if refusal is None else int(refusal.code)


def test_a_key_changed_in_secrets_manager_is_read_again_and_at_most_once_a_minute() -> None:
    clock, source = FakeClock(), ChangingKey()
    authenticator = OwnKey(source, clock.time)
    assert code_of(authenticator.check(signed_by("first", clock), PATIENCE)) == 0
    for _ in range(20):
        assert code_of(authenticator.check(signed_by("guess", clock), PATIENCE)) == 1011
    assert source.reads == 2
    source.stored = Credentials("AKID", Secret("second"))
    assert code_of(authenticator.check(signed_by("second", clock), PATIENCE)) == 1011
    clock.sleep(60)
    assert code_of(authenticator.check(signed_by("second", clock), PATIENCE)) == 0
    assert code_of(authenticator.check(signed_by("first", clock), PATIENCE)) == 1011


def test_while_the_key_cannot_be_read_clients_are_asked_to_come_again() -> None:
    clock, source = FakeClock(), ChangingKey()
    source.stored = None
    assert code_of(OwnKey(source, clock.time).check(signed_by("first", clock), PATIENCE)) == 1002


@pytest.mark.parametrize("bytes_of_an_answer", [False, True], ids=["no answer", "a byte at a time"])
def test_a_secrets_manager_that_never_ends_its_answer_does_not_hold_the_client_past_the_deadline(
    bytes_of_an_answer: bool,  # noqa: FBT001 - a parameter
) -> None:
    finished = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        if bytes_of_an_answer:
            request.send_response(200)
            request.send_header("Content-Length", "100000")
            request.end_headers()
        while not finished.wait(0.02):
            if bytes_of_an_answer:
                request.wfile.write(b" ")

    with SecretsManagerServer("{}") as manager:
        manager.script = [trickle]
        application = Application(
            {
                **environ(SECRET_ID="", SECRET_KEY="", BRIDGE_ACCOUNTS="own"),
                "MF_SECRET_NAME": "monitor",
                "MF_SECRET_VERSION": "v1",
                "MF_SECRET_ENDPOINT": manager.endpoint,
                **ROLE,
            }
        )
        members = CLIENT.members("pc", DATA, Timestamp=round(time.time()))
        with ends_within(1):
            reply = application.handle(event_of(CLIENT, members), {"time_limit_in_ms": 1000})
        finished.set()
    assert json.loads(reply["body"])["code"] == 1002


def test_an_empty_key_lets_no_client_in() -> None:
    clock, source = FakeClock(), ChangingKey()
    source.stored = Credentials("", Secret(""))
    request = OldClient("", "").members("pc", DATA, Timestamp=round(clock.time()))
    parsed = parse_request("POST", "/v2/index.php", "", json.dumps(request).encode())
    assert isinstance(parsed, PutRequest)
    assert code_of(OwnKey(source, clock.time).check(parsed, PATIENCE)) == 1011


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)  # fmt: skip
NAMES = st.sampled_from(
    ["Action", "SecretId", "Region", "Timestamp", "Nonce", "Signature", "Namespace", "Data", "x"]
)


# --- what an unauthenticated request costs ----------------------------------------------------------------------


def compressed(text: bytes) -> dict[str, Any]:
    """A POST to the bridge whose body is gzip data."""
    return {
        "httpMethod": "POST",
        "path": "/v2/index.php",
        "headers": {"Content-Encoding": "gzip"},
        "body": base64.b64encode(gzip.compress(text)).decode(),
        "isBase64Encoded": True,
    }


HOSTILE = {
    "a text that never ends": b"," * 600_000 + b'"' + b'\\"' * 200_000,
    "a bomb": bytes(5 * 2**20),
    "brackets": b"[" * (5 * 2**20),
    "members": b'{"SecretId":' * 400_000,
    "points": b'{"Data":[' + b'{"dimensions":{},"metricName":"m","value":1},' * 100_000 + b"0]}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("is_compressed", [True, False], ids=["gzip", "plain"])
def test_an_unsigned_request_costs_little_whatever_it_holds(text: bytes, *, is_compressed: bool) -> None:
    harness = bridge()
    event = compressed(text) if is_compressed else {**compressed(b""), "headers": {}, "body": text.decode(), "isBase64Encoded": False}  # fmt: skip
    call(harness, compressed(b""))
    started = time.thread_time()
    assert call(harness, event)["code"] in (1005, 1011)
    assert time.thread_time() - started < 0.5


class WatchedBody:
    """A ``RequestBody`` that remembers how much of it was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.inflated = 0
        self.was_read = False

    def start(self, limit: int) -> BodyStart:
        self.inflated = min(limit, len(self.content))
        return BodyStart(self.content[:limit], is_whole=len(self.content) <= limit)

    def read(self) -> bytes:
        self.was_read = True
        return self.content


@pytest.mark.parametrize("padding", [70_000, 1_000_000, 4_000_000])
def test_a_large_compressed_request_is_inflated_only_if_its_beginning_holds_the_signature(
    padding: int,
) -> None:
    clock = FakeClock()
    accounts = Accounts({CLIENT.secret_id: Secret(CLIENT.secret_key)}, clock.time)
    receiver = ReceiverBridge(accounts, clock.time)
    data = [{**DATA[0], "dimensions": {"ip": "x" * padding}}]
    event = {"httpMethod": "POST", "path": "/v2/index.php"}
    for key, is_let_in in ((CLIENT.secret_key, True), ("another", False)):
        signed = CLIENT._replace(secret_key=key).members("pc", [], Timestamp=round(clock.time()))
        del signed["Data"]
        body = WatchedBody(json.dumps({**signed, "Data": data}).encode())
        decoded = receiver.decode(event, body, PATIENCE)
        assert isinstance(decoded, Decoded) == is_let_in == body.was_read
        assert body.inflated <= MAX_UNAUTHENTICATED_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("order", [list, lambda names: list(reversed(list(names)))], ids=["first", "last"])
def test_a_large_signed_request_is_forwarded_wherever_its_signature_stands(method: str, order: Any) -> None:
    harness = bridge()
    data = [{**DATA[0], "dimensions": {"ip": f"10.0.{n // 256}.{n % 256}"}, "value": n} for n in range(1500)]
    members = CLIENT.members("pc", data, Timestamp=round(harness.clock.time()))
    client = CLIENT._replace(method=method)
    members = client.members("pc", data, Timestamp=round(harness.clock.time()))
    shuffled = {name: members[name] for name in order(members)}
    assert len(json.dumps(shuffled)) > MAX_UNAUTHENTICATED_BYTES
    assert call(harness, event_of(client, shuffled), 60_000)["code"] == 0
    assert len(harness.receiver.points) == 1500
    shuffled["Signature"] = "AAAA"
    assert call(harness, event_of(client, shuffled))["code"] == 1011


@pytest.mark.slow
@given(
    members=st.dictionaries(NAMES, JSON | st.just("gz") | st.just(1408704141)).map(json.dumps)
    | st.text().map(lambda text: f'"SecretId": "{text}'),
)
def test_searching_a_request_for_its_sender_raises_nothing(members: str) -> None:
    assert len(list(find_claims("POST", "/v2/index.php", members.encode("utf-8", "surrogatepass")))) <= 32


def test_a_nested_query_string_is_not_a_text() -> None:
    nested: Any = "x"
    for _ in range(50_000):
        nested = [nested]
    members = CLIENT.members("pc", DATA)
    event = event_of(CLIENT._replace(method="GET"), members)
    event["queryString"]["Nonce"] = nested
    assert call(bridge(), event)["code"] == 1010


# --- who is told ------------------------------------------------------------------------------------------------


def test_reports_and_refusals_name_the_end_of_the_secret_id_of_the_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = OldClient("AKIDfirstclient0001", "key-of-one"), OldClient("AKIDsecondclient0002", "key-of-two")
    harness = make_harness(BRIDGE_ACCOUNTS="AKIDfirstclient0001:key-of-one,AKIDsecondclient0002:key-of-two")
    for client in (one, two):
        send(harness, [point(metricName="a b")], client=client)
        wrong = client._replace(secret_key="wrong")
        assert send(harness, DATA, client=wrong)["message"].endswith(
            f"(SecretId …{client.secret_id[-4:]}): correct the client's key, or MF_BRIDGE_ACCOUNTS"
        )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["errors"][0]["source"] for line in lines if line["event"] == "report"] == [
        "request of …0001",
        "request of …0002",
    ]
    refused = [line["message"] for line in lines if line["event"] == "refused"]
    assert ["…0001)" in message for message in refused] == [True, False]
    assert ["…0002)" in message for message in refused] == [False, True]
    assert "AKIDfirst" not in json.dumps(lines)


def test_any_region_is_accepted_if_the_destination_does_not_use_it() -> None:
    client = CLIENT._replace(region="ap-jakarta")
    for settings_of, code in (({}, 1013), ({"DESTINATION": "remote-write"}, 0)):
        harness = make_remote_write_harness(BRIDGE_ACCOUNTS=f"{CLIENT.secret_id}:{CLIENT.secret_key}") if settings_of else bridge()  # fmt: skip
        members = client.members("pc", DATA, Timestamp=round(harness.clock.time()))
        reply = harness.application.handle(event_of(client, members), {"time_limit_in_ms": 5000})
        assert json.loads(reply["body"])["code"] == code


# --- the document ---------------------------------------------------------------------------------------------

TABLE = re.findall(r"^\| (a point is .*|every point is .*|there was no point) \| (\d+) \|", (ROOT / "docs/migrate.md").read_text("utf-8"), re.MULTILINE)  # fmt: skip
SITUATIONS: dict[str, dict[str, Any]] = {
    "a point is `undelivered`": {"undelivered": 1, "invalid": 1, "delivered": 1},
    "a point is `uncertain`": {"uncertain": 1, "invalid": 1},
    "a point is `invalid`: its namespace": {"invalid": 1, "pointer": "/Namespace"},
    "a point is `invalid`: its metric's name": {"invalid": 1, "pointer": "/Data/0/metricName"},
    "a point is `invalid`: its dimensions": {"invalid": 1, "pointer": "/Data/0/dimensions/a b"},
    "a point is `invalid`: a name is too long": {
        "invalid": 1,
        "pointer": "/Data/0/metricName",
        "rule": "maxLength",
    },
    "a point is `invalid`: it is too large for a request": {"invalid": 1, "rule": "maxBytes"},
    "a point is `invalid`, `stale` or `rejected` in any other way": {"rejected": 1, "code": 400},
    "there was no point": {},
    "every point is `delivered`, `duplicate`, `filtered` or `spooled`": {
        "delivered": 1,
        "duplicate": 1,
        "filtered": 1,
        "spooled": 1,
    },
}


@pytest.mark.parametrize(("situation", "code"), TABLE, ids=[row[0] for row in TABLE])
def test_the_bridge_replies_as_the_documents_table_says(situation: str, code: str) -> None:
    told = SITUATIONS[situation]
    counts = {outcome.value: told.get(outcome.value, 0) for outcome in Outcome}
    bad = {
        name: told.get(name, default)
        for name, default in (("pointer", "/Data/0/value"), ("rule", "type"), ("code", None))
    }
    errors = [{"outcome": name, "message": "x", **bad} for name in ("invalid", "rejected") if counts[name]]
    report = {"received": sum(counts.values()), "outcomes": counts, "errors": errors}
    assert return_code(report) == int(code)


def test_every_situation_of_the_document_is_tried() -> None:
    assert [row[0] for row in TABLE] == list(SITUATIONS)


# --- laws -----------------------------------------------------------------------------------------------------

OUTCOMES = st.fixed_dictionaries({outcome.value: st.integers(0, 3) for outcome in Outcome})


@given(OUTCOMES, st.booleans())
def test_zero_is_answered_only_if_every_point_is_delivered_or_safe(
    outcomes: dict[str, int],
    told: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    bad = [name for name in ("invalid", "stale", "rejected") if outcomes[name]]
    errors = [{"outcome": name, "rule": "type", "code": None, "pointer": "/Data/0/value", "message": "x"} for name in bad if told]  # fmt: skip
    received = sum(outcomes.values())
    code = return_code({"received": received, "outcomes": outcomes, "errors": errors})
    safe = sum(outcomes[name] for name in ("delivered", "duplicate", "filtered", "spooled"))
    assert (code is ReturnCode.OK) == (safe == received > 0)
    assert (code is ReturnCode.NOT_READY) == (outcomes["undelivered"] > 0)


EVENTS = st.fixed_dictionaries(
    {
        "httpMethod": st.sampled_from(["GET", "POST", "post", "PUT", None]),
        "path": st.sampled_from(["/v2/index.php", "/report.cgi", "/a/v2/index.php", "/\ud800/report.cgi", "é/report.cgi"]),
        "headers": JSON,
    },
    optional={
        "body": JSON | st.dictionaries(NAMES, JSON).map(json.dumps),
        "queryString": st.dictionaries(NAMES, JSON | st.just("%5B%ff")) | JSON,
        "isBase64Encoded": st.booleans(),
    },
)  # fmt: skip
UNSIGNED = bridge(HTTP_TOKEN=TOKEN)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(EVENTS)
def test_no_unsigned_request_raises_or_is_forwarded(event: dict[str, Any]) -> None:
    reply = UNSIGNED.application.handle(event, {})
    json.dumps(reply)
    if event["path"].isascii():
        assert reply["statusCode"] == 200
        assert json.loads(reply["body"])["code"] > 0
    assert UNSIGNED.receiver.requests == []


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.fixed_dictionaries({"metricName": st.text() | st.just("m"), "dimensions": st.dictionaries(st.text() | st.just("ip"), st.text() | st.integers() | st.floats()), "value": st.integers() | st.floats()}), max_size=4), st.text() | st.just("pc"))  # fmt: skip
def test_zero_means_that_the_receiver_has_every_point_of_a_signed_request(
    data: list[dict[str, Any]], namespace: str
) -> None:
    harness = bridge()
    members = CLIENT.members(namespace, data, Timestamp=round(harness.clock.time()))
    answer = call(harness, event_of(CLIENT, members))
    arrived = len(harness.receiver.points)
    assert (answer["code"] == 0) == (arrived == len(data) > 0)


def test_the_bridge_gives_the_same_return_codes_as_the_receiver_behind_it() -> None:
    catalogue = {"pc": {"cpuload": ["ip"]}}
    client = CLIENT._replace(region="gz")
    with Emulator(EmulatorOptions(catalogue=catalogue)) as emulator:
        app = Application(environ(RECEIVER_URL=emulator.url, BRIDGE_ACCOUNTS="own"))
        for namespace, data in (
            ("pc", DATA[1:]),
            ("pc", DATA[:1]),
            ("nowhere", DATA),
            ("pc", [point(dimensions={"x": "1"})]),
        ):
            reply = app.handle(event_of(client, client.members(namespace, data)), {"time_limit_in_ms": 5000})
            asked = client.send(emulator.base_url, namespace, data)[1]["code"]
            assert json.loads(reply["body"])["code"] == asked
