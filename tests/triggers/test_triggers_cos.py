"""Objects in COS are fetched with a signature that COS accepts, read as they come, and never lost in silence."""

import gzip
import hashlib
import hmac
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.cos import ENDPOINT, CosObjects, RoleCredentials, authorization
from metric_forwarder.clients.http import HttpTransport
from metric_forwarder.clock import Deadline, SystemClock
from metric_forwarder.errors import ConfigError, DeliveryIncomplete
from metric_forwarder.model import Message
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings
from metric_forwarder.triggers import Decoded, decode
from metric_forwarder.triggers.cos import MAX_LINES, MAX_OBJECT_BYTES
from metric_forwarder.triggers.decoding import OFFLINE, ObjectName, StoredObject, Unreadable
from receiver_emulator import EXAMPLE_SECRET_ID, EXAMPLE_SECRET_KEY, Emulator
from support.fakes import FakeClock, InProcessReceiver
from support.harness import CONTEXT, environ, outcomes, report_of
from support.patience import ends_within

ROLE = {
    "TENCENTCLOUD_SECRETID": "AKIDrole",
    "TENCENTCLOUD_SECRETKEY": "the-roles-key",
    "TENCENTCLOUD_SESSIONTOKEN": "token/with+signs==",
}
EVENT = json.loads((Path(__file__).parents[1] / "events" / "cos.json").read_text())
POINT = {"namespace": "pc", "metricName": "cpuload", "dimensions": {"ip": "10.0.0.1"}, "value": 1}
LINE = json.dumps(POINT).encode()
Respond = Callable[["BucketHandler"], None]


# --- a bucket on a real socket, which checks signatures by itself --------------------------------------------


@dataclass
class Bucket:
    """What the server holds, and what it was asked."""

    objects: dict[str, bytes] = field(default_factory=dict)
    responses: dict[str, Respond] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    written: float = 1_772_443_800.0
    url: str = ""


def signature_error(handler: "BucketHandler", path: str) -> str | None:
    """Check a request as COS's document of its signature says, step by step."""
    given_fields = dict(part.split("=", 1) for part in handler.headers["Authorization"].split("&"))
    start, end = map(int, given_fields["q-key-time"].split(";"))
    if given_fields["q-ak"] != ROLE["TENCENTCLOUD_SECRETID"] or not start <= time.time() <= end:
        return "key or time"
    if handler.headers["x-cos-security-token"] != ROLE["TENCENTCLOUD_SESSIONTOKEN"]:
        return "token"
    names = given_fields["q-header-list"].split(";")
    if not {"host", "x-cos-security-token"} <= set(names) or names != sorted(names):
        return "header list"
    signed = "&".join(f"{name}={quote(handler.headers[name], safe='')}" for name in names)
    http_string = f"{handler.command.lower()}\n{path}\n\n{signed}\n"
    string_to_sign = "\n".join(
        ["sha1", given_fields["q-sign-time"], hashlib.sha1(http_string.encode()).hexdigest(), ""]  # noqa: S324
    )
    secret = ROLE["TENCENTCLOUD_SECRETKEY"].encode()
    sign_key = hmac.digest(secret, given_fields["q-key-time"].encode(), "sha1").hex()
    expected = hmac.digest(sign_key.encode(), string_to_sign.encode(), "sha1").hex()
    return None if given_fields["q-signature"] == expected else "signature"


class BucketHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.bucket.asked.append(path)
        error = signature_error(self, path)
        if error is not None:
            self.bucket.refused.append(error)
            self.answer(403)
        elif path in self.bucket.responses:
            self.bucket.responses[path](self)
        elif path in self.bucket.objects:
            self.answer(200, self.bucket.objects[path])
        else:
            self.answer(404)

    def answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')  # noqa: S324 - as COS does
        self.send_header("Last-Modified", formatdate(self.bucket.written, usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


class BucketServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: several tests are about that."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    held = Bucket()
    handler = type("Handler", (BucketHandler,), {"bucket": held})
    server = BucketServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_port}"
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


def objects(bucket: Bucket, role: dict[str, str] | None = None) -> CosObjects:
    environ = ROLE if role is None else role
    return CosObjects(lambda: RoleCredentials.read(environ), HttpTransport, time.time, endpoint=bucket.url)


def event(key: str = "hosts/a.json", name: str = "cos:ObjectCreated:Put", **changes: Any) -> dict[str, Any]:
    cos_object = {"key": f"/1250000000/metrics/{key}", "size": 10, **changes.pop("cosObject", {})}
    cos_bucket = {"name": "metrics", "appid": "1250000000", "region": "gz", **changes.pop("cosBucket", {})}
    inner = {"eventName": name, "eventTime": 1772443800, **changes.pop("event", {})}
    return {
        "Records": [{"cos": {"cosObject": cos_object, "cosBucket": cos_bucket, **changes}, "event": inner}]
    }


def read(source: Any, trigger_event: Any, seconds: float = 5) -> list[Message]:
    clock = SystemClock()
    deadline = Deadline(clock, clock.monotonic() + seconds)
    decoded = decode(trigger_event, OFFLINE._replace(objects=source, deadline=deadline))
    assert isinstance(decoded, Decoded)
    return list(decoded.messages)


# --- the signature ------------------------------------------------------------------------------------------

DOCUMENTED = {
    "secret_id": "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q",
    "secret_key": "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz",
}


def test_the_signature_is_that_of_the_documents_download_example() -> None:
    signed = authorization(
        "GET",
        "/exampleobject(腾讯云)",
        {
            "Date": "Thu, 16 May 2019 06:55:53 GMT",
            "Host": "examplebucket-1250000000.cos.ap-beijing.myqcloud.com",
        },
        key_time="1557989753;1557996953",
        parameters={
            "response-content-type": "application/octet-stream",
            "response-cache-control": "max-age=600",
        },
        **DOCUMENTED,
    )
    assert signed == (
        "q-sign-algorithm=sha1&q-ak=AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q&q-sign-time=1557989753;1557996953"
        "&q-key-time=1557989753;1557996953&q-header-list=date;host"
        "&q-url-param-list=response-cache-control;response-content-type"
        "&q-signature=01681b8c9d798a678e43b685a9f1bba0f6c0e012"
    )


def test_without_a_token_there_is_no_token_to_sign_and_secrets_do_not_print() -> None:
    environ = {name: value for name, value in ROLE.items() if "TOKEN" not in name}
    role = RoleCredentials.read(environ)
    assert role == RoleCredentials("AKIDrole", Secret("the-roles-key"), Secret(""))
    assert "the-roles-key" not in repr(role)


@pytest.mark.parametrize(
    "key",
    ["a.json", "a b+c%d.json", "日志/ä.json", "!!!!!!!", "a~b_c-d.(1)'*.json", "a//b.json", "x?y#z&w=1"],
)
def test_an_object_is_fetched_whatever_its_key_is_made_of(bucket: Bucket, key: str) -> None:
    bucket.objects[f"/{key}"] = LINE
    (message,) = read(objects(bucket), event(key))
    assert bucket.refused == []
    assert message.body == LINE
    assert message.source == f"metrics-1250000000/{key}:1"
    assert message.time_ms == 1772443800000


@pytest.mark.parametrize("missing", ["TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY"])
def test_without_a_role_an_object_waits_for_one(bucket: Bucket, missing: str) -> None:
    (message,) = read(objects(bucket, {**ROLE, missing: ""}), event())
    assert message.retriable
    assert "give the function a role" in str(message.broken)
    assert bucket.asked == []


def test_a_role_that_was_refreshed_is_used_at_once(bucket: Bucket) -> None:
    environ = {**ROLE, "TENCENTCLOUD_SESSIONTOKEN": "expired"}
    source = objects(bucket, environ)
    bucket.objects["/hosts/a.json"] = LINE
    assert read(source, event())[0].retriable
    environ.update(ROLE)
    assert read(source, event())[0].body == LINE


# --- where an object is -------------------------------------------------------------------------------------


class Recorder:
    """Notes what it is asked for; holds one line."""

    def __init__(self, content: bytes = LINE) -> None:
        self.content = content
        self.asked: list[ObjectName] = []
        self.closed = 0

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        del deadline
        self.asked.append(name)
        return StoredObject("v1", iter([self.content]), self._close)

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("metrics-1250000000", "ap-guangzhou", "hosts/a.json")),
        ({"cosBucket": {"appid": 1250000000}}, ("metrics-1250000000", "ap-guangzhou", "hosts/a.json")),
        ({"cosBucket": {"region": "ap-guangzhou"}}, ("metrics-1250000000", "ap-guangzhou", "hosts/a.json")),
        ({"cosBucket": {"cosRegion": "ap-nanjing"}}, ("metrics-1250000000", "ap-nanjing", "hosts/a.json")),
        ({"cosObject": {"key": "/a.json"}}, ("metrics-1250000000", "ap-guangzhou", "a.json")),
        ({"cosObject": {"key": "a.json"}}, ("metrics-1250000000", "ap-guangzhou", "a.json")),
        ({"cosObject": {"size": "1024"}}, ("metrics-1250000000", "ap-guangzhou", "hosts/a.json")),
        (
            {"cosObject": {"key": "/1250000000/metrics/1250000000/metrics/x"}},
            ("metrics-1250000000", "ap-guangzhou", "1250000000/metrics/x"),
        ),
    ],
    ids=[
        "documented",
        "number",
        "full name",
        "newer",
        "template",
        "bare",
        "size as text",
        "key like its prefix",
    ],
)
def test_an_object_is_looked_for_where_the_event_says(
    changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    source = Recorder()
    read(source, event(**changes))
    assert source.asked == [expected]
    assert source.closed == 1


def test_the_host_is_that_of_the_bucket_in_its_region() -> None:
    assert ENDPOINT.format(bucket="b-1", region="ap-guangzhou") == "https://b-1.cos.ap-guangzhou.myqcloud.com"


@pytest.mark.parametrize(
    "changes",
    [
        {"cosBucket": {"region": "nowhere"}},
        {"cosBucket": {"region": "ap-x.evil.example/"}},
        {"cosBucket": {"region": None}},
        {"cosBucket": {"name": "evil.example/x"}},
        {"cosBucket": {"name": ""}},
        {"cosBucket": {"appid": "1.evil.example"}},
        {"cosObject": {"key": ""}},
        {"cosObject": {"key": "//"}},
        {"cosObject": {"key": 7}},
        {"cosObject": {"key": "\ud800"}},
        {"event": {"eventName": None}},
    ],
    ids=ascii,
)
def test_an_event_that_names_no_object_is_one_broken_message_and_nothing_is_asked(
    changes: dict[str, Any],
) -> None:
    source = Recorder()
    (message,) = read(source, event(**changes))
    assert message.broken
    assert not message.retriable
    assert source.asked == []


@pytest.mark.parametrize(
    "name",
    [
        *("cos:ObjectRemove:Delete", "cos: ObjectRemove:Delete", "cos:ObjectRemove:DeleteMarkerCreated"),
        *("cos:ObjectRestore:Completed", "cos:ReplicationStarted", "something else"),
    ],
)
def test_any_event_but_a_creation_is_empty(name: str) -> None:
    source = Recorder()
    assert read(source, event(name=name)) == []
    assert source.asked == []


@pytest.mark.parametrize(
    "name",
    ["cos:ObjectCreated:Put", "cos:ObjectCreated:*", "cos:ObjectCreated:Copy", "cos: ObjectCreated:Post"],
)
def test_every_creation_is_fetched(name: str) -> None:
    assert [message.body for message in read(Recorder(), event(name=name))] == [LINE]


# --- what an object holds -----------------------------------------------------------------------------------


def pretty(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b" \n\n", []),
        (LINE, [(":1", LINE)]),
        (LINE + b"\n", [(":1", LINE)]),
        (LINE + b"\r\n\r\n" + LINE, [(":1", LINE + b"\r"), (":3", LINE)]),
        (b"\xef\xbb\xbf" + LINE + b"\n" + LINE, [(":1", b"\xef\xbb\xbf" + LINE), (":2", LINE)]),
        (LINE + b"\n{broken\n" + LINE, [(":1", LINE), (":2", b"{broken"), (":3", LINE)]),
        (b"{broken\n" + LINE, [(":1", b"{broken"), (":2", LINE)]),
        (pretty([POINT, POINT]), [("", pretty([POINT, POINT]))]),
        (pretty(POINT), [("", pretty(POINT))]),
        (pretty(POINT)[:-2], [("", pretty(POINT)[:-2])]),
        (b"no json", [("", b"no json")]),
    ],
    ids=[
        *("empty", "blank", "one line", "a line end", "blank lines", "byte order mark", "a broken line"),
        *("a broken first line", "a list over lines", "a point over lines", "cut off", "no JSON"),
    ],
)
def test_an_object_is_json_or_json_lines_as_it_is_or_as_gzip(
    content: bytes, expected: list[tuple[str, bytes]], pack: Callable[[bytes], bytes]
) -> None:
    found = read(Recorder(pack(content)), event())
    where = "metrics-1250000000/hosts/a.json"
    assert [(message.source, message.body) for message in found] == [
        (where + at, body) for at, body in expected
    ]
    coordinates = [message.coordinates for message in found]
    assert None not in coordinates
    assert len(set(coordinates)) == len(expected)


OPEN_METRICS = b"# TYPE up gauge\nup 1 1767225600.5\n# EOF\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "content",
    [
        OPEN_METRICS,
        b"\n\n" + OPEN_METRICS,
        b"cpu value=1 1\n" + LINE + b"\ncpu value=2 2\n",
        b"# nothing\n" * (MAX_LINES + 1) + OPEN_METRICS,
        b"\n\x05\x12\x03\x12\x01\n",
        b"\n{\x12\x79\n",
    ],
    ids=["OpenMetrics", "blank lines", "a line of JSON", "many lines", "binary", "binary like JSON"],
)
def test_an_object_of_another_format_is_one_message_as_it_stands(
    content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    found = read(Recorder(pack(content)), event())
    assert [(message.source, message.body) for message in found] == [
        ("metrics-1250000000/hosts/a.json", content)
    ]
    assert found == read(Recorder(pack(content)), event()), "it has the same identity when it comes again"
    assert found[0].coordinates is not None


def test_lines_of_an_object_of_text_are_named_by_their_number_in_the_object() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    broken = b"\n\n" + LINE.replace(b"{", b"x") + b"\nup 1\nup{ 1\n"
    app = Application(environ(FORMAT="prometheus-text"), clock, lambda: receiver, Recorder(broken))
    report = report_of(app, event(), context={"time_limit_in_ms": 9000, **OWN})
    assert [error["pointer"] for error in report["errors"]] == ["line 3", "line 5"]
    assert outcomes(report) == {"delivered": 1, "invalid": 2}
    assert outcomes(report_of(app, event(), context={"time_limit_in_ms": 9000, **OWN})) == {
        "duplicate": 1,
        "invalid": 2,
    }


@given(
    lines=st.lists(st.sampled_from([LINE, b"", b"{}", b"[1]", b'"x"', b"{broken", b"\xff"]), max_size=8),
    cuts=st.lists(st.integers(0, 600), max_size=6),
    pack=st.sampled_from([bytes, gzip.compress]),
)
def test_how_an_object_is_cut_into_chunks_changes_nothing(
    lines: list[bytes], cuts: list[int], pack: Callable[[bytes], bytes]
) -> None:
    content = b"\n".join(lines)
    stored = pack(content)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stored)), len(stored)]

    class InPieces(Recorder):
        def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
            pieces = [stored[a:b] for a, b in pairwise(edges) if a < b]
            return super().open(name, deadline)._replace(chunks=iter(pieces))

    assert read(InPieces(), event()) == read(Recorder(content), event())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_object_may_come_byte_by_byte(pack: Callable[[bytes], bytes]) -> None:
    class ByteByByte(Recorder):
        def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
            pieces = (bytes([byte]) for byte in self.content)
            return super().open(name, deadline)._replace(chunks=pieces)

    found = read(ByteByByte(pack(LINE + b"\n" + LINE)), event())
    assert [message.body for message in found] == [LINE, LINE]


def test_gzip_of_several_members_is_read_to_its_end() -> None:
    content = gzip.compress(LINE + b"\n") + gzip.compress(LINE)
    assert [message.body for message in read(Recorder(content), event())] == [LINE, LINE]


@pytest.mark.parametrize("padding", [1, 511, 10_000])
def test_gzip_may_be_padded_with_zeros(padding: int) -> None:
    content = gzip.compress(LINE + b"\n") + bytes(padding) + gzip.compress(LINE) + bytes(padding)
    assert [message.body for message in read(Recorder(content), event())] == [LINE, LINE]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(LINE)[:-9], "is gzip data that stops too early: it was cut off"),
        (gzip.compress(LINE)[:-8] + bytes(8), "is not intact gzip data: compress it again"),
        (gzip.compress(LINE) + b"rubbish", "is not intact gzip data: compress it again"),
    ],
    ids=["cut off", "damaged", "followed by something"],
)
def test_damaged_gzip_is_reported_after_what_could_be_read(content: bytes, reason: str) -> None:
    last = read(Recorder(content), event())[-1]
    assert (last.broken, last.retriable) == (reason, False)


def test_a_bomb_is_given_up_at_the_bound_after_a_small_part_of_it() -> None:
    bomb = gzip.compress(bytes(4 * MAX_OBJECT_BYTES), 9)
    (message,) = read(Recorder(bomb), event())
    assert message.broken == "holds more than 8 MB: split it"


def test_an_object_whose_event_says_that_it_is_too_large_is_not_requested() -> None:
    source = Recorder()
    (message,) = read(source, event(cosObject={"size": MAX_OBJECT_BYTES + 1}))
    assert (message.broken, message.retriable) == ("holds more than 8 MB: split it", False)
    assert source.asked == []


@pytest.mark.parametrize(
    ("content", "chosen", "delivered"),
    [
        (b'{"q.x",a="b"} 2\n{"q.x",a="c"} 3\nm 1\n', "auto", 3),
        (b'{ "q.x" } 2\n', "auto", 1),
        (b'{"q.x"} 2\n# {"a":1}\n', "prometheus-text", 1),
        (b"{host} v=1\n{host},a=b v=2\n", "influx", 2),
        (b"[host] v=1\n", "influx", 1),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_text_of_another_format_may_begin_with_a_bracket(
    pack: Callable[[bytes], bytes], content: bytes, chosen: str, delivered: int
) -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    settings = environ(FORMAT=chosen)
    application = Application(settings, clock, lambda: receiver, Recorder(pack(content)))
    assert outcomes(report_of(application, event())) == {"delivered": delivered}


# --- what can go wrong on the way ---------------------------------------------------------------------------


def test_an_object_that_is_gone_is_invalid_and_says_so(bucket: Bucket) -> None:
    (message,) = read(objects(bucket), event())
    assert not message.retriable
    assert "HTTP 404" in str(message.broken)


@pytest.mark.parametrize("status", [301, 400, 403, 429, 500, 503])
def test_an_object_that_is_refused_waits_and_the_reason_is_reported(bucket: Bucket, status: int) -> None:
    bucket.responses["/hosts/a.json"] = lambda handler: handler.answer(status, b"<Error>AKIDrole</Error>")
    (message,) = read(objects(bucket), event())
    assert message.retriable
    assert f"HTTP {status}" in str(message.broken)
    assert "AKID" not in str(message.broken)


def test_an_object_whose_length_is_over_the_bound_is_not_read(bucket: Bucket) -> None:
    bucket.responses["/hosts/a.json"] = lambda handler: handler.answer(200, b"x", length=MAX_OBJECT_BYTES + 1)
    (message,) = read(objects(bucket), event())
    assert (message.broken, message.retriable) == ("holds more than 8 MB: split it", False)


def test_an_object_that_breaks_off_gives_its_lines_and_waits_for_the_rest(bucket: Bucket) -> None:
    def break_off(handler: BucketHandler) -> None:
        handler.answer(200, LINE + b"\n" + LINE + b"\n" + LINE, length=10_000)
        handler.connection.shutdown(socket.SHUT_RDWR)

    bucket.responses["/hosts/a.json"] = break_off
    *whole, last = read(objects(bucket), event())
    assert [message.body for message in whole] == [LINE, LINE]
    assert last.retriable
    assert "broke off" in str(last.broken)


def test_an_object_that_never_comes_is_waited_for_no_longer_than_allowed(bucket: Bucket) -> None:
    over = threading.Event()

    def hang(_: BucketHandler) -> None:
        over.wait(60)

    bucket.responses["/hosts/a.json"] = hang
    with ends_within(2):
        (message,) = read(objects(bucket), event(), seconds=0.2)
    over.set()
    assert message.retriable
    assert "no answer in time" in str(message.broken)


@pytest.mark.slow
def test_an_object_that_trickles_is_waited_for_no_longer_than_allowed(bucket: Bucket) -> None:
    over = threading.Event()

    def trickle(handler: BucketHandler) -> None:
        handler.answer(200, b"", length=1000)
        while not over.wait(0.02):
            handler.wfile.write(b" ")

    bucket.responses["/hosts/a.json"] = trickle
    with ends_within(2):
        (message,) = read(objects(bucket), event(), seconds=0.3)
    over.set()
    assert message.retriable


def test_without_time_left_nothing_is_asked(bucket: Bucket) -> None:
    (message,) = read(objects(bucket), event(), seconds=0)
    assert message.retriable
    assert bucket.asked == []


def test_where_nothing_listens_the_object_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (message,) = read(objects(Bucket(url=f"http://127.0.0.1:{port}")), event())
    assert message.retriable
    assert "ConnectionRefusedError" in str(message.broken)


def test_a_large_object_given_up_half_way_leaves_no_thread_behind(bucket: Bucket) -> None:
    written = threading.Event()

    def write(handler: BucketHandler) -> None:
        handler.answer(200, bytes(2**20))
        written.set()

    bucket.responses["/hosts/a.json"] = write
    before = set(threading.enumerate())
    clock = SystemClock()
    deadline = Deadline(clock, clock.monotonic() + 30)
    stored = objects(bucket).open(ObjectName("metrics-1250000000", "ap-guangzhou", "hosts/a.json"), deadline)
    next(stored.chunks)
    (reader,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "download")
    # It has read ahead as far as it may, and waits for somebody to take what it has.
    assert written.wait(30)
    reader.join(0.1)
    assert reader.is_alive()
    stored.close()
    reader.join(30)
    assert not reader.is_alive()


# --- end to end ---------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def application(receiver: Emulator, bucket: Bucket, **more: str) -> Application:
    environ = {
        **more,
        "MF_RECEIVER_URL": receiver.url,
        "MF_SECRET_ID": EXAMPLE_SECRET_ID,
        "MF_SECRET_KEY": EXAMPLE_SECRET_KEY,
        "MF_REGION": "gz",
    }
    return Application(environ, objects=objects(bucket))


def test_created_objects_are_delivered_once_each_and_the_uploaders_signature_appears_nowhere(
    receiver: Emulator, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.objects["/hosts/2026-03-02.jsonl"] = LINE + b"\n" + LINE
    bucket.objects["/hosts/2026-03-02.json.gz"] = gzip.compress(json.dumps([POINT, {"value": 1}]).encode())
    app = application(receiver, bucket)
    report = app.handle(EVENT, CONTEXT)
    assert (report["trigger"], report["status"], report["received"]) == ("cos", "partial", 4)
    assert len(receiver.points()) == 3
    assert app.handle(EVENT, CONTEXT)["outcomes"]["duplicate"] == 3
    printed = capsys.readouterr().out
    for secret in ("uploaders-signature", "AKIDuploader", "AKIDrole", "the-roles-key", "token/with"):
        assert secret not in printed


def test_the_same_content_uploaded_again_later_is_new(receiver: Emulator, bucket: Bucket) -> None:
    bucket.objects["/hosts/a.json"] = LINE
    app = application(receiver, bucket)
    assert app.handle(event(), CONTEXT)["outcomes"]["delivered"] == 1
    bucket.written += 60
    assert app.handle(event(), CONTEXT)["outcomes"]["delivered"] == 1


def test_an_unfetchable_object_makes_the_platform_redeliver_and_the_others_are_not_sent_twice(
    receiver: Emulator, bucket: Bucket
) -> None:
    bucket.objects["/hosts/2026-03-02.jsonl"] = LINE
    bucket.responses["/hosts/2026-03-02.json.gz"] = lambda handler: handler.answer(503)
    app = application(receiver, bucket)
    with pytest.raises(DeliveryIncomplete) as raised:
        app.handle(EVENT, CONTEXT)
    report = raised.value.report
    assert (report["outcomes"]["delivered"], report["outcomes"]["undelivered"]) == (1, 1)
    (error,) = report["errors"]
    assert error["source"] == "metrics-1250000000/hosts/2026-03-02.json.gz"
    assert re.search("HTTP 503", error["message"])
    bucket.responses.clear()
    bucket.objects["/hosts/2026-03-02.json.gz"] = gzip.compress(LINE)
    again = app.handle(EVENT, CONTEXT)["outcomes"]
    assert (again["duplicate"], again["delivered"]) == (1, 1)
    assert len(receiver.points()) == 2


class Endless(Recorder):
    """Objects of one line, but for one of which there is always more to come."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def open(self, name: ObjectName, deadline: Deadline) -> StoredObject:
        stored = super().open(name, deadline)
        return stored._replace(chunks=self._chunks(deadline)) if name.key == "endless.json" else stored

    def _chunks(self, deadline: Deadline) -> Iterator[bytes]:
        while deadline.remaining() > 0:
            self._clock.sleep(0.1)
            yield b" "
        raise Unreadable("could not be fetched this time", retriable=True)


def test_an_object_that_never_ends_leaves_time_to_deliver_the_others() -> None:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    app = Application(environ(), clock, lambda: receiver, Endless(clock))
    both = {"Records": event("a.json")["Records"] + event("endless.json")["Records"]}
    report = report_of(app, both, 11_000)
    assert outcomes(report) == {"delivered": 1, "undelivered": 1}
    # Of the ten seconds there are.
    assert clock.monotonic() == pytest.approx(5, abs=0.2)


def test_an_unfetchable_object_raises_even_with_a_spool_and_is_not_a_dead_letter(
    receiver: Emulator, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.responses["/hosts/a.json"] = lambda handler: handler.answer(503)
    app = application(receiver, bucket, MF_SPOOL=f"file://{tmp_path}/spool")
    with pytest.raises(DeliveryIncomplete):
        app.handle(event(), CONTEXT)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"hosts/a.json" in path.read_bytes()]
    assert kept == []
    bucket.responses.clear()
    app.handle(event(), CONTEXT)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"hosts/a.json" in path.read_bytes()]
    assert len(kept) == 1, "an object that is gone is a dead letter"


def test_nothing_is_fetched_where_decoding_is_offline() -> None:
    decoded = decode(event(), OFFLINE)
    assert isinstance(decoded, Decoded)
    (message,) = decoded.messages
    assert (message.broken, message.retriable) == ("is not fetched here", True)


# --- whose objects are fetched ---------------------------------------------------------------------------------


OWN = {"tencentcloud_appid": "1250000000"}


@pytest.mark.parametrize(
    ("changes", "context", "buckets", "is_fetched"),
    [
        ({}, OWN, "", True),
        ({}, {"tencentcloud_appid": 1250000000}, "", True),
        ({"cosBucket": {"name": "theirs", "appid": "1259999999"}}, OWN, "", False),
        ({"cosBucket": {"name": "theirs-1259999999"}}, OWN, "", True),
        ({"cosBucket": {"name": "a-1250000000", "appid": "9"}}, OWN, "", False),
        ({}, {}, "", False),
        ({"cosBucket": {"name": "theirs", "appid": "1259999999"}}, OWN, "theirs-1259999999", True),
        ({}, OWN, "theirs-1259999999", False),
        ({}, {}, "metrics-1250000000, theirs-1259999999", True),
    ],
    ids=["own", "own by number", "another's", "own with a telling name", "name of ours, their APPID", "unknown account", "listed", "own, unlisted", "own, listed"],
)  # fmt: skip
def test_objects_are_fetched_only_from_the_own_accounts_buckets_or_from_those_listed(
    changes: dict[str, Any], context: dict[str, Any], buckets: str, *, is_fetched: bool
) -> None:
    source, clock = Recorder(), FakeClock()
    receiver = InProcessReceiver(clock)
    app = Application(environ(COS_BUCKETS=buckets), clock, lambda: receiver, source)
    report = report_of(app, event(**changes), context={"time_limit_in_ms": 9000, **context})
    assert outcomes(report) == ({"delivered": 1} if is_fetched else {"invalid": 1})
    assert len(source.asked) == is_fetched
    assert is_fetched or "MF_COS_BUCKETS" in report["errors"][0]["message"]


def dead_letter_of(inside: Any) -> str:
    return json.dumps({"Body": {"ClientContext": json.dumps(inside)}})


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_object_is_fetched_for_an_event_inside_of_a_message(depth: int) -> None:
    source, clock = Recorder(), FakeClock()
    receiver = InProcessReceiver(clock)
    app = Application(environ(), clock, lambda: receiver, source)
    inside = event()
    for _ in range(depth):
        inside = {"Records": [{"CMQ": {"msgId": "1", "msgBody": dead_letter_of(inside)}}]}
    report = report_of(app, inside)
    assert (outcomes(report), source.asked) == ({"invalid": 1}, [])
    # The platform's own dead letter, which comes as an event, is the event inside.
    assert outcomes(report_of(app, json.loads(dead_letter_of(event())))) == {"delivered": 1}


def test_invalid_names_of_buckets_are_a_configuration_error() -> None:
    for wrong in ("metrics", "Metrics-1250000000", "a-1,b.c-1", "http://a-1"):
        with pytest.raises(ConfigError, match="MF_COS_BUCKETS"):
            Settings.read(environ(COS_BUCKETS=wrong))
    assert Settings.read(environ(COS_BUCKETS=" a-1, b-2 ,")).cos_buckets == ("a-1", "b-2")
