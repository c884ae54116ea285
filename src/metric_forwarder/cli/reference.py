"""The generated parts of the documents: ``python -m metric_forwarder.cli.reference`` rewrites them in place.

The commands' own help becomes the reference in ``docs/cli.md`` and ``docs/zh/cli.md``, the declarations of
``settings.settings`` the settings tables of both READMEs and the variables of ``serverless.yml``. Run it in the
project's folder.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from metric_forwarder.cli import settings_in_chinese
from metric_forwarder.cli.commands import forwarder
from metric_forwarder.destinations.table import DESTINATIONS
from metric_forwarder.settings.settings import SETTINGS

_UNWRAPPED = "\b"


def commands() -> str:
    """The reference of all commands, in Markdown."""
    return "\n".join(line for name, command in forwarder.commands.items() for line in _command(name, command))


def _command(name: str, command: click.Command) -> Iterator[str]:
    path = f"metric-forwarder {name}"
    usage = " ".join([path, *command.collect_usage_pieces(click.Context(command, info_name=path))])
    yield from (f"### `{name}`", "", "```text", usage, "```", "")
    for paragraph in (command.help or "").split("\n\n"):
        yield from (" ".join(paragraph.split()), "")
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield from ("| option | meaning |", "|---|---|", *map(_option, options), "")
    examples = (command.epilog or "").removeprefix(_UNWRAPPED).strip().splitlines()[1:]
    yield from ("```sh", *(line.strip() for line in examples), "```", "")


def _option(option: click.Option) -> str:
    written = " ".join([", ".join(option.opts), option.metavar or ""]).strip()
    notes = ["required"] if option.required else []
    if option.show_default:
        notes.append(
            f"default: {option.show_default if isinstance(option.show_default, str) else option.default}"
        )
    note = f" [{', '.join(notes)}]" if notes else ""
    return f"| `{written}` | {_cell((option.help or '') + note)} |"


def settings() -> str:
    """The settings table, in Markdown."""
    return _table("| variable | default | meaning |", _meanings(), "; {} for `{}`")


def _meanings() -> dict[str, str]:
    meanings = {each.name: each.meaning for each in SETTINGS}
    told = {name: kind.meaning for name, kind in DESTINATIONS.items()}
    *others, last = _destinations(told, " ({})")
    meanings["MF_DESTINATION"] = _filled(meanings["MF_DESTINATION"], f"{', '.join(others)} or {last}")
    return meanings


def serverless_settings() -> str:
    """All settings as variables of the deployed function, each with its meaning and its defaults as a comment."""
    meanings = _meanings()
    lines = []
    for each in SETTINGS:
        defaults = [each.default] if each.default else []
        defaults += [f"{default} for {name}" for name, default in _other_defaults(each.name)]
        in_brackets = f" ({'; '.join(defaults)})" if defaults else ""
        lines += [f"      # {meanings[each.name]}{in_brackets}", f"      {each.name}: ${{env:{each.name}}}"]
    return "".join(f"{line}\n" for line in lines)


def settings_in_chinese_table() -> str:
    """The settings table in Chinese, in Markdown."""
    meanings = dict(settings_in_chinese.MEANINGS)
    *others, last = _destinations(settings_in_chinese.DESTINATIONS, settings_in_chinese.IN_BRACKETS)
    meanings["MF_DESTINATION"] = _filled(meanings["MF_DESTINATION"], f"{'、'.join(others)} 或 {last}")
    return _table(settings_in_chinese.HEADING, meanings, settings_in_chinese.ELSEWHERE)


def _table(heading: str, meanings: Mapping[str, str], elsewhere: str) -> str:
    """The rows of all settings; ``elsewhere`` is the text for a destination with another default."""
    rows = [heading, "|---|---|---|"]
    for each in SETTINGS:
        others = (elsewhere.format(default, name) for name, default in _other_defaults(each.name))
        meaning = meanings[each.name] + "".join(others)
        rows.append(f"| `{each.name}` | {_default(each.default)} | {_cell(meaning)} |")
    return "\n".join(rows)


def _other_defaults(setting: str) -> list[tuple[str, str]]:
    """The destinations for which a setting has another default, each with that default."""
    return [(name, kind.defaults[setting]) for name, kind in DESTINATIONS.items() if setting in kind.defaults]


def _destinations(meanings: Mapping[str, str], form: str) -> list[str]:
    return [
        f"`{name}`" + (form.format(meanings[name]) if meanings.get(name) else "") for name in DESTINATIONS
    ]


def _filled(meaning: str, destinations: str) -> str:
    return meaning.replace("{destinations}", destinations)


def _default(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


GENERATED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "docs/cli.md": ("commands", commands),
    "docs/zh/cli.md": ("commands", commands),
    "README.md": ("settings", settings),
    "README.zh-CN.md": ("settings", settings_in_chinese_table),
    "serverless.yml": ("settings", serverless_settings),
}
"""File → the name of its generated part, and what generates it."""


def renewed(text: str, part: str, content: str, *, is_yaml: bool = False) -> str:
    """Return a document with one part replaced: the text between its two comments."""
    begin, end = f"<!-- generated: {part} -->\n", f"<!-- end of {part} -->"
    if is_yaml:
        begin, end = f"# generated: {part}\n", f"      # end of {part}"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the document has no part {part}: write {begin.strip()} and {end} where it belongs")
    if is_yaml:
        return f"{before}{begin}{content}{end}{after}"
    return f"{before}{begin}\n{content.strip()}\n\n{end}{after}"


def renewed_file(name: str) -> str:
    """The text of a file as it should be."""
    part, generate = GENERATED[name]
    return renewed(Path(name).read_text("utf-8"), part, generate(), is_yaml=name.endswith(".yml"))


def main() -> None:
    for name in GENERATED:
        Path(name).write_text(renewed_file(name), encoding="utf-8")


if __name__ == "__main__":
    main()
