"""The file ``.env`` beside ``serverless.yml``, read as the Serverless CLI reads it, so that both deploy the same."""

import re
from pathlib import Path
from typing import NamedTuple

from metric_forwarder.errors import ConfigError

# As in dotenv 8, which the Serverless CLI uses: a line that begins with ``export`` is not an assignment.
_ASSIGNMENT = re.compile(r"\s*([\w.-]+)\s*=\s*(.*?)\s*")
_COMMENT = re.compile(r"(^|\s)#")
_HALF_QUOTED = re.compile(r"""^['"]|['"]$""")
_QUOTED = re.compile(r"""(['"])(.*)\1""")


class Dotenv(NamedTuple):
    """The contents of a ``.env`` file.

    Attributes:
        values: by name, without the quotes around a value, and without what ``problems`` name in it.
        problems: what is wrong with it, such as a value that seems to be followed by a comment; never a value, which may be
            a key.
    """

    values: dict[str, str]
    problems: list[str]


def parse(path: Path) -> Dotenv:
    """Read the file; a file that does not exist is empty."""
    if not path.is_file():
        return Dotenv({}, [])
    try:
        # Some editors begin a file with a byte order mark; ``splitlines`` would also end a line at U+2028 and others.
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        return Dotenv({}, [f"{path.name} is not UTF-8: save it in that encoding"])
    except OSError as error:
        return Dotenv({}, [f"{path.name} cannot be read ({error.strerror})"])
    written = {match[1]: match[2] for match in filter(None, map(_ASSIGNMENT.fullmatch, lines))}
    # The text is not shown, since it may hold a key.
    problems = [
        f"{path.name}: line {number} is not NAME=value, so it would be ignored: correct it, without export before the name "
        "and with the whole value on the line, or make it a comment"
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#") and not _ASSIGNMENT.fullmatch(line)
    ]
    problems += [
        f'{name} in {path.name}: what follows "#" would become part of the value: put the comment on a line of its own, '
        "or the value in quotes"
        for name, value in written.items()
        if _COMMENT.search(value) and not _QUOTED.fullmatch(value)
    ]
    problems += [
        f"{name} in {path.name}: a quote at one end would become part of the value: write one at both ends, or remove it"
        for name, value in written.items()
        if _HALF_QUOTED.search(value) and not _QUOTED.fullmatch(value)
    ]
    return Dotenv({name: _as_meant(value) for name, value in written.items()}, problems)


def read_dotenv(path: Path) -> dict[str, str]:
    """The assignments of a ``.env`` file; none if there is no such file.

    Raises:
        ConfigError: it cannot be read, or a value seems to be followed by a comment, which would become part of the value.
    """
    values, problems = parse(path)
    if problems:
        raise ConfigError(problems)
    return values


def _as_meant(value: str) -> str:
    """The value without quotes, and without a comment or a half quote: these are reported, so the rest can be checked, too."""
    if not _QUOTED.fullmatch(value):
        value = _COMMENT.split(value, maxsplit=1)[0].strip()
    return unquoted(value) if _QUOTED.fullmatch(value) else _HALF_QUOTED.sub("", value)


def unquoted(value: str) -> str:
    """The value without quotes around it."""
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted else value
