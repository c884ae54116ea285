"""The documents are true: their tables, their links, and the commands they tell to type."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from metric_forwarder.cli import reference, settings_in_chinese
from metric_forwarder.cli.commands import forwarder
from metric_forwarder.cli.events import JOBS, events
from metric_forwarder.cli.prometheus_server import find_program
from metric_forwarder.cli.sample_events import TEMPLATES
from metric_forwarder.settings.settings import SETTINGS
from support.command_line import ROOT, child_environ, on_terminal

READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = (
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


# --- tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.GENERATED)
def test_what_is_generated_is_up_to_date(name: str) -> None:
    part, generate = reference.GENERATED[name]
    remedy = "run: python -m metric_forwarder.cli.reference"
    renewed = reference.renewed(_text(name), part, generate(), is_yaml=name.endswith(".yml"))
    assert renewed == _text(name), remedy


def _named(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_setting_has_a_chinese_meaning_that_names_the_same_values() -> None:
    assert list(settings_in_chinese.MEANINGS) == [each.name for each in SETTINGS]
    for each in SETTINGS:
        chinese = settings_in_chinese.MEANINGS[each.name]
        assert re.search(r"[\u4e00-\u9fff]", chinese), each.name
        assert _named(each.meaning) <= _named(chinese), each.name


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_a_point_with_a_timestamp_costs_less_than_the_readme_says(name: str) -> None:
    said = re.search(r"(\d+) µs", (ROOT / name).read_text("utf-8"))
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    row = r"^\| (?:timestamp in seconds|timestamp in ms|timestamp as a float|RFC 3339), .* \| ([\d.]+) µs against"
    measured = [float(figure) for figure in re.findall(row, page, re.MULTILINE)]
    assert said is not None
    assert len(measured) == 4 * 3  # requests of 30 points, of 500, and remote write
    assert max(measured) < int(said[1])


def test_every_command_and_every_option_is_in_the_reference() -> None:
    text = _text("docs/cli.md")
    for name, command in forwarder.commands.items():
        section = text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
        options = [option for p in command.params if isinstance(p, click.Option) for option in p.opts]
        assert section, name
        assert [option for option in options if option not in section] == []
        assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_the_help_of_events_names_every_kind() -> None:
    told = re.search(r"KIND is (.+?)\.\s", events.help or "", re.DOTALL)
    assert told
    kinds = set(re.findall(r"[a-z-]+", re.sub(r"\([^)]*\)", "", told[1])))
    assert {*TEMPLATES, *JOBS} <= kinds


def test_a_document_without_the_place_for_what_is_generated_is_reported() -> None:
    with pytest.raises(ValueError, match="no part settings: write <!-- generated: settings -->"):
        reference.renewed("# A document\n", "settings", "a table")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_holds_the_marks_of_a_merge(name: str) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", _text(name), re.MULTILINE)


# --- links and targets --------------------------------------------------------------------------------------


def _anchors(text: str) -> set[str]:
    """The anchors of headings, as they are made for Markdown on the web."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_within_the_project_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", _text(name)):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.is_file(), link
            assert not anchor or anchor in _anchors(target.read_text("utf-8")), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_that_is_named_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"^(?:`)?make (?:PYTHON=\S+ )?([a-z-]+)", _text(name), re.MULTILINE))
    assert named <= targets


# --- the commands, typed in ---------------------------------------------------------------------------------


def _blocks(name: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", _text(name), re.MULTILINE | re.DOTALL)


TRANSLATED = [
    (f"docs/{path.name}", f"docs/zh/{path.name}") for path in sorted((ROOT / "docs" / "zh").glob("*.md"))
]


def _code(name: str) -> list[str]:
    """Every block of code, without its comments."""
    blocks = re.findall(r"^ *```(?:sh|yaml|json)\n.*?^ *```$", _text(name), re.MULTILINE | re.DOTALL)
    return [re.sub(r"^#.*\n| +# .*$", "", block, flags=re.MULTILINE) for block in blocks]


def _figures(name: str) -> list[list[str]]:
    """What each row of its tables quotes, and the numbers in it."""
    rows = [line for line in _text(name).splitlines() if line.startswith("|")]
    return [sorted({*re.findall(r"`[^`]+`", row), *re.findall(r"\d+(?:,\d+)*", row)}) for row in rows]


def test_the_chinese_readme_has_the_same_code_and_as_many_sections() -> None:
    english, chinese = READMES
    assert _code(english) == _code(chinese)
    levels = [re.findall(r"^#+(?= )", _text(name), re.MULTILINE) for name in READMES]
    assert levels[0] == levels[1]


@pytest.mark.parametrize(("english", "chinese"), TRANSLATED)
def test_the_tables_of_a_translation_have_the_same_figures_and_names(english: str, chinese: str) -> None:
    assert _figures(english) == _figures(chinese)


def _program(folder: Path, name: str, python: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {python} "$@"\n', encoding="utf-8")
    path.chmod(0o755)


_CURL = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``metric-forwarder`` and ``curl`` are there, whatever is installed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    _program(programs, "metric-forwarder", "-m metric_forwarder")
    _program(programs, "curl", f"-c '{_CURL}'")
    environ = child_environ()
    return {**environ, "PATH": f"{programs}{os.pathsep}{environ['PATH']}"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _typed(block: str, port: int) -> str:
    """The block, in this environment in the place of .venv and on a port that is free here."""
    lines = [line for line in block.splitlines() if not line.startswith(". .venv")]
    text = "\n".join(["set -e", *lines]).replace(":8080", f":{port}")
    return text.replace("metric-forwarder emulator", f"exec metric-forwarder emulator --port {port}")


@pytest.mark.slow
def test_the_first_event_sent_by_hand_arrives(shell: dict[str, str], tmp_path: Path) -> None:
    in_one_terminal, in_another = _blocks("README.md")[1:3]
    port = _free_port()
    server = subprocess.Popen(
        ["/bin/sh", "-c", _typed(in_one_terminal, port)], env=shell, stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert server.stdout is not None
        printed = ""
        while "export METRIC_FORWARDER_PAGE" not in printed:
            line = server.stdout.readline()
            assert line, "the emulator never listened"
            printed += line
        shown = _on_a_terminal(_typed(in_another, port), shell, tmp_path)
    finally:
        server.terminate()
        server.communicate(timeout=20)
    points = json.loads(shown[shown.rindex("[{") :])
    assert [p["metricName"] for p in points] == ["diskusage", "diskusage", "diskusage", "cpuload"]
    exports = [line for line in in_another.splitlines() if line.startswith("export")]
    assert [line.strip() for line in printed.splitlines() if "  export " in line] == [
        line.replace(":8080", f":{port}") for line in exports
    ]
    assert _without_times(shown).startswith(_without_times(_expected("README.md")[1]))


def _on_a_terminal(script: str, environ: dict[str, str], folder: Path) -> str:
    """What a script shows on a terminal without colours."""
    done = on_terminal(["/bin/sh", "-c", script], environ, folder, columns=80, both=True)
    assert done.status == 0, done.out
    return done.out


def _expected(name: str) -> list[str]:
    """What the document says is shown, block by block, to where it leaves off."""
    blocks = re.findall(r"^```text\n(.*?)^```$", _text(name), re.MULTILINE | re.DOTALL)
    return [block.partition("…")[0] for block in blocks]


def _without_times(shown: str) -> str:
    """Without how long something took, and without the offsets of sample events, which are made from the time."""
    lines = (re.sub(r"\d+ ms$|(?<=@)\d{13}", "…", line.rstrip()) for line in shown.splitlines())
    return "\n".join(lines).strip()


@pytest.mark.slow
def test_the_sample_events_are_shown_as_the_document_shows_them(shell: dict[str, str]) -> None:
    shown = _on_a_terminal("metric-forwarder demo events", shell, ROOT)
    assert _without_times(shown).startswith(_without_times(_expected("README.md")[0]))
    if find_program() is not None or os.environ.get("CI"):
        (last,) = re.findall(r"^A Prometheus, sent .*$", _text("README.md"), re.MULTILINE)
        # How many they are is up to the events; that none is missing, to another test.
        assert last in re.sub(r"(\d+) of \1 ", "N of N ", " ".join(shown.split()))


def test_both_languages_show_the_same() -> None:
    assert _expected("README.md")[:2] == _expected("README.zh-CN.md")[:2]


@pytest.mark.slow
def test_what_check_shows_is_what_the_command_lines_document_shows(
    shell: dict[str, str], tmp_path: Path
) -> None:
    (typed,) = [block for block in _blocks("docs/cli.md") if block.startswith("echo 'cpu,")]
    blocks = re.findall(r"^```text\n(-  ok.*?)^```$", _text("docs/cli.md"), re.MULTILINE | re.DOTALL)
    done = on_terminal(["/bin/sh", "-c", typed], shell, tmp_path)
    assert (done.status, [done.out.split()]) == (0, [block.split() for block in blocks])


RUNNABLE = [
    line
    for block in _blocks("docs/cli.md")
    for line in block.splitlines()
    # Elsewhere: what runs until interrupted, needs a receiver or an account, or installs something.
    if "metric-forwarder" in line
    and not re.search(
        r"emulator|invoke|send|doctor|replay|serve|deploy|pip|demo events|--page|COMPLETE", line
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("line", RUNNABLE)
def test_what_the_command_lines_document_tells_to_type_can_be_typed(
    line: str, shell: dict[str, str], tmp_path: Path
) -> None:
    payload = '{"metricName": "up", "dimensions": {}, "value": 1, "namespace": "pc"}'
    (tmp_path / "payload.json").write_text(payload, encoding="utf-8")
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=tmp_path, env=shell, capture_output=True, check=False, timeout=60
    )
    # The example of an invalid value is meant to be one.
    assert done.returncode == (1 if '"12"' in line else 0), done.stderr
