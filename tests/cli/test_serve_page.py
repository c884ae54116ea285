"""``serve --page-port``: what came in over HTTP, in a real browser."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from receiver_emulator import Emulator
from support.browser import PATIENCE_MS, browser, keep_picture, page_of
from support.command_line import child_environ, point, settings_for

pytestmark = pytest.mark.slow

TOKEN = "sample-token-of-the-docs"


class Served(NamedTuple):
    """Where the function and its page are, and the file of its log."""

    url: str
    page: str
    log: Path


@contextmanager
def serving_page(folder: Path, *options: str, **settings: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "metric_forwarder", "serve", "--port", "0", "--page-port", "0", *options]
    log = folder / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, encoding="utf-8", env=child_environ(**settings)
        ) as process,
    ):
        assert process.stdout is not None
        url, _, page = (re.findall(r"http://\S+", process.stdout.readline()) for _ in range(3))
        try:
            yield Served(url[0], page[0], log)
        finally:
            process.terminate()
            process.wait(timeout=20)
    assert process.returncode == 0, log.read_text()


def send(url: str, *points: object) -> int:
    request = Request(url, json.dumps(points).encode(), {"Authorization": f"Bearer {TOKEN}"})
    try:
        with urlopen(request, timeout=20) as reply:
            return int(reply.status)
    except HTTPError as error:
        with error:
            return error.code


def test_the_page_of_serve_shows_points_outcomes_requests_and_no_switches(tmp_path: Path) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    with (
        Emulator() as receiver,
        serving_page(tmp_path, **settings_for(receiver), HTTP_TOKEN=TOKEN, LOG_LEVEL="WARN") as served,
        browser() as chromium,
        page_of(chromium, served.page) as page,
    ):
        expect(page.locator("#commands")).to_contain_text(f"{served.url}/")
        assert send(served.url, point(7)) == 200
        expect(page.locator("#series article")).to_contain_text("pc / load")
        expect(page.locator("#series article .value")).to_contain_text("7")
        expect(page.locator("#requests tbody tr")).to_contain_text(["0"])
        assert send(served.url, point("12"), point(8)) == 207
        expect(page.locator("#reasons")).to_contain_text("is not a number")
        receiver.fault("code", 1003, times=None)
        send(served.url, point(9, metricName="refused"))
        expect(page.locator("#series article").first).to_contain_text("not delivered")
        expect(page.locator("#answers")).to_contain_text("1003: ")
        expect(page.locator("#switches")).to_be_hidden()
        expect(page.locator("h1")).to_have_text("Metric forwarder")
        keep_picture(page, "serve")
    levels = re.findall(r'"level":"(\w+)"', served.log.read_text())
    assert "ERROR" in levels
    assert not {"DEBUG", "INFO"} & set(levels), "the page changes nothing about the log"


def test_each_request_is_a_line_without_its_query_if_that_is_asked_for(tmp_path: Path) -> None:
    with (
        Emulator() as receiver,
        serving_page(tmp_path, "--verbose", **settings_for(receiver), HTTP_TOKEN=TOKEN) as served,
    ):
        assert send(f"{served.url}/a/path?token=not-to-be-logged", point(1)) == 200
        with urlopen(f"{served.url}/healthz", timeout=20):
            pass
        with pytest.raises(HTTPError) as refused:
            urlopen(served.url, timeout=20)
        refused.value.close()
    lines = [json.loads(line) for line in served.log.read_text().splitlines()]
    accesses = [line for line in lines if line["event"] == "access"]
    assert [(line["method"], line["path"], line["status"]) for line in accesses] == [
        ("POST", "/a/path", 200),
        ("GET", "/", refused.value.code),
    ]
    assert all(line["time"] and line["ms"] >= 0 and line["client"] == "127.0.0.1" for line in accesses)
    assert "not-to-be-logged" not in served.log.read_text()


def test_another_web_page_cannot_read_the_page_of_serve(tmp_path: Path) -> None:
    with Emulator() as receiver, serving_page(tmp_path, **settings_for(receiver), HTTP_TOKEN=TOKEN) as served:
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{served.page}-/activity", headers={"Host": "evil.example"}), timeout=20)
        refused.value.close()
    assert refused.value.code == 403
