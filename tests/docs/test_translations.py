"""Every page of docs/ has its Chinese partner in docs/zh/, and the two hold the same facts."""

# ruff: noqa: RUF001 - the punctuation of Chinese

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


# What a word of these stands for, and the word that this project uses.
OTHER_WORDS = {
    r"成员": "字段",
    r"信封": "公共字段的外层对象（envelope）",
    r"网桥|桥接(?!接口)": "桥接接口（bridge）",
    r"执行角色|函数(自己)?的角色": "运行角色",
    r"函数的超时|执行超时(?!时间)": "执行超时时间",
    r"(?<!原)云监控": "腾讯云可观测平台（原云监控）",
    r"时间戳较粗": "时间戳精度较低",
    r"附加(消息|参数)": "附加信息",
    r"(?<!暂存区（)\bspool\b": "暂存区",
    r"(?<!公共字段的)外层对象（": "公共字段的外层对象（envelope）",
}
IN_ENGLISH_AT_FIRST = {"暂存区": "spool", "桥接接口": "bridge", "外层对象": "envelope"}
CHINESE_TEXTS = [
    *PAIRS.values(),
    ROOT / "deploy" / "dashboards" / "cls.json",
    ROOT / "deploy" / "dashboards" / "grafana.zh-CN.json",
    *(ROOT / "deploy" / "alerts").glob("*"),
    ROOT / "src" / "receiver_emulator" / "web" / "words.js",
    ROOT / "src" / "metric_forwarder" / "cli" / "settings_in_chinese.py",
    ROOT / ".env.example",
]


def chinese_lines(file: Path) -> list[str]:
    """The lines with Chinese in them, without code and without the addresses of links."""
    lines = (re.sub(r"`[^`]*`|\]\([^)]*\)|[\w/-]+\.md\b", "", line) for line in prose(file).splitlines())
    return [line for line in lines if re.search("[一-鿿]", line)]


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


@pytest.mark.parametrize("file", CHINESE_TEXTS, ids=lambda file: file.name)
def test_a_chinese_text_has_one_word_for_one_thing(file: Path) -> None:
    lines = chinese_lines(file)
    assert lines
    found = [
        (line, right) for line in lines for other, right in OTHER_WORDS.items() if re.search(other, line)
    ]
    assert found == []


@pytest.mark.parametrize("page", PAIRS.values(), ids=lambda page: page.name)
def test_a_chinese_page_gives_the_english_word_where_it_first_uses_one_of_its_own(page: Path) -> None:
    text = "\n".join(chinese_lines(page))
    for word, english in IN_ENGLISH_AT_FIRST.items():
        assert word not in text or text.split(word, 1)[1].startswith(f"（{english}）"), word
