"""The page a person opens at night says what the code does."""

import re

import pytest

from metric_forwarder.destinations.receiver_verdicts import CODES, STATUSES, status_rule
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from support.harness import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
PAGE_IN_CHINESE = (ROOT / "docs" / "zh" / "troubleshooting.md").read_text("utf-8")
WORDS_OF_THE_EMULATOR = (ROOT / "src" / "receiver_emulator" / "web" / "words.js").read_text("utf-8")


def code_row(code: ReturnCode) -> str:
    return f"| {int(code)} | {code.meaning} | {CODES[code].action.text} | {CODES[code].remedy} |"


def status_row(name: str, status: int) -> str:
    return f"| {name} | {status_rule(status).action.text} | {status_rule(status).remedy} |"


@pytest.mark.parametrize("code", list(ReturnCode))
def test_every_return_code_stands_there_with_what_is_done_about_it(code: ReturnCode) -> None:
    assert code_row(code) in PAGE.splitlines()


@pytest.mark.parametrize(
    ("name", "status"),
    [*((str(status), status) for status in STATUSES), ("other 5xx", 599), ("any other but 200", 302)],
)
def test_every_http_status_stands_there_with_what_is_done_about_it(name: str, status: int) -> None:
    assert status_row(name, status) in PAGE.splitlines()


def test_the_emulators_page_names_each_return_code_as_the_table_does_in_both_languages() -> None:
    english, chinese = WORDS_OF_THE_EMULATOR.split("zh: {")
    for words, table, name in (
        (english, PAGE, r"Return code (\d+): ([^\"]+)"),
        (chinese, PAGE_IN_CHINESE, r"返回码 (\d+)\W([^\"]+)"),
    ):
        names = re.findall(name, words)
        assert len(names) == 2
        for code, meaning in names:
            assert re.search(rf"^\| {code} \| [^|]*{meaning}", table, re.MULTILINE), meaning
