"""Deploy ``serverless.yml`` with the Serverless CLI, once everything it refers to is set.

The CLI leaves out a ``${env:NAME}`` that is not set, in silence: a function without its VPC would be the result. With
the argument ``check`` it is only looked whether there is anything in the way, before a package is built.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Serverless Cloud Framework's own name for itself, and those of the Serverless Framework before it.
CLIENTS = ("scf", "serverless", "sls")

_NAME = re.compile(r"\$\{env:(\w+)\}")
# As in the CLI's own reader, dotenv 8: a line that begins with ``export`` is none, and a comment has a line of its own.
_ASSIGNMENT = re.compile(r"\s*([\w.-]+)\s*=\s*(.*?)\s*")
_QUOTED = re.compile(r"""(['"])(.*)\1""")

NO_CLIENT = (
    "No Serverless CLI (scf, serverless or sls) is on PATH. Either install one:\n"
    "    npm install --global serverless-cloud-framework    (Tencent Cloud's own)\n"
    "    npm install --global serverless@2                  (what it came from)\n"
    'or upload what `make package` builds in the console: docs/deploy.md, section "Without the CLI".'
)
COMMENTED = (
    '{} in .env: what follows " #" would become part of the value. Put a comment on a line of its own; a value that '
    "holds one stands in quotes."
)
MISSING = (
    "serverless.yml refers to what is set neither in the environment nor in .env: {}\n"
    "Set it, or delete the lines that you do not want. (A line of .env is NAME=value, without export.)"
)


def main(*, only_check: bool) -> int:
    client = next(filter(None, map(shutil.which, CLIENTS)), None)
    problems = list(obstacles(client, dotenv(ROOT / ".env"), os.environ))
    if client is None or problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    return 0 if only_check else subprocess.run([client, "deploy"], cwd=ROOT, check=False).returncode


def obstacles(client: str | None, written: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
    """What has to be seen to before anything can be deployed."""
    if client is None:
        yield NO_CLIENT
    for name, value in written.items():
        if " #" in value and not _QUOTED.fullmatch(value):
            yield COMMENTED.format(name)
    missing = unset(ROOT, {**{name: _unquoted(value) for name, value in written.items()}, **environ})
    if missing:
        yield MISSING.format(", ".join(missing))


def unset(root: Path, known: Mapping[str, str]) -> list[str]:
    """The variables that ``serverless.yml`` refers to and nobody has set, in its order."""
    lines = (root / "serverless.yml").read_text("utf-8").splitlines()
    names = [name for line in lines if not line.lstrip().startswith("#") for name in _NAME.findall(line)]
    return [name for name in dict.fromkeys(names) if not known.get(name)]


def dotenv(path: Path) -> dict[str, str]:
    """The assignments of a ``.env`` file, if there is one, as they are written."""
    if not path.is_file():
        return {}
    matches = map(_ASSIGNMENT.fullmatch, path.read_text("utf-8").splitlines())
    return {match[1]: match[2] for match in matches if match}


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted[2] if quoted else value


if __name__ == "__main__":
    sys.exit(main(only_check=sys.argv[1:] == ["check"]))
