"""What docs/migrate.md tells users to write is taken by those who read it."""

import json
import re
import subprocess
from pathlib import Path
from shutil import which

from metric_forwarder.formats.mapping import read_mapping
from metric_forwarder.triggers.http_routes import Route, find_route
from support.harness import ROOT

PAGE = (ROOT / "docs" / "migrate.md").read_text("utf-8").partition("## From other clients and queues")[2]


def block(language: str, heading: str) -> str:
    section = PAGE.partition(f"### {heading}\n")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(block("yaml", "Prometheus").replace("FUNCTION", "10.0.0.1").replace("TOKEN", "t"))
    done = subprocess.run(
        [which("promtool") or "promtool", "check", "config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_path_of_the_page_is_served() -> None:
    paths = set(re.findall(r"https://FUNCTION(/[^\s\"`,\]]*)", PAGE))
    assert {"/v1/metrics", "/api/v1/write", "/metrics/job/backup/instance/db-1", "/"} <= paths
    for path in paths - {"/"}:
        route = find_route({"path": path, "headers": {}}, "application/json")
        assert isinstance(route, Route)


def test_the_mapping_on_the_page_is_that_of_the_file() -> None:
    text = re.findall(r"^MF_MAPPING=(.*)$", PAGE, re.MULTILINE)[0]
    read_mapping(text)
    assert json.loads(text) == json.loads((ROOT / "docs" / "mappings" / "collectd.json").read_text("utf-8"))
