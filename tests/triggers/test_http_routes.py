"""A client of this field is pointed at the function by changing its host alone, and its own retry does the right thing."""

import base64
import gzip
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from metric_forwarder.clients.http import HttpReply
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.reporting import protocol_replies, replies
from metric_forwarder.triggers import HttpRefusal, ReplyTo, decode
from metric_forwarder.triggers.decoding import OFFLINE
from metric_forwarder.triggers.http_routes import NoRoute, Route, find_route
from support.harness import ROOT, RemoteWriteHarness, make_remote_write_harness
from support.metric_families import GAUGE, delimited, family
from support.remote_write import encode_series

TOKEN = "sample-token-of-the-docs"
NOW_MS = 1_767_225_600_000


class Sent(NamedTuple):
    """A request: where it goes, what it holds, and a body of which one sample is bad."""

    path: str
    good: bytes
    bad: bytes
    ok_status: int
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}


def otlp(*values: float | None) -> dict[str, Any]:
    points = [
        {"timeUnixNano": str(NOW_MS * 10**6)} | ({} if value is None else {"asDouble": value})
        for value in values
    ]
    metric = {"name": "load", "gauge": {"dataPoints": points}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def otlp_protobuf(*values: float | None) -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="load")
    for value in values:
        point = metric.gauge.data_points.add(time_unix_nano=NOW_MS * 10**6)
        if value is not None:
            point.as_double = value
    data: bytes = request.SerializeToString()
    return data


def remote_write(*labels: list[tuple[str, str]]) -> bytes:
    return compress([encode_series(encode_labels(each), [(1.0, NOW_MS)]) for each in labels])


def families(*values: float | None) -> bytes:
    metrics: list[dict[str, Any]] = [{} if value is None else {"gauge": {"value": value}} for value in values]
    return delimited(family(f"m{number}", GAUGE, metric) for number, metric in enumerate(metrics))


FAMILIES = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"
PROTOBUF = "application/x-protobuf"
SNAPPY = {
    "Content-Type": PROTOBUF,
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
UP, NAMELESS = [("__name__", "up"), ("job", "a")], [("job", "a")]
CLIENTS = {
    "OTLP in JSON": Sent("/v1/metrics", json.dumps(otlp(1)).encode(), json.dumps(otlp(1, None)).encode(), 200, {"Content-Type": "application/json"}),
    "OTLP in protobuf": Sent("/v1/metrics", otlp_protobuf(1), otlp_protobuf(1, None), 200, {"Content-Type": PROTOBUF}),
    "Prometheus": Sent("/api/v1/write", remote_write(UP), remote_write(UP, NAMELESS), 204, SNAPPY),
    "Managed Prometheus": Sent("/api/v1/prom/write", remote_write(UP), remote_write(UP, NAMELESS), 204, SNAPPY),
    "Mimir": Sent("/api/v1/push", remote_write(UP), remote_write(UP, NAMELESS), 204, SNAPPY),
    "InfluxDB 1": Sent("/write", b"cpu usage=1 1767225600000", b"cpu usage=1 1767225600000\ncpu usage=", 204, {}, {"db": "x", "precision": "ms"}),
    "InfluxDB 2": Sent("/api/v2/write", b"cpu usage=1 1767225600", b"cpu usage=1 1767225600\ncpu usage=", 204, {}, {"bucket": "x", "precision": "s"}),
    "Pushgateway": Sent("/metrics/job/backup/instance/a", b"last_run 1\n", b"last_run 1\nlast_run x\n", 200),
    "Pushgateway in Go": Sent("/metrics/job/backup", families(1.0), families(1.0, None), 200, {"Content-Type": f"{FAMILIES}; encoding=delimited"}),
    "import": Sent("/api/v1/import/prometheus", b"last_run 1\n", b"last_run 1\nlast_run x\n", 204),
}  # fmt: skip


def event(
    sent: Sent, body: bytes | None = None, headers: Mapping[str, str] = {}, **more: str
) -> dict[str, Any]:
    return {
        "httpMethod": "POST",
        "path": sent.path,
        "headers": {"Authorization": f"Bearer {TOKEN}", **sent.headers, **headers, **more},
        "queryString": dict(sent.query),
        "body": base64.b64encode(sent.good if body is None else body).decode(),
        "isBase64Encoded": True,
    }


def harness() -> RemoteWriteHarness:
    return make_remote_write_harness(HTTP_TOKEN=TOKEN)


def call(forwarder: RemoteWriteHarness, request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    reply = forwarder.application.handle(request, {"time_limit_in_ms": 9000})
    body = base64.b64decode(reply["body"]) if reply["isBase64Encoded"] else reply["body"].encode()
    return reply["statusCode"], reply["headers"], body


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=list(CLIENTS))
@pytest.mark.parametrize("prefix", ["", "/release"], ids=["no prefix", "prefix"])
def test_each_client_gets_its_samples_delivered_and_the_reply_of_its_protocol(
    sent: Sent, prefix: str
) -> None:
    forwarder = harness()
    status, _, body = call(forwarder, event(sent._replace(path=prefix + sent.path)))
    assert (status, body in (b"", b"{}")) == (sent.ok_status, True)
    assert len(forwarder.prometheus.samples) == 1


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=list(CLIENTS))
def test_a_bad_sample_is_reported_without_a_retry_and_the_good_one_is_delivered(sent: Sent) -> None:
    forwarder = harness()
    status, headers, body = call(forwarder, event(sent, sent.bad))
    assert len(forwarder.prometheus.samples) == 1
    assert "Retry-After" not in headers
    if sent.path != "/v1/metrics":
        assert status == 400
        assert b"1 of 2 points" in body
    elif headers["Content-Type"] == PROTOBUF:
        partial = ExportMetricsServiceResponse.FromString(body).partial_success
        assert (status, partial.rejected_data_points) == (200, 1)
        assert "1 of 2 points" in partial.error_message
    else:
        told = json.loads(body)["partialSuccess"]
        assert (status, told["rejectedDataPoints"]) == (200, "1")


def test_a_data_point_of_otlp_that_is_refused_counts_once_however_many_samples_it_holds() -> None:
    point = {
        "count": 3,
        "bucketCounts": [1, 1, 1],
        "explicitBounds": [1, 2],
        "timeUnixNano": str(NOW_MS * 10**6),
    }
    request = otlp(1)
    request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].append(
        {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [point, point]}}
    )
    sent = CLIENTS["OTLP in JSON"]
    _, _, body = call(harness(), event(sent, json.dumps(request).encode()))
    assert json.loads(body)["partialSuccess"]["rejectedDataPoints"] == "2"


def test_protobuf_for_a_pushgateway_that_is_not_delimited_is_refused_with_the_remedy() -> None:
    headers = {"Content-Type": f"{FAMILIES}; encoding=compact-text"}
    status, _, body = call(harness(), event(CLIENTS["Pushgateway in Go"], headers=headers))
    assert status == 415
    assert b"encoding=delimited" in body


@pytest.mark.parametrize("name", ["Prometheus", "OTLP in protobuf"])
def test_protobuf_that_a_gateway_turned_into_base64_without_saying_so_is_read(name: str) -> None:
    forwarder = harness()
    unsaid = {**event(CLIENTS[name]), "isBase64Encoded": False}
    assert call(forwarder, unsaid)[0] == CLIENTS[name].ok_status
    assert len(forwarder.prometheus.samples) == 1


@pytest.mark.parametrize("name", ["Prometheus", "OTLP in protobuf", "Pushgateway in Go"])
def test_text_for_a_binary_protocol_that_is_no_base64_is_reported_and_raises_nothing(name: str) -> None:
    status, _, _ = call(harness(), {**event(CLIENTS[name]), "body": "no base64!", "isBase64Encoded": False})
    assert status == 400


@pytest.mark.parametrize(("precision", "setting"), [("ns", "s"), ("n", "ms"), ("s", "ns"), ("", "s")])
def test_the_precision_of_a_request_comes_before_that_of_the_settings(precision: str, setting: str) -> None:
    forwarder = make_remote_write_harness(HTTP_TOKEN=TOKEN, INFLUX_PRECISION=setting)
    time_now = NOW_MS // 1000 if "s" in (precision, precision or setting) else NOW_MS * 10**6
    sent = CLIENTS["InfluxDB 2"]._replace(query={"precision": precision} if precision else {})
    assert call(forwarder, event(sent, f"cpu usage=1 {time_now}".encode()))[0] == 204
    assert list(forwarder.prometheus.samples.values()) == [[(NOW_MS, 1.0)]]


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=list(CLIENTS))
def test_undelivered_samples_ask_the_client_to_retry_and_are_then_delivered_once(sent: Sent) -> None:
    forwarder = make_remote_write_harness(HTTP_TOKEN=TOKEN, MAX_ATTEMPTS="1")
    forwarder.prometheus.script.append(HttpReply(500, {}, b""))
    status, headers, _ = call(forwarder, event(sent))
    assert (status, "Retry-After" in headers) == (503, True)
    forwarder.clock.sleep(60)
    for _ in range(2):
        assert call(forwarder, event(sent))[0] == sent.ok_status


def test_an_exporter_of_otlp_is_asked_back_well_before_it_gives_up_after_ten_seconds() -> None:
    for name in ("OTLP in JSON", "OTLP in protobuf"):
        forwarder = make_remote_write_harness(HTTP_TOKEN=TOKEN, MAX_ATTEMPTS="1")
        forwarder.prometheus.script.append(HttpReply(500, {}, b""))
        _, headers, _ = call(forwarder, event(CLIENTS[name]))
        assert headers["Retry-After"] == "2"


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=list(CLIENTS))
def test_a_body_compressed_with_gzip_is_the_same_body(sent: Sent) -> None:
    if sent.headers.get("Content-Encoding") == "snappy":
        return
    forwarder = harness()
    compressed = event(sent, gzip.compress(sent.good), {"Content-Encoding": "gzip"})
    assert call(forwarder, compressed)[0] == sent.ok_status
    assert len(forwarder.prometheus.samples) == 1


def test_remote_write_without_snappy_is_taken_as_fluent_bit_sends_it() -> None:
    plain = bytes(cramjam.snappy.decompress_raw(CLIENTS["Prometheus"].good))
    sent = CLIENTS["Prometheus"]._replace(headers={"Content-Type": PROTOBUF})
    forwarder = harness()
    assert call(forwarder, event(sent, plain))[0] == 204
    assert call(forwarder, event(sent, gzip.compress(plain), {"Content-Encoding": "gzip"}))[0] == 204
    assert len(forwarder.prometheus.samples) == 1
    assert call(forwarder, event(sent, b"m,a=b v=1234"))[0] == 400


def zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data))


ZSTD = {"Content-Encoding": "zstd"}


@pytest.mark.parametrize("sent", CLIENTS.values(), ids=list(CLIENTS))
def test_a_body_compressed_with_zstd_is_the_same_body(sent: Sent) -> None:
    # Instead of snappy, as vmagent does, not around it.
    is_snappy = sent.headers.get("Content-Encoding") == "snappy"
    content = bytes(cramjam.snappy.decompress_raw(sent.good)) if is_snappy else sent.good
    forwarder = harness()
    as_text = {**event(sent, headers=ZSTD), "body": zstd(content).decode("latin-1"), "isBase64Encoded": False}
    assert call(forwarder, as_text)[0] == sent.ok_status
    # A gateway may have decompressed it on the way; then it repeats itself.
    for body in (zstd(content), zstd(content[:1]) + zstd(content[1:]), content):
        assert call(forwarder, event(sent, body, ZSTD))[0] == sent.ok_status
    assert len(forwarder.prometheus.samples) == 1


INFLUX = CLIENTS["InfluxDB 1"]


@pytest.mark.parametrize(
    ("sent", "make", "status", "words"),
    [
        (INFLUX, lambda: zstd(bytes(200 * 2**20)), 413, b"holds more than 6 MB"),
        (INFLUX, lambda: zstd(bytes(6 * 2**20 + 1)), 413, b"holds more than 6 MB"),
        (CLIENTS["Prometheus"], lambda: zstd(bytes(200 * 2**20)), 413, b"holds more than 32 MB"),
        (INFLUX, lambda: zstd(INFLUX.good)[:-3], 400, b"is not intact zstd data"),
        (INFLUX, lambda: zstd(INFLUX.good) + b"rubbish", 400, b"is not intact zstd data"),
        # A frame that asks for a window of two gigabytes, and holds a block that says to be three times as long as it may.
        (INFLUX, lambda: b"\x28\xb5\x2f\xfd\x00\xa8" + b"\xff" * 8, 400, b"is not intact zstd data"),
    ],
    ids=["bomb", "a byte too many", "bomb for remote write", "cut off", "rubbish behind", "huge window"],
)
def test_zstd_that_holds_too_much_or_is_damaged_is_refused_for_little_work(
    sent: Sent, make: Callable[[], bytes], status: int, words: bytes
) -> None:
    forwarder = harness()
    request = event(sent, make(), ZSTD)
    call(forwarder, event(INFLUX, b"", ZSTD))
    tracemalloc.start()
    began = time.process_time()
    try:
        found = call(forwarder, request)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1
    assert (found[0], words in found[2]) == (status, True)
    assert peak < 40 * 2**20
    assert forwarder.prometheus.samples == {}


WITHOUT_CRAMJAM = """
import json, sys
sys.modules["cramjam"] = None
from metric_forwarder.triggers import decode
from metric_forwarder.triggers.decoding import OFFLINE
refusal = decode(json.loads(sys.argv[1]), OFFLINE)
print(json.dumps([refusal.status, refusal.reason, refusal.headers]))
"""


def test_without_its_package_zstd_is_refused_with_the_remedy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CRAMJAM, json.dumps(event(INFLUX, headers=ZSTD))],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    status, reason, headers = json.loads(done.stdout)
    assert (status, headers) == (415, {"Accept-Encoding": "gzip"})
    assert "Content-Encoding zstd needs the package cramjam" in reason
    assert "make package EXTRAS=remote-write" in reason
    assert reason.endswith("or send gzip")


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "is_let_in"),
    [
        (f"Bearer {TOKEN}", True),
        (f"Token {TOKEN}", True),
        (f"bearer   {TOKEN}", True),
        (basic("", TOKEN), True),
        (basic("1250000000", TOKEN), True),
        (basic(TOKEN, ""), False),
        (basic("a", f"{TOKEN}x"), False),
        (basic("a", f"b:{TOKEN}"), False),
        ("Basic ***", False),
        ("Basic", False),
        (f"Digest {TOKEN}", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("", False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_token_comes_as_a_bearer_as_influxdbs_or_as_a_password(
    authorization: str, *, is_let_in: bool
) -> None:
    status, _, _ = call(harness(), event(CLIENTS["InfluxDB 2"], Authorization=authorization))
    assert status == (204 if is_let_in else 401)


@pytest.mark.parametrize(
    ("sent", "headers", "status"),
    [
        (CLIENTS["Prometheus"], {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, 415),
        (CLIENTS["Prometheus"], {"X-Prometheus-Remote-Write-Version": "2.0.0"}, 415),
        (CLIENTS["OTLP in JSON"], {"Content-Type": "text/plain"}, 415),
        (CLIENTS["OTLP in JSON"], {"Content-Type": "application/json; charset=utf-8"}, 200),
        (CLIENTS["InfluxDB 1"], {"Content-Encoding": "snappy"}, 415),
        (CLIENTS["InfluxDB 1"]._replace(query={"precision": "week"}), {}, 400),
        (CLIENTS["Pushgateway"]._replace(path="/metrics/job/a/b"), {}, 400),
        (CLIENTS["Pushgateway"]._replace(path="/metrics/job@base64/*"), {}, 400),
        (CLIENTS["Pushgateway"]._replace(path="/metrics/job/%ED%A0%80"), {}, 400),
    ],
)  # fmt: skip
def test_a_request_that_breaks_its_protocol_is_rejected(
    sent: Sent, headers: dict[str, str], status: int
) -> None:
    assert call(harness(), event(sent, headers=headers))[0] == status


def test_a_body_that_is_not_otlp_is_a_bad_request() -> None:
    for name in ("OTLP in JSON", "OTLP in protobuf"):
        assert call(harness(), event(CLIENTS[name], b"\xff\xff{"))[0] == 400


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/metrics/job/a", {"job": "a"}),
        ("/metrics/job/a/", {"job": "a"}),
        ("/release/metrics/job/a/instance/b", {"job": "a", "instance": "b"}),
        ("/metrics/job/my%20job", {"job": "my job"}),
        ("/metrics/job%40base64/YS9i/path/c%2Fd%2541", {"job": "a/b", "path": "c/d%41"}),
        ("/metrics/job@base64/YS9i/path@base64/Lw", {"job": "a/b", "path": "/"}),
        ("/metrics/job/a/empty@base64/=", {"job": "a", "empty": ""}),
        ("/metrics/job/disk/op/write", {"job": "disk", "op": "write"}),
        ("/metrics/job@base64/YQ/path/api/v2/write", {"job": "a", "path": "api", "v2": "write"}),
    ],
)
def test_the_labels_of_a_pushgateways_path_join_each_sample(path: str, labels: dict[str, str]) -> None:
    route = find_route({"path": path, "headers": {}}, "")
    assert isinstance(route, Route)
    assert route.hint.labels == labels


@pytest.mark.parametrize("name", ["OTLP in protobuf", "InfluxDB 1", "InfluxDB 2", "Pushgateway", "import"])
@pytest.mark.parametrize("body", [None, ""], ids=["missing", "empty"])
def test_a_body_that_was_lost_on_the_way_is_not_taken_for_an_empty_one(name: str, body: str | None) -> None:
    sent = CLIENTS[name]
    lost = {**event(sent, None, {"Content-Length": "120"}), "body": body, "isBase64Encoded": False}
    status, _, text = call(harness(), lost)
    assert (status, b"lost on the way" in text) == (400, True)
    assert call(harness(), {**event(sent), "body": body})[0] == sent.ok_status


def test_any_other_path_is_answered_with_the_report() -> None:
    for path in ("/", "/metrics", "/v1/metric", "/writes", "/api/v1/query", None, 7, "x" * 10_000):
        assert find_route({"path": path, "headers": {}}, "application/json") is None


@given(path=st.text() | st.text(alphabet="/job@base64=Aa%").map(lambda text: f"/metrics/job/{text}"), query=st.dictionaries(st.text(), st.text()) | st.just({"precision": ["x"]}))  # fmt: skip
def test_finding_a_route_never_raises(path: str, query: Any) -> None:
    assert isinstance(
        find_route({"path": path, "headers": {}, "queryString": query}, ""), (Route, NoRoute, type(None))
    )


def test_no_path_is_open_to_a_client_without_the_token() -> None:
    for sent in CLIENTS.values():
        request = event(sent, Authorization="Bearer wrong")
        assert call(harness(), request)[0] == 401
        assert not isinstance(decode(request, OFFLINE), HttpRefusal)


def test_the_document_has_every_path() -> None:
    page = (ROOT / "docs" / "triggers.md").read_text("utf-8")
    for sent in CLIENTS.values():
        path = "/metrics/job/" if sent.path.startswith("/metrics") else sent.path
        assert f"`{path}" in page, path


def test_every_protocol_has_its_reply() -> None:
    assert set(ReplyTo) == {*replies._REPLIES, *protocol_replies._PROTOCOLS}


@pytest.mark.parametrize(
    ("content_type", "body", "time_ms"),
    [
        # By its shape alone this would be Prometheus text, whose times are milliseconds.
        ("application/openmetrics-text; version=1.0.0", b"up 1 1767225600.5\n# EOF\n", NOW_MS + 500),
        ("text/plain; version=0.0.4", b"up 1 1767225600500\n", NOW_MS + 500),
        # The unit of its time is that of the setting.
        ("application/vnd.influx.line-protocol", b"up value=1 1767225600", NOW_MS),
    ],
)
def test_on_any_other_path_a_content_type_tells_the_format(
    content_type: str, body: bytes, time_ms: int
) -> None:
    forwarder = make_remote_write_harness(HTTP_TOKEN=TOKEN, INFLUX_PRECISION="s", NAMESPACE="")
    request = event(Sent("/anything", body, b"", 200), headers={"Content-Type": content_type})
    assert call(forwarder, request)[0] == 200
    (samples,) = forwarder.prometheus.samples.values()
    assert [at for at, _ in samples] == [time_ms]
