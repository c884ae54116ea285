"""What a real VictoriaMetrics holds of a payload is the same, through the function or straight into its own endpoint.

The differences that docs/formats.md names are generated too, in fields and names of their own, and are held to be what
that page says. Hypothesis generates the payloads; they are sent and compared together, since asking the servers takes long.
"""

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from random import Random
from typing import Any, NamedTuple, TypeVar
from urllib.request import Request, urlopen

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from metric_forwarder.bootstrap import Application
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.formats.samples import STALE_MARKER
from support.harness import ckafka, outcomes, remote_write_environ, report_of
from support.remote_write import encode_series
from support.victoria_metrics_server import VictoriaMetricsServer

pytestmark = pytest.mark.slow

# The figure of the promise is reached with FORMAT_CASES=10000.
CASES = int(os.environ.get("FORMAT_CASES", "2000"))
NOW_MS = int(time.time()) * 1000
MESSAGE_LINES = 100
# Cases that one example of Hypothesis makes: the first are all alike, and more do not fit into one.
EXAMPLE_CASES = 10
# (labels, Unix milliseconds) → the value.
Held = dict[tuple[tuple[tuple[str, str], ...], int], float]
VALUES = ("a", "b c", "x,y", "k=v", "é 北京", '"q"', "C:dir", "10.0.0.1:9100", "-", "{}", "#")
TEXTS = ('"plain"', '"a, b=c"', '"with \\"quotes\\""', '""')


_T = TypeVar("_T")


def generated(make: Callable[[Random, int], _T]) -> list[_T]:
    """As many cases as are asked for, each made of what Hypothesis chooses and of its number, on which no choice depends."""
    found: list[_T] = []

    @settings(
        max_examples=CASES // EXAMPLE_CASES + 10,
        phases=(Phase.generate,),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def collect(chance: Random) -> None:
        # An example that asks for too many choices ends here, and adds nothing.
        found.extend([make(chance, len(found) + number) for number in range(EXAMPLE_CASES)])

    collect()
    assert len(found) >= CASES
    return found[:CASES]


class Servers(NamedTuple):
    """One that is written to directly, one that is written to by the function."""

    direct: VictoriaMetricsServer
    through: VictoriaMetricsServer

    @property
    def application(self) -> Application:
        return Application(
            remote_write_environ(REMOTE_WRITE_URL=self.through.url, NAMESPACE="", HTTP_AUTH="cam")
        )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with (
        VictoriaMetricsServer(tmp_path_factory.mktemp("direct")) as direct,
        VictoriaMetricsServer(tmp_path_factory.mktemp("through")) as through,
    ):
        yield Servers(direct, through)


def _post(server: VictoriaMetricsServer, path: str, body: bytes, **headers: str) -> None:
    origin = server.url.removesuffix("/api/v1/write")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urlopen(Request(origin + path, body, named, method="POST"), timeout=20) as response:
        assert response.status in (200, 204)


def _held(server: VictoriaMetricsServer, prefix: str, is_complete: Callable[[Held], bool]) -> Held:
    """What it holds; new series may take a moment to be found."""
    deadline = time.monotonic() + 20
    while not is_complete(found := _exported(server, prefix)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _exported(server: VictoriaMetricsServer, prefix: str) -> Held:
    server._get("/internal/force_flush", timeout_s=10)
    text = server._get(
        f"/api/v1/export?end={NOW_MS // 1000 + 60}&match[]=%7B__name__=~%22{prefix}.*%22%7D", timeout_s=20
    ).decode()
    found: Held = {}
    for line in text.splitlines():
        # It writes the infinities in a way that is no JSON.
        series = json.loads(re.sub(r"([\[,])\+?(-?)Inf", r"\1\2Infinity", line))
        labels = tuple(sorted(series["metric"].items()))
        for moment, value in zip(series["timestamps"], series["values"], strict=True):
            # JSON has no NaN, and no stale marker.
            found[labels, moment] = float("nan") if value is None else value
    return found


def _send_through(servers: Servers, lines: list[str]) -> dict[str, int]:
    """Send lines in messages of a topic, whose format nobody names; return the outcomes."""
    bodies = [
        "\n".join(lines[start : start + MESSAGE_LINES]) + "\n"
        for start in range(0, len(lines), MESSAGE_LINES)
    ]
    report = report_of(servers.application, ckafka(*bodies))
    return outcomes(report)


def _assert_same(through: Held, direct: Held) -> None:
    assert through.keys() == direct.keys()
    for key, value in direct.items():
        assert through[key] == pytest.approx(value, rel=1e-12, nan_ok=True), key


def _escaped(text: str) -> str:
    return text.replace(",", "\\,").replace(" ", "\\ ").replace("=", "\\=")


# --- influx ---------------------------------------------------------------------------------------------------

# A field has one kind of value, so that its name tells what becomes of it. The last ones: see _as_ours.
FIELDS: dict[str, Callable[[Random], str]] = {
    "idle": lambda chance: repr(chance.randrange(-(10**6), 10**6) / 8),
    "user_1": lambda chance: chance.choice(("0", "-2", "1e3", "1E-3", "1234567")),
    "n": lambda chance: f"{chance.randrange(-(10**9), 10**9)}i",
    "up": lambda chance: chance.choice(
        ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE")
    ),
    "value": lambda chance: repr(chance.random()),
    "os": lambda chance: chance.choice(TEXTS),
    "dot": lambda _: "7.",
    "half": lambda _: ".5",
}
BAD_LINES = ("inf_bad idle=high", "inf_bad idle=1.2.3", "inf_bad", "inf_bad idle=")


class Lines(NamedTuple):
    """Generated lines, and how many of their samples are no good or are left out on purpose."""

    lines: list[str]
    invalid: int
    filtered: int

    @classmethod
    def of(cls, make: "Callable[[Random, int], Lines]") -> "Lines":
        """All generated lines together."""
        parts = generated(make)
        lines = [line for part in parts for line in part.lines]
        return cls(lines, sum(part.invalid for part in parts), sum(part.filtered for part in parts))


def _influx_line(chance: Random, number: int) -> Lines:
    is_bad = chance.randrange(100) == 1
    bad_line = chance.choice(BAD_LINES)
    # A message begins with a line from which its format can be told.
    lines = [bad_line] if is_bad and number % MESSAGE_LINES else []
    head = [f"inf_{chance.choice(('a', 'b', 'c-d', 'e.f'))}"]
    tags = chance.sample(("host", "dc", "t_1", "Zone", "cpu-name"), chance.randrange(4))
    head += [f"{tag}={_escaped(chance.choice(VALUES))}" for tag in tags]
    fields = chance.sample(list(FIELDS), chance.randint(1, 3))
    written = ",".join(f"{field}={FIELDS[field](chance)}" for field in fields)
    line = f"{','.join(head)} {written} {(NOW_MS - number) * 10**6}"
    return Lines([*lines, line], len(lines), int("os" in fields))


def _as_ours(direct: Held) -> Held:
    """What VictoriaMetrics holds, with the differences that docs/formats.md names."""
    found: Held = {}
    for (labels, moment), stored in direct.items():
        named = {re.sub(r"[^A-Za-z0-9_]", "_", name): text for name, text in labels}
        name = re.sub(r"[^A-Za-z0-9_]", "_", named["__name__"])
        value = stored
        if name.endswith("_os") or name == "inf_bad_idle":
            assert value == 0, "a text is filtered here, and what is no number is invalid"
            continue
        for field, number in (("_dot", 7), ("_half", 0.5)):
            if name.endswith(field):
                assert value == 0, "it is a number here"
                value = number
        named["__name__"] = name.removesuffix("_value")
        found[tuple(sorted(named.items())), moment] = value
    return found


def test_influx_lines_become_the_same_series_times_and_values(servers: Servers) -> None:
    lines, invalid, filtered = Lines.of(_influx_line)
    _post(servers.direct, "/influx/write", "\n".join(lines).encode())
    told = _send_through(servers, lines)
    assert (told["invalid"], told["filtered"]) == (invalid, filtered)
    assert sum(told.values()) == told["delivered"] + invalid + filtered
    through = _held(servers.through, "inf_", lambda held: len(held) == told["delivered"])
    assert len(through) == told["delivered"] > CASES
    _assert_same(
        through, _as_ours(_held(servers.direct, "inf.", lambda held: len(held) >= len(through) + filtered))
    )


# --- Prometheus text ------------------------------------------------------------------------------------------


BAD_TEXT_LINES = ("text_bad{", 'text_bad{a="b" 1', "text_bad x", "text_bad")


def _text_lines(chance: Random, number: int) -> Lines:
    is_bad = chance.randrange(100) == 1
    bad_line = chance.choice(BAD_TEXT_LINES)
    lines = [bad_line] if is_bad and number % MESSAGE_LINES else []
    invalid = len(lines)
    if chance.randrange(20) == 1:
        lines.append(chance.choice(("# HELP text_a_total What it is.", "# a comment", "")))
    return Lines([*lines, _text_line(chance, number)], invalid, 0)


def _text_line(chance: Random, number: int) -> str:
    names = chance.sample(("host", "dc", "t_1", "Zone", "le"), chance.randrange(5))
    labels = []
    for name in names:
        text = chance.choice((*VALUES, "back\\\\slash", "new\\nline")).replace('"', '\\"')
        labels.append(f'{name}="{text}"')
    inside = ",".join(labels) + (chance.choice(("", ",")) if labels else "")
    braces = f"{{{inside}}}" if labels or chance.randrange(10) < 3 else ""
    space = chance.choice(" \t")
    metric, value = (
        f"text_{chance.choice('abc')}_total",
        chance.choice(("1", "-2.5", "1e3", "+Inf", "-Inf", "0", "1234567", "0.5")),
    )
    if chance.randrange(50) == 1:
        # Half of one here and for Prometheus; VictoriaMetrics refuses the line.
        metric, value = "text_half_total", ".5"
    return f"{metric}{braces}{space}{value} {NOW_MS - number}"


def test_prometheus_text_becomes_the_same_series_times_and_values(servers: Servers) -> None:
    lines, invalid, _ = Lines.of(_text_lines)
    _post(servers.direct, "/api/v1/import/prometheus", ("\n".join(lines) + "\n").encode())
    told = _send_through(servers, lines)
    assert told == {"delivered": CASES, "invalid": invalid}
    through = _held(servers.through, "text_", lambda held: len(held) == CASES)
    halves = {key for key in through if ("__name__", "text_half_total") in key[0]}
    assert {through[key] for key in halves} == {0.5}
    same = {key: value for key, value in through.items() if key not in halves}
    direct = _held(servers.direct, "text_", lambda held: len(held) >= len(same))
    _assert_same(same, direct)


# --- remote write ---------------------------------------------------------------------------------------------


def _series(chance: Random, number: int) -> tuple[bytes, int]:
    names = chance.sample(("host", "dc", "t_1", "Zone", "le"), chance.randrange(5))
    labels = [("__name__", f"rw_{chance.choice('abc')}_total"), ("number", str(number % 500))]
    labels += [(name, chance.choice(VALUES)) for name in names]
    # Of magnitudes that it stores side by side without rounding. Of all NaN it stores the stale marker alone.
    values = (1.0, -2.5, 0.1, 1234567.0, -0.001, 0.0, float("inf"), -float("inf"), STALE_MARKER)
    samples = [(chance.choice(values), NOW_MS - number * 4 + each) for each in range(chance.randint(1, 4))]
    return encode_series(encode_labels(sorted(labels)), samples), len(samples)


def _request(path: str, body: bytes, **headers: str) -> dict[str, Any]:
    """A client's request to the function."""
    return {
        "httpMethod": "POST",
        "path": path,
        "headers": {
            "content-type": "application/x-protobuf",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def test_remote_write_becomes_the_same_series_times_and_values(servers: Servers) -> None:
    received, cases = 0, generated(_series)
    for start in range(0, CASES, 500):
        written = cases[start : start + 500]
        body = compress([series for series, _ in written])
        _post(servers.direct, "/api/v1/write", body, Content_Encoding="snappy")
        event = _request("/api/v1/write", body, content_encoding="snappy")
        reply = servers.application.handle(event, {"time_limit_in_ms": 60_000})
        assert reply["statusCode"] == 204, reply
        received += sum(count for _, count in written)
    through = _held(servers.through, "rw_", lambda held: len(held) == received)
    direct = _held(servers.direct, "rw_", lambda held: len(held) == received)
    assert len(through) == received
    _assert_same(through, direct)


# --- formats without an endpoint there ------------------------------------------------------------------------


class Written(NamedTuple):
    """A sample to be written in a format."""

    metric: str
    labels: dict[str, str]
    value: float
    time_ms: int


def _telegraf(samples: list[Written]) -> str:
    metrics = [
        {"fields": {"value": each.value}, "name": each.metric, "tags": each.labels, "timestamp": each.time_ms}
        for each in samples
    ]
    return json.dumps({"metrics": metrics})


def _kafka_adapter(samples: list[Written]) -> str:
    return "\n".join(
        json.dumps(
            {
                "timestamp": datetime.fromtimestamp(each.time_ms / 1000, timezone.utc).isoformat(),
                "value": repr(each.value),
                "name": each.metric,
                "labels": {"__name__": each.metric, **each.labels},
            }
        )
        for each in samples
    )


def _otlp(samples: list[Written]) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for each in samples:
        point = metrics.add(name=each.metric).gauge.data_points.add(
            time_unix_nano=each.time_ms * 10**6, as_double=each.value
        )
        for name, text in each.labels.items():
            point.attributes.add(key=name).value.string_value = text
    return request


def _otlp_json(samples: list[Written]) -> str:
    return json.dumps(MessageToDict(_otlp(samples), use_integers_for_enums=True))


def _otlp_protobuf(samples: list[Written]) -> dict[str, Any]:
    return _request("/v1/metrics", _otlp(samples).SerializeToString())


OTHERS: dict[str, Callable[[list[Written]], Any]] = {
    "telegraf": _telegraf,
    "adapter": _kafka_adapter,
    "otlp_json": _otlp_json,
    "otlp_protobuf": _otlp_protobuf,
}


@pytest.mark.parametrize("name", OTHERS)
def test_samples_of_other_formats_become_what_prometheus_text_says_of_them(
    servers: Servers, name: str
) -> None:
    samples = generated(lambda chance, number: _sample(chance, f"{name}_{chance.choice('abc')}", number))
    lines = [_as_text(each) for each in samples]
    _post(servers.direct, "/api/v1/import/prometheus", "".join(lines).encode())
    bodies = [
        OTHERS[name](samples[start : start + MESSAGE_LINES]) for start in range(0, CASES, MESSAGE_LINES)
    ]
    if isinstance(bodies[0], str):
        assert outcomes(report_of(servers.application, ckafka(*bodies))) == {"delivered": CASES}
    else:
        for event in bodies:
            reply = servers.application.handle(event, {"time_limit_in_ms": 60_000})
            assert (reply["statusCode"], reply["body"]) == (200, "")
    through = _held(servers.through, f"{name}_", lambda held: len(held) == CASES)
    assert len(through) == CASES
    _assert_same(through, _held(servers.direct, f"{name}_", lambda held: len(held) == CASES))


def _sample(chance: Random, metric: str, number: int) -> Written:
    names = chance.sample(("host", "dc", "t_1", "Zone"), chance.randrange(5))
    labels = {label: chance.choice((*VALUES, "back\\slash", "new\nline")) for label in names}
    return Written(metric, labels, chance.randrange(-(10**6), 10**6) / 8, NOW_MS - number)


def _as_text(sample: Written) -> str:
    labels = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in sample.labels.items())
    return f"{sample.metric}{{{labels}}} {sample.value!r} {sample.time_ms}\n"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
