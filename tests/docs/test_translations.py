"""Every page of docs/ has its Chinese partner in docs/zh/, and the two hold the same facts."""

import re
from pathlib import Path

import pytest

from support.harness import ROOT

DOCS = ROOT / "docs"
ENGLISH = sorted(DOCS.glob("*.md"))
TRANSLATED = [page for page in ENGLISH if (DOCS / "zh" / page.name).exists()]
PAIRS = {ROOT / "README.md": ROOT / "README.zh-CN.md", **{page: DOCS / "zh" / page.name for page in ENGLISH}}
each_page = pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)

BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", page.read_text("utf-8"))


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ .+$", prose(page), re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """The anchors of the page's headings, in their order."""
    titles = (heading.lstrip("#").strip().lower() for heading in headings(page))
    return [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code, without comments."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [(language, re.sub(r"(^|\s+)# .*$", "", text, flags=re.MULTILINE)) for language, text in found]


def rows(page: Path) -> list[int]:
    """How many cells each row of each table has."""
    lines = (line.replace(r"\|", "") for line in prose(page).splitlines() if line.startswith("|"))
    return [re.sub(r"`[^`]*`", "", line).count("|") for line in lines]


def items(page: Path) -> list[str]:
    """The mark of each item of a list, and the date of each decision."""
    return re.findall(r"^ *-(?= )|^\d\.(?= )|^\*\*\d{4}-\d\d-\d\d", prose(page), re.MULTILINE)


def links(page: Path) -> list[tuple[str, int]]:
    """Where each link leads: the English file, and the place of the heading in it."""
    partners = {chinese: english for english, chinese in PAIRS.items()}
    found = []
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))):
        if target.startswith("http"):
            found.append((target, -1))
            continue
        file = (page.parent / target).resolve() if target else page
        if file in (PAIRS.get(page), partners.get(page)):
            continue  # the link from one language to the other
        place = anchors(file).index(anchor) if anchor else -1
        found.append((str(partners.get(file, file)), place))
    return sorted(found)


def test_every_page_has_its_chinese_partner_and_the_other_way_round() -> None:
    assert [page.name for page in ENGLISH] == sorted(page.name for page in (DOCS / "zh").glob("*.md"))


@each_page
def test_a_translation_has_the_same_headings_and_blocks_of_code(page: Path) -> None:
    levels = [[heading.partition(" ")[0] for heading in headings(each)] for each in (page, PAIRS[page])]
    assert levels[0] == levels[1]
    assert blocks(page) == blocks(PAIRS[page])


@each_page
def test_a_translation_has_the_same_lists_tables_and_links(page: Path) -> None:
    assert items(page) == items(PAIRS[page])
    assert rows(page) == rows(PAIRS[page])
    assert links(page) == links(PAIRS[page])


@each_page
def test_each_of_two_partners_links_to_the_other(page: Path) -> None:
    assert f"\n[中文](zh/{page.name})\n" in page.read_text("utf-8")
    assert f"\n[English](../{page.name})\n" in PAIRS[page].read_text("utf-8")
