"""docs/operate.md: its log lines are what the function writes, its limits are the code's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.formats import json_text, payload
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.reporting import ledger, replies
from metric_forwarder.reporting.report import MAX_LINE_BYTES
from metric_forwarder.scrape import scraper
from metric_forwarder.spool import files as file_spool
from metric_forwarder.spool import policies
from metric_forwarder.triggers import cos, decoding, http, http_routes
from support.harness import ROOT, Harness, ckafka, make_harness, point

PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")
BLOCKS = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
SHOWN = [json.loads(line) for block in BLOCKS for line in block.splitlines()]


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def shape(line: dict[str, Any]) -> tuple[str, str, list[str]]:
    return line["level"], line["event"], list(line)


def blocked(**settings: str) -> Harness:
    harness = make_harness(**settings)
    harness.receiver.script.append(ReturnCode.CLIENT_BLOCKED)
    return harness


def test_the_log_lines_are_of_the_form_that_the_function_writes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_harness(LOG_LEVEL="DEBUG").handle(ckafka(point(), point(2)))
    blocked().handle(ckafka(point()))
    make_harness().application.handle({"httpMethod": "POST", "headers": {}, "body": "{}"}, {})
    (tmp_path / "file").touch()
    blocked(SPOOL=(tmp_path / "file" / "spool").as_uri()).handle(ckafka(point()))
    make_harness(DEDUPE="redis://127.0.0.1:1").handle(ckafka(point()))
    lines = written(capsys)
    # A refusal by wrong settings or an unknown event has members of its own.
    shown = [shape(line) for line in SHOWN if line["event"] != "refused" or "statusCode" in line]
    assert [line for line in shown if line not in [shape(line) for line in lines]] == []
    assert {line["event"] for line in SHOWN} == {line["event"] for line in lines}


def test_an_error_of_a_report_shown_is_one_that_the_function_makes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocked().handle(ckafka(point()))
    (report,) = written(capsys)
    (made,) = report["errors"]
    (told,) = [error for line in SHOWN for error in line.get("errors", ())]
    assert {**told, "source": made["source"]} == made


def max_zstd_bytes() -> int:
    route = http_routes.find_route({"path": "/api/v1/write", "headers": {}}, "")
    assert isinstance(route, http_routes.Route)
    return route.max_zstd_bytes


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        (
            "body over HTTP, inflated",
            f"{http.MAX_BODY_BYTES // 2**20} MB (remote write in zstd: {max_zstd_bytes() // 2**20} MB)",
        ),
        ("object in COS, inflated", f"{cos.MAX_OBJECT_BYTES // 2**20} MB"),
        ("CLS event, inflated", f"{decoding.MAX_INFLATED_BYTES // 2**20} MB"),
        ("points in one message", f"{payload.MAX_POINTS:,}"),
        ("values in one message: numbers, texts, lists, objects", f"{json_text.MAX_VALUES:,}"),
        ("lines of an object in COS", f"{cos.MAX_LINES:,}"),
        ("logs in a CLS event", f"{payload.MAX_POINTS:,}"),
        ("dead letters of one event", f"{policies.MAX_DEAD_LETTERS:,}"),
        ("dead letters of one event, in bytes", f"{policies.MAX_DEAD_LETTER_BYTES // 2**20} MB"),
        ("scrape target", f"{scraper.MAX_TARGET_BYTES // 2**20} MB"),
        ("samples of one scrape", f"{scraper.MAX_SAMPLES:,}"),
        ("spool", f"{file_spool.DEFAULT_MAX_BYTES // 2**20} MB; files: `?max_mb=…`"),
        ("files in a spool's folder", f"{file_spool.MAX_FOLDER_FILES:,}"),
        ("errors in a report", str(ledger.MAX_PROBLEMS)),
        ("report over HTTP", f"{replies.MAX_HTTP_BODY_BYTES // 1024} KB"),
        ("report in the log", f"{MAX_LINE_BYTES:,} bytes, as SCF keeps 8 KB of a line (583/39778)"),
    ],
)
def test_the_limits_are_those_of_the_code(what: str, limit: str) -> None:
    assert f"\n| {what} | {limit} |" in PAGE
