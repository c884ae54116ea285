"""Deploy ``serverless.yml`` with the Serverless CLI, once everything it refers to is set.

The CLI leaves out a ``${env:NAME}`` that is not set, in silence: a function without its VPC would be the result. With
the arguments ``check`` and the extras of the package it is only looked whether there is anything in the way, before that is
built.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the package only what needs no other package is imported: this runs before anything is installed.
sys.path.insert(0, str(ROOT / "src"))

from metric_forwarder.cli.deployment.description import is_required, setting_problems, strays  # noqa: E402
from metric_forwarder.cli.deployment.dotenv import Dotenv, parse, unquoted  # noqa: E402
from metric_forwarder.settings.extras import needed_extras  # noqa: E402

# Serverless Cloud Framework's own name for itself, and those of the Serverless Framework before it.
CLIENTS = ("scf", "serverless", "sls")

# A setting of the function, and what it says.
_SETTING = re.compile(r"\s+(MF_\w+):\s*(.+?)\s*(?:\s#.*)?")
_NAME = re.compile(r"\$\{env:(\w+)\}")

# Without it the Serverless CLI asks another vendor's service on every machine outside China's time zone.
_VENDOR = {"SERVERLESS_PLATFORM_VENDOR": "tencent"}

NO_CLIENT = (
    "No Serverless CLI (scf, serverless or sls) is on PATH. Either install one:\n"
    "    npm install --global serverless-cloud-framework    (Tencent Cloud's own)\n"
    "    npm install --global serverless@2                  (what it came from)\n"
    'or upload what `make package` builds in the console: docs/deploy.md, section "Without the CLI".'
)
MISSING = (
    "serverless.yml refers to what is set neither in the environment nor in .env: {}\n"
    "Set it, or delete the lines that you do not want. (A line of .env is NAME=value, without export.)"
)
LACKING = "serverless.yml asks for what comes with an extra only. Run: make serverless EXTRAS={}"


def main(extras: str | None) -> int:
    """Check with the extras of a package that is to be built, or deploy."""
    client = next(filter(None, map(shutil.which, CLIENTS)), None)
    problems = list(obstacles(client, extras, parse(ROOT / ".env"), os.environ))
    if client is None or problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    return (
        0
        if extras is not None
        else subprocess.run([client, "deploy"], cwd=ROOT, check=False, env=_VENDOR | os.environ).returncode
    )


def obstacles(
    client: str | None, extras: str | None, written: Dotenv, environ: Mapping[str, str]
) -> Iterator[str]:
    """What has to be seen to before anything can be deployed."""
    if client is None:
        yield NO_CLIENT
    yield from written.problems
    known = {**written.values, **environ}
    lines = (ROOT / "serverless.yml").read_text("utf-8").splitlines()
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    missing = unset(lines, known)
    if missing:
        yield MISSING.format(", ".join(missing))
    yield from strays(written.values, environ)
    settings = function_settings(lines, known)
    yield from setting_problems(settings, known.get("DEPLOY_REGION", ""))
    if extras is not None:
        asked = {extra.strip() for extra in extras.split(",") if extra.strip()}
        needed = set(needed_extras(settings))
        if not needed <= asked:
            yield LACKING.format(",".join(sorted(needed | asked)))


def unset(lines: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """The variables that ``serverless.yml`` refers to and nobody has set, in its order."""
    names = [name for line in lines for name in _NAME.findall(line)]
    return [name for name in dict.fromkeys(names) if not known.get(name) and is_required(name, known)]


def function_settings(lines: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The settings that the function would have: those that are not set are left out."""
    settings = {match[1]: match[2] for match in map(_SETTING.fullmatch, lines) if match}
    texts = {
        name: _NAME.sub(lambda match: known.get(match[1], ""), unquoted(text))
        for name, text in settings.items()
    }
    return {name: text for name, text in texts.items() if text}


if __name__ == "__main__":
    sys.exit(main(sys.argv[2] if sys.argv[1:2] == ["check"] else None))
