"""Generated relabel rules do to generated labels what a real Prometheus's ``metric_relabel_configs`` do."""

import json
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from metric_forwarder.intake.relabel import Relabeller
from support.patterns import pattern
from support.prometheus_server import PrometheusServer

# The figure of the promise is reached with RELABEL_CASES=10000, in less than a minute.
CASES = int(os.environ.get("RELABEL_CASES", "2000"))
SAMPLES_OF_A_JOB = 40
PATIENCE_S = 60
IS_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")

NAMES = ("a", "b", "ab", "env", "pod", "region_id", "A1")
VALUES = (
    "",
    "a",
    "prod",
    "Prod-1",
    "x;y",
    "10.0.0.1:9100",
    "abcabc",
    "ÄÖ é",
    "gz\nsz",
    "$1",
    "aaaaaaaa",
    "a-b-c",
    "straße",
    "ΑΣ",
    "ﬁ",
    "İı",
    "STRA\u017f\u017fE\u212a",
)
TARGETS = ("a", "new", "env", "${1}", "n_$1", "x_${2}", "$$ab", "__tmp", "pod")
TEMPLATES = ("$1", "${1}", "v", "", "$2-$1", "${1}x", "$1x", "$$", "$0", "fix$", "${named}")


def rule(chance: random.Random) -> dict[str, Any]:
    action = chance.choice(
        (
            "replace",
            "replace",
            "replace",
            "keep",
            "drop",
            "labelmap",
            "labeldrop",
            "labelkeep",
            "lowercase",
            "uppercase",
            "hashmod",
            "keepequal",
            "dropequal",
        )
    )
    sources = chance.sample((*NAMES, "job", "__name__", "missing"), chance.randint(0, 3))
    made: dict[str, Any] = {"action": action}
    if action in ("labeldrop", "labelkeep"):
        # Without a name a sample is none.
        return {
            **made,
            "regex": pattern(chance) if action == "labeldrop" else f"__name__|value|{pattern(chance)}",
        }
    if action == "labelmap":
        return {
            **made,
            "regex": chance.choice(("(.*)_id", "(.)", "e(.*)", "(.+)", "a?(b)", pattern(chance))),
            "replacement": chance.choice(("m_$1", "x", "${1}_y", "$1")),
        }
    made["source_labels"] = sources
    if action in ("replace", "keep", "drop", "lowercase", "uppercase", "hashmod") and chance.random() < 0.3:
        made["separator"] = chance.choice(("", "-", ";;"))
    if action in ("replace", "keep", "drop") and chance.random() < 0.9:
        made["regex"] = (
            pattern(chance)
            if action == "replace" or chance.random() < 0.3
            else f"{pattern(chance)}|.*[aeiou].*"
        )
    if action == "replace":
        made |= {"target_label": chance.choice(TARGETS), "replacement": chance.choice(TEMPLATES)}
    elif action not in ("keep", "drop"):
        made["target_label"] = chance.choice(NAMES)
    if action == "hashmod":
        made["modulus"] = chance.choice((1, 7, 2**32, 2**63 + 1))
    return made


def labels(chance: random.Random) -> dict[str, str]:
    return {name: value for name in NAMES if (value := chance.choice(VALUES)) or chance.random() < 0.5}


class Job:
    """A scrape job: its rules, and samples by a value that no other has."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.name = f"job-{number}"
        while True:
            self.rules = [rule(chance) for _ in range(chance.randint(1, 3))]
            try:
                self.relabeller = Relabeller(self.rules, {})
                break
            except ValueError:
                continue
        self.samples = {
            number * SAMPLES_OF_A_JOB + place: labels(chance) for place in range(SAMPLES_OF_A_JOB)
        }

    def page(self) -> str:
        lines = []
        for value, pairs in self.samples.items():
            text = ",".join('{}="{}"'.format(name, pairs[name].replace("\n", "\\n")) for name in pairs)
            lines.append(f'm{{{text},value="{value}"}} {value}\n')
        return "".join(lines)

    def expected(self, instance: str) -> dict[int, dict[str, str]] | None:
        """What is to be stored of each sample; None if the whole scrape fails."""
        found = {}
        for value, pairs in self.samples.items():
            shared = {"job": self.name, "instance": instance, "value": str(value)}
            result = self.relabeller.apply("", "m", {**pairs, **shared})
            if result is not None:
                if not IS_NAME.fullmatch(result.metric) or not all(map(IS_NAME.fullmatch, result.labels)):
                    # Here such a point is invalid; Prometheus refuses all that it scraped with it.
                    return None
                # For Prometheus a label with an empty value is none.
                left = {name: text for name, text in result.labels.items() if text}
                found[value] = {**left, "__name__": result.metric}
        return found


class ScrapingPrometheus(PrometheusServer):
    """A Prometheus with a job for each list of rules."""

    def __init__(self, folder: Path, jobs: list[Job], target: str) -> None:
        super().__init__(folder)
        self._jobs = jobs
        self._target = target

    def _command(self) -> list[str]:
        command = super()._command()
        jobs = [
            {
                "job_name": job.name,
                "scrape_interval": "2s",
                "metrics_path": f"/{job.name}",
                "static_configs": [{"targets": [self._target]}],
                "metric_relabel_configs": job.rules,
            }
            for job in self._jobs
        ]
        (self._folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
        return command

    def query(self, query: str) -> list[Any]:
        found: list[Any] = json.loads(
            self._get(f"/api/v1/query?{urlencode({'query': query})}", timeout_s=20)
        )["data"]["result"]
        return found


@contextmanager
def pages(jobs: list[Job]) -> Iterator[str]:
    texts = {f"/{job.name}": job.page().encode() for job in jobs}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(texts[self.path])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_rules_do_what_a_real_prometheus_does(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(20261128)
    jobs = [Job(number, chance) for number in range(CASES // SAMPLES_OF_A_JOB)]
    with pages(jobs) as target, ScrapingPrometheus(tmp_path, jobs, target) as running:
        server = cast("ScrapingPrometheus", running)
        deadline = time.monotonic() + PATIENCE_S
        while len(server.query("up")) < len(jobs):
            assert time.monotonic() < deadline, "not every job was scraped"
            time.sleep(0.2)
        is_up = {series["metric"]["job"]: series["value"][1] == "1" for series in server.query("up")}
        stored: dict[int, dict[str, str]] = {}
        for series in server.query('{__name__=~".+",__name__!~"up|scrape_.*"}'):
            stored[int(series["value"][1])] = series["metric"]
    compared: Counter[str] = Counter()
    seen = Counter(
        frozenset(pairs.items()) for job in jobs for pairs in (job.expected(target) or {}).values()
    )
    for job in jobs:
        expected = job.expected(target)
        assert is_up[job.name] is (expected is not None), job.rules
        for value, pairs in job.samples.items():
            wanted = None if expected is None else expected.get(value)
            if wanted is not None and seen[frozenset(wanted.items())] > 1:
                # Two samples have become one series, of which Prometheus keeps one.
                compared["collided"] += 1
                continue
            found = stored.get(value)
            if found is not None:
                found = {
                    name: text
                    for name, text in found.items()
                    if not name.startswith("__") or name == "__name__"
                }
            assert found == wanted, (job.rules, pairs)
            compared["dropped" if wanted is None else "kept"] += 1
    for name, count in compared.items():
        record_property(name, count)
    assert compared["kept"] > CASES // 4
    assert compared["dropped"] > CASES // 20
