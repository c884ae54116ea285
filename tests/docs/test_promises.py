"""Each promise of the README names the tests that hold it, and they exist."""

import re

import pytest

from support.harness import ROOT

ROWS = dict(
    re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "promises.md").read_text("utf-8"), re.MULTILINE)
)


def promised() -> list[str]:
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## What is promised")[2].partition("\n## ")[0]
    return re.findall(r"^(\d+)\. ", section, re.MULTILINE)


def test_every_promise_has_its_row_and_every_row_its_promise() -> None:
    assert list(ROWS) == promised()


@pytest.mark.parametrize("number", ROWS)
def test_the_tests_that_hold_a_promise_exist(number: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", ROWS[number])
    assert named
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text("utf-8")
