"""HTTP clients get the documented status, and nothing of a request that is not let in goes anywhere."""

import base64
import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.errors import ConfigError, UnknownTrigger
from metric_forwarder.model import Outcome
from metric_forwarder.reporting.replies import MAX_HTTP_BODY_BYTES, RETRY_AFTER_S, http_status, reply
from metric_forwarder.triggers import Decoded, HttpRefusal, ReplyTo, decode
from metric_forwarder.triggers.decoding import OFFLINE
from metric_forwarder.triggers.http import MAX_BODY_BYTES
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator

# A client such as collectd sends its password only where Basic is asked for.
CHALLENGE = 'Bearer, Basic realm="metric-forwarder"'
TOKEN = "sample-token-of-the-docs"
ROOT = Path(__file__).parents[2]
GOOD = {"namespace": "web", "metricName": "views", "dimensions": {"page": "a"}, "value": 1}
BAD = {**GOOD, "value": "1"}


def application(receiver: Emulator, **environ: str) -> Application:
    return Application(
        {
            "MF_RECEIVER_URL": receiver.url,
            "MF_SECRET_ID": EXAMPLE_SECRET_ID,
            "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
            "MF_REGION": "gz",
            "MF_HTTP_TOKEN": TOKEN,
            "MF_MAX_ATTEMPTS": "1",
            **environ,
        }
    )


def request(body: Any = None, method: str = "POST", **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    event = {"httpMethod": method, "path": "/", "headers": {"Authorization": f"Bearer {TOKEN}", **named}}
    return event if body is None else {**event, "body": body}


def call(app: Application, event: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What the platform would make of the reply: status, headers, decoded body."""
    answer = json.loads(json.dumps(app.handle(event, {"request_id": "r-1", "time_limit_in_ms": 30_000})))
    assert set(answer) == {"isBase64Encoded", "statusCode", "headers", "body"}
    assert answer["isBase64Encoded"] is False
    assert answer["headers"]["Content-Type"] == "application/json; charset=utf-8"
    return answer["statusCode"], answer["headers"], json.loads(answer["body"])


# --- who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é\ud800",
        ["Bearer wrong"],
        {"Bearer": TOKEN},
    ],
    ids=ascii,
)
def test_a_client_without_the_token_is_rejected_and_nothing_is_sent(
    receiver: Emulator, authorization: Any
) -> None:
    event = request(json.dumps(GOOD))
    del event["headers"]["Authorization"]
    if authorization is not None:
        event["headers"]["authorization"] = authorization
    status, headers, body = call(application(receiver), event)
    assert (status, headers["WWW-Authenticate"], body["status"]) == (401, CHALLENGE, "refused")
    assert "MF_HTTP_TOKEN" in body["message"]
    assert TOKEN not in json.dumps(body)
    assert receiver.requests() == []


def test_unless_a_setting_opens_it_http_is_closed_and_says_which_one_does(receiver: Emulator) -> None:
    status, headers, body = call(
        application(receiver, MF_HTTP_TOKEN=""), request(json.dumps(GOOD), Authorization="Bearer ")
    )
    assert (status, headers["WWW-Authenticate"]) == (401, CHALLENGE)
    assert "MF_HTTP_TOKEN" in body["message"]
    assert "MF_HTTP_AUTH=cam" in body["message"]
    assert receiver.requests() == []


@pytest.mark.parametrize("headers", [None, [], "x", {}, {"authorization": None}], ids=repr)
def test_malformed_headers_are_rejected(receiver: Emulator, headers: Any) -> None:
    event = {"httpMethod": "POST", "headers": headers, "body": json.dumps(GOOD)}
    assert call(application(receiver), event)[0] == 401
    assert receiver.requests() == []


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize(
    "value", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", [f"BEARER {TOKEN}", "Bearer x"]], ids=repr
)
def test_the_token_is_taken_however_the_header_is_written(receiver: Emulator, name: str, value: Any) -> None:
    event = {"httpMethod": "POST", "headers": {name: value}, "body": json.dumps(GOOD)}
    assert call(application(receiver), event)[0] == 200


def test_if_the_platform_authenticates_no_token_is_asked_for(receiver: Emulator) -> None:
    event = request(json.dumps(GOOD), Authorization="TC3-HMAC-SHA256 Credential=…")
    assert call(application(receiver, MF_HTTP_TOKEN="", MF_HTTP_AUTH="cam"), event)[0] == 200


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"MF_HTTP_AUTH": "cam"}, "MF_HTTP_TOKEN is set, but MF_HTTP_AUTH is cam"),
        ({"MF_HTTP_AUTH": "none"}, 'MF_HTTP_AUTH is "none": set it to token or cam'),
        ({"MF_HTTP_TOKEN": "two words"}, "MF_HTTP_TOKEN cannot be used in a header"),
        (
            {"MF_HTTP_TOKEN": TOKEN[:19]},
            "MF_HTTP_TOKEN is so short that it can be guessed: set it to 20 random",
        ),
        ({"MF_HTTP_TOKEN": "schlüssel"}, "MF_HTTP_TOKEN cannot be used in a header"),
    ],
    ids=["both", "neither", "a space", "short", "not ASCII"],
)
def test_a_wrong_setting_raises_even_over_http_and_never_shows_the_token(
    receiver: Emulator, environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        application(receiver, **environ).handle(request(json.dumps(GOOD)), {})
    assert problem in str(raised.value)
    assert environ.get("MF_HTTP_TOKEN", TOKEN) not in str(raised.value)


def test_a_refused_request_leaves_a_line_in_the_log_without_its_headers(
    receiver: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    call(application(receiver), request("x", Authorization="Bearer a-guess"))
    (line,) = capsys.readouterr().out.splitlines()
    logged = json.loads(line)
    assert (logged["level"], logged["event"], logged["statusCode"]) == ("WARN", "refused", 401)
    assert logged["requestId"] == "r-1"
    assert "a-guess" not in line


# --- a load balancer ----------------------------------------------------------------------------------------


def balanced(payload: Any, **headers: str) -> dict[str, Any]:
    """The event of a CLB trigger, as its document shows it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"Content-type": "application/json", "X-Stgw-Time": "1591692977.774", "X-Client-Proto": "http"}
    return {
        "headers": {**told, "Authorization": f"Bearer {TOKEN}", **named},
        "payload": payload,
        "isBase64Encoded": "false",
    }


@pytest.mark.parametrize(
    "more", [{}, {"X_Uri": "/scf_location", "X_Method": "PUT"}], ids=["least", "configured"]
)
@pytest.mark.parametrize("write", [json.dumps, lambda body: body], ids=["text", "decoded"])
def test_a_request_through_a_load_balancer_is_read_and_answered_like_any_other(
    receiver: Emulator, write: Callable[[Any], Any], more: dict[str, str]
) -> None:
    status, _, body = call(application(receiver), balanced(write([GOOD, BAD]), **more))
    assert (status, body["trigger"]) == (207, "http")
    assert (body["outcomes"]["delivered"], body["outcomes"]["invalid"]) == (1, 1)


def test_a_load_balancer_passes_on_the_path_the_query_and_a_binary_body(receiver: Emulator) -> None:
    event = balanced(
        base64.b64encode(b"cpu,host=a value=1 1767225600").decode(),
        X_Uri="/write?db=x&precision=s",
        X_Method="POST",
    )
    reply = application(receiver, MF_NAMESPACE="web", MF_MAX_AGE_S="0").handle(
        {**event, "isBase64Encoded": "true"}, {}
    )
    assert (reply["statusCode"], reply["body"]) == (204, "")
    refused = application(receiver).handle(balanced("", X_Uri="/write?precision=y"), {})
    assert refused["statusCode"] == 400


@pytest.mark.parametrize(
    "environ",
    [{"MF_HTTP_TOKEN": ""}, {"MF_HTTP_TOKEN": "", "MF_HTTP_AUTH": "cam"}, {}],
    ids=["closed", "cam", "token"],
)
def test_a_load_balancer_lets_in_only_who_sends_the_token_since_it_authenticates_nobody(
    receiver: Emulator, environ: dict[str, str]
) -> None:
    event = balanced(GOOD, Authorization="Bearer wrong")
    assert call(application(receiver, **environ), event)[0] == 401
    method = balanced(GOOD, X_Method="DELETE")
    assert call(application(receiver), method)[0] == 405
    assert receiver.requests() == []


def test_outside_of_a_function_the_event_of_a_load_balancer_is_read_without_the_token() -> None:
    event = balanced(GOOD, Authorization="Bearer wrong")
    assert isinstance(decode(event, OFFLINE), Decoded)
    assert isinstance(decode(event), HttpRefusal)


def test_another_event_with_headers_and_a_payload_stays_unknown(receiver: Emulator) -> None:
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, None, "X-Stgw-Time"):
        with pytest.raises(UnknownTrigger):
            application(receiver).handle({"headers": headers, "payload": GOOD}, {})


# --- bad requests -------------------------------------------------------------------------------------------


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data)).decode()


def base64_gzip(body: str) -> dict[str, Any]:
    return {**request(body, Content_Encoding="gzip"), "isBase64Encoded": True}


REFUSED: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {
    "GET": (405, lambda: request(json.dumps(GOOD), method="GET")),
    "DELETE": (405, lambda: request(json.dumps(GOOD), method="DELETE")),
    "no method": (405, lambda: {**request(json.dumps(GOOD)), "httpMethod": None}),
    "brotli": (415, lambda: request(json.dumps(GOOD), Content_Encoding="br")),
    "7 MB": (413, lambda: request(" " * (7 * 2**20))),
    "8 MB of two-byte characters": (413, lambda: request("é" * (4 * 2**20))),
    "10 MB of base64": (413, lambda: {**request("A" * (10 * 2**20)), "isBase64Encoded": True}),
    "gzip bomb": (413, lambda: base64_gzip(packed(bytes(100 * 2**20)))),
    "gzip of a byte too many": (413, lambda: base64_gzip(packed(b" " * (MAX_BODY_BYTES + 1)))),
    "no body": (400, request),
    "empty body": (400, lambda: request("")),
    "not JSON": (400, lambda: request("views=1")),
    "deep list": (400, lambda: request("[" * 1_000_000)),
    "deep object": (400, lambda: request('{"a":' * 1_000_000)),
    "invalid point": (400, lambda: request(json.dumps(BAD))),
    "half a surrogate": (400, lambda: request("\ud800")),
    "not base64": (400, lambda: {**request("***"), "isBase64Encoded": True}),
    "gzip cut off": (400, lambda: base64_gzip(packed(json.dumps(GOOD).encode())[:40])),
    "damaged gzip": (400, lambda: request("\x1f\x8b\u20ac", Content_Encoding="gzip")),
}


@pytest.mark.no_cover  # tracing takes more time than the work that is bounded here
@pytest.mark.parametrize(("expected", "make"), REFUSED.values(), ids=list(REFUSED))
def test_a_bad_request_is_answered_with_its_status_for_little_work_and_nothing_is_sent(
    receiver: Emulator, expected: int, make: Callable[[], dict[str, Any]]
) -> None:
    app, event = application(receiver), make()
    # The first call of an instance also imports and builds; that is no matter of the request.
    call(app, request("[]"))
    started = time.thread_time()
    status, headers, body = call(app, event)
    assert time.thread_time() - started < 3
    assert status == expected
    assert body["status"] == ("failed" if expected == 400 else "refused")
    assert (headers.get("Allow") == "POST, PUT") == (expected == 405)
    assert receiver.requests() == []


def test_a_bomb_is_given_up_before_it_takes_the_memory_it_holds(receiver: Emulator) -> None:
    app = application(receiver)
    call(app, request("[]"))
    bomb = REFUSED["gzip bomb"][1]()
    tracemalloc.start()
    try:
        assert call(app, bomb)[0] == 413
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not base64", "is not base64, though isBase64Encoded says so"),
        ("gzip cut off", "is gzip data that stops too early: it was cut off"),
        (
            "damaged gzip",
            "is gzip data that was damaged on the way: send it base64-encoded, or as plain JSON",
        ),
    ],
)
def test_a_body_that_cannot_be_unpacked_says_why(receiver: Emulator, name: str, reason: str) -> None:
    _, _, report = call(application(receiver), REFUSED[name][1]())
    assert [error["message"] for error in report["errors"]] == [reason]


def test_a_name_that_no_text_can_hold_is_reported_and_logged_like_any_other(
    receiver: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"topic": "\ud800", "partition": 0, "offset": 1, "msgBody": "x"}
    report = application(receiver).handle({"Records": [{"Ckafka": record}]}, {})
    assert report["errors"][0]["source"] == "\\ud800/0@1"
    assert "\\ud800/0@1" in capsys.readouterr().out


def test_a_rejected_client_learns_nothing_about_method_or_body(receiver: Emulator) -> None:
    for event in (request(method="GET"), request("x" * (7 * 2**20)), request("x", Content_Encoding="br")):
        event["headers"]["Authorization"] = "Bearer wrong"
        assert call(application(receiver), event)[0] == 401


# --- good requests ------------------------------------------------------------------------------------------


BODY = json.dumps(GOOD)


CARRIED: dict[str, dict[str, Any]] = {
    "text": request(BODY),
    "put": request(BODY, method="put"),
    "double-encoded": request(json.dumps(BODY)),
    "an object": request(GOOD),
    "a list": request([GOOD]),
    "base64": {**request(base64.b64encode(BODY.encode()).decode()), "isBase64Encoded": True},
    "base64 in lines": {**request(base64.encodebytes(BODY.encode()).decode()), "isBase64Encoded": True},
    "base64 of gzip": base64_gzip(packed(BODY.encode())),
    "base64 of gzip, unannounced": request(packed(BODY.encode()), Content_Encoding="gzip"),
    "gzip, a character a byte": request(
        gzip.compress(BODY.encode(), mtime=0).decode("latin-1"), Content_Encoding="x-gzip"
    ),
    "gzip, inflated on the way": request(BODY, Content_Encoding="gzip"),
    "identity": request(BODY, Content_Encoding="identity"),
    "queries of every type": {**request(BODY), "queryString": {"tag": ["a", "b"], "flag": True}},
}


@pytest.mark.parametrize("event", CARRIED.values(), ids=list(CARRIED))
def test_a_point_arrives_however_the_body_is_carried(receiver: Emulator, event: dict[str, Any]) -> None:
    status, _, report = call(application(receiver), event)
    assert (status, report["status"], report["trigger"], report["requestId"]) == (200, "ok", "http", "r-1")
    (point,) = receiver.points()
    assert (point["namespace"], point["metricName"]) == ("web", "views")


def test_the_sample_events_of_a_function_url_and_of_api_gateway_are_delivered(receiver: Emulator) -> None:
    for name in ("events/http.json", "tests/events/api-gateway.json"):
        receiver.clear()
        status, _, report = call(application(receiver), json.loads((ROOT / name).read_text()))
        assert (status, report["outcomes"]["delivered"]) == (200, 2)
        assert len(receiver.points()) == 2


def test_an_empty_report_is_a_success(receiver: Emulator) -> None:
    status, _, report = call(application(receiver), request("[]"))
    assert (status, report["status"], report["received"]) == (200, "empty", 0)


def test_a_partial_success_is_reported_with_every_error(receiver: Emulator) -> None:
    status, _, report = call(application(receiver), request(json.dumps([GOOD, BAD])))
    assert (status, report["status"]) == (207, "partial")
    assert [(error["source"], error["pointer"]) for error in report["errors"]] == [("body", "/1/value")]


def test_undelivered_points_ask_the_client_to_retry(receiver: Emulator) -> None:
    receiver.fault("code", 1003, times=None)
    status, headers, report = call(application(receiver), request(json.dumps([GOOD, BAD])))
    assert (status, headers["Retry-After"]) == (503, str(RETRY_AFTER_S))
    assert report["outcomes"]["undelivered"] == 1


def test_a_request_repeated_with_its_idempotency_key_sends_only_what_is_missing(receiver: Emulator) -> None:
    app = application(receiver)
    event = request(json.dumps([GOOD, {**GOOD, "namespace": "other"}]), Idempotency_Key="k-1")
    receiver.fault("code", 1003, match={"namespace": "other"})
    assert call(app, event)[0] == 503
    status, _, report = call(app, event)
    assert (status, report["outcomes"]["duplicate"], report["outcomes"]["delivered"]) == (200, 1, 1)
    assert call(app, request(BODY, idempotency_KEY="k-2"))[2]["outcomes"]["delivered"] == 1
    assert call(app, request(BODY))[2]["outcomes"]["delivered"] == 1
    assert call(app, request(BODY))[2]["outcomes"]["delivered"] == 1


@pytest.mark.parametrize("write", [json.dumps, lambda body: body], ids=["text", "decoded"])
def test_an_idempotency_key_that_is_reused_for_another_body_hides_nothing(
    receiver: Emulator, write: Callable[[Any], Any]
) -> None:
    app = application(receiver)
    for value in (1, 2):
        event = request(write({**GOOD, "value": value}), Idempotency_Key="k-1")
        assert call(app, event)[2]["outcomes"]["delivered"] == 1
    assert call(app, event)[2]["outcomes"]["duplicate"] == 1


# --- the reply itself ---------------------------------------------------------------------------------------


def report_of(**outcomes: int) -> dict[str, Any]:
    counts = {outcome.value: outcomes.get(outcome.value, 0) for outcome in Outcome}
    received, arrived = sum(counts.values()), counts["delivered"] + counts["duplicate"]
    status = "empty" if not received else "ok" if arrived == received else "partial" if arrived else "failed"
    return {"status": status, "received": received, "outcomes": counts, "errors": [], "errorsOmitted": 0}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({}, 200),
        ({"delivered": 2}, 200),
        ({"duplicate": 2}, 200),
        ({"delivered": 1, "invalid": 1}, 207),
        ({"delivered": 1, "spooled": 1}, 207),
        ({"spooled": 2}, 207),
        ({"spooled": 1, "invalid": 1}, 207),
        ({"uncertain": 1}, 207),
        ({"invalid": 1}, 400),
        ({"stale": 1, "rejected": 1, "invalid": 1}, 400),
        ({"undelivered": 1}, 503),
        ({"delivered": 9, "invalid": 1, "undelivered": 1}, 503),
    ],
    ids=str,
)
def test_the_status_follows_from_the_outcomes(outcomes: dict[str, int], expected: int) -> None:
    assert http_status(report_of(**outcomes)) == expected


def test_a_reply_is_bounded_and_counts_the_errors_it_leaves_out() -> None:
    report = report_of(invalid=20)
    report["errors"] = [{"message": "é" * 2000} for _ in range(20)]
    answer = reply(ReplyTo.HTTP_CLIENT, report)
    body = json.loads(answer["body"])
    assert len(answer["body"].encode()) <= MAX_HTTP_BODY_BYTES
    assert 0 < len(body["errors"]) < 20
    assert body["errorsOmitted"] == 20 - len(body["errors"])
    assert len(report["errors"]) == 20
