"""What a real VictoriaMetrics stores of generated payloads is what is read of them here.

Differences that docs/formats.md names are left out of what is generated.
"""

import json
import os
import random
import re
import time
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from metric_forwarder.formats import Format, read
from metric_forwarder.formats.samples import FilteredSample, FormatHint, Sample
from support.victoria_metrics_server import VictoriaMetricsServer

# The figure of the promise is reached with FORMAT_CASES=10000.
CASES = int(os.environ.get("FORMAT_CASES", "2000"))
NOW_MS = int(time.time()) * 1000
Stored = dict[tuple[tuple[tuple[str, str], ...], int], float]
VALUES = ("a", "b c", "x,y", "k=v", "é 北京", '"q"', "C:dir", "10.0.0.1:9100", "-", "{}", "#")
TEXTS = ('"plain"', '"a, b=c"', '"with \\"quotes\\""', '""')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetricsServer]:
    with VictoriaMetricsServer(tmp_path_factory.mktemp("formats")) as running:
        yield running


def _post(server: VictoriaMetricsServer, path: str, body: str) -> None:
    origin = server.url.removesuffix("/api/v1/write")
    with urlopen(Request(origin + path, body.encode(), method="POST"), timeout=20) as response:
        assert response.status in (200, 204)


def _stored(server: VictoriaMetricsServer, prefix: str, count: int) -> Stored:
    """What it holds; new series may take a moment to be found."""
    deadline = time.monotonic() + 20
    while len(found := _exported(server, prefix)) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _exported(server: VictoriaMetricsServer, prefix: str) -> Stored:
    server._get("/internal/force_flush", timeout_s=10)
    text = server._get(
        f"/api/v1/export?end={NOW_MS // 1000 + 60}&match[]=%7B__name__=~%22{prefix}.*%22%7D", timeout_s=20
    ).decode()
    found: Stored = {}
    for line in text.splitlines():
        # It writes the infinities in a way that is no JSON.
        series = json.loads(re.sub(r"([\[,])\+?(-?)Inf", r"\1\2Infinity", line))
        labels = tuple(sorted(series["metric"].items()))
        for moment, value in zip(series["timestamps"], series["values"], strict=True):
            found[labels, moment] = value
    return found


def _read(name: Format, body: str) -> tuple[Stored, int]:
    """The samples read here, and how many texts were filtered."""
    found: Stored = {}
    texts = 0
    for reading in read(name, body, FormatHint()):
        if isinstance(reading, Sample):
            labels = tuple(sorted([*reading.dimensions.items(), ("__name__", reading.metric)]))
            assert reading.time_ns is not None
            found[labels, reading.time_ns // 10**6] = float(reading.value)
        else:
            assert isinstance(reading, FilteredSample)
            texts += 1
    return found, texts


def _escaped(text: str) -> str:
    return text.replace(",", "\\,").replace(" ", "\\ ").replace("=", "\\=")


def _number(chance: random.Random) -> str:
    number = chance.randrange(-(10**6), 10**6)
    return chance.choice((f"{number}i", f"{number / 8}", f"{number}", "1e3", "true", "f", "TRUE"))


def _influx_line(chance: random.Random, number: int) -> str:
    head = [f"inf_{chance.choice('abc')}"]
    tags = chance.sample(("host", "dc", "t_1", "Zone"), chance.randrange(4))
    head += [f"{tag}={_escaped(chance.choice(VALUES))}" for tag in tags]
    fields = chance.sample(("idle", "user_1", "n", "x"), chance.randint(1, 3))
    written = [
        f"{field}={chance.choice(TEXTS) if chance.random() < 0.2 else _number(chance)}" for field in fields
    ]
    return f"{','.join(head)} {','.join(written)} {(NOW_MS - number) * 10**6}"


def _text_line(chance: random.Random, number: int) -> str:
    names = chance.sample(("host", "dc", "t_1", "Zone", "le"), chance.randrange(5))
    labels = []
    for name in names:
        text = chance.choice((*VALUES, "back\\\\slash", "new\\nline")).replace('"', '\\"')
        labels.append(f'{name}="{text}"')
    inside = ",".join(labels) + (chance.choice(("", ",")) if labels else "")
    braces = f"{{{inside}}}" if labels or chance.random() < 0.3 else ""
    space = chance.choice(" \t")
    value = chance.choice(("1", "-2.5", "1e3", "+Inf", "-Inf", "0", "1234567", "0.5"))
    return f"text_{chance.choice('abc')}_total{braces}{space}{value} {NOW_MS - number}"


def _assert_same(wanted: Stored, found: Stored, texts: int = 0) -> None:
    assert wanted.keys() <= found.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-12), key
    # It stores 0 for a text; here a text is filtered.
    assert [found[key] for key in found.keys() - wanted.keys()] == [0] * texts


def test_influx_lines_become_the_same_series_times_and_values(server: VictoriaMetricsServer) -> None:
    chance = random.Random(1)
    body = "\n".join(_influx_line(chance, number) for number in range(CASES))
    _post(server, "/influx/write", body)
    wanted, texts = _read(Format.INFLUX, body)
    assert len(wanted) > CASES
    _assert_same(wanted, _stored(server, "inf_", len(wanted) + texts), texts)


def test_prometheus_text_becomes_the_same_series_times_and_values(server: VictoriaMetricsServer) -> None:
    chance = random.Random(2)
    body = "\n".join(_text_line(chance, number) for number in range(CASES)) + "\n"
    _post(server, "/api/v1/import/prometheus", body)
    wanted, _ = _read(Format.PROMETHEUS_TEXT, body)
    assert len(wanted) == CASES
    _assert_same(wanted, _stored(server, "text_", len(wanted)))
