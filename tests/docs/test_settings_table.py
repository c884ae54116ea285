"""One list of settings: the code's, the READMEs' and that of ``serverless.yml`` say the same."""

import re
from typing import NamedTuple

from metric_forwarder.settings.settings import VARIABLES
from support import serverless_file
from support.harness import ROOT

DEFAULTS = {variable.name: variable.default for variable in VARIABLES}
READMES = ("README.md", "README.zh-CN.md")


class Row(NamedTuple):
    """A row of a settings table: the variables of its first cell, and its second cell."""

    names: tuple[str, ...]
    default: str


def rows(markdown: str) -> list[Row]:
    """The rows of Markdown tables that begin with a variable in backticks."""
    found = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        names = re.findall(r"`(MF_\w+)`", cells[0]) if len(cells) > 1 and cells[0].startswith("`MF_") else []
        if names:
            found.append(Row(tuple(names), cells[1]))
    return found


def disagreements(markdown: str) -> list[str]:
    """What a settings table says otherwise than the code."""
    table = rows(markdown)
    named = [name for row in table for name in row.names]
    wrong = [f"{name} is not in the table" for name in DEFAULTS if name not in named]
    wrong += [f"{name} is no setting" for name in named if name not in DEFAULTS]
    wrong += [f"{name} is there twice" for name in set(named) if named.count(name) > 1]
    for row in table:
        defaults = [DEFAULTS[name] for name in row.names if DEFAULTS.get(name)]
        wrong += [
            f"{row.names[0]}: the default is {default}" for default in defaults if default not in row.default
        ]
    return wrong


def test_the_readmes_list_every_setting_once_with_its_default() -> None:
    for readme in READMES:
        path = ROOT / readme
        if path.is_file():
            assert disagreements(path.read_text("utf-8")) == [], readme


def test_a_table_that_leaves_out_adds_or_changes_a_setting_is_noticed() -> None:
    lines = [f"| `{name}` | `{default}` | text |" for name, default in DEFAULTS.items()]
    assert disagreements("\n".join(lines)) == []
    assert disagreements("\n".join(lines[1:])) == ["MF_DESTINATION is not in the table"]
    assert disagreements("\n".join([*lines, "| `MF_OTHER` | | text |"])) == ["MF_OTHER is no setting"]
    assert disagreements("\n".join([*lines, lines[0]])) == ["MF_DESTINATION is there twice"]
    assert disagreements("\n".join(lines).replace("`30`", "`31`")) == [
        "MF_BATCH_MAX_POINTS: the default is 30"
    ]
    assert rows("| `MF_A`, `MF_B` | 1, 2 | a \\| b |") == [Row(("MF_A", "MF_B"), "1, 2")]


def test_serverless_yml_holds_every_setting_and_comments_out_those_at_their_default() -> None:
    told = serverless_file.settings(serverless_file.text())
    assert told.keys() == DEFAULTS.keys()
    for name, (in_force, value) in told.items():
        assert value in ({f"${{env:{name}}}"} if in_force else {f"${{env:{name}}}", DEFAULTS[name]}), name
