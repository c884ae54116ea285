"""Deploy ``serverless.yml`` with the Serverless CLI, after a check that every variable that it refers to is set.

The CLI silently leaves out a ``${env:NAME}`` that is not set; the result could be a function without its VPC. With the arguments
``check`` and the extras of the package, only the check is made, before the package is built.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Imports only modules of the package that need no other package: this runs before anything is installed.
sys.path.insert(0, str(ROOT / "src"))

from metric_forwarder.cli.deployment.description import setting_problems  # noqa: E402
from metric_forwarder.cli.deployment.dotenv import Dotenv, parse, unquoted  # noqa: E402
from metric_forwarder.cli.deployment.env_variables import (  # noqa: E402
    REFERENCE,
    is_required,
    references,
    strays,
    unreferenced,
    without_comments,
)
from metric_forwarder.cli.deployment.file_settings import files_of_clone  # noqa: E402
from metric_forwarder.settings.extras import needed_extras  # noqa: E402

# The program of the Serverless Cloud Framework, and those of the older Serverless Framework.
CLIENTS = ("scf", "serverless", "sls")

# A line with a setting of the function and its value.
_SETTING = re.compile(r"\s+(MF_\w+):\s*(.+?)\s*(?:\s#.*)?")

# Without this variable, the Serverless CLI uses another vendor's service on every machine outside China's time zone.
_VENDOR = {"SERVERLESS_PLATFORM_VENDOR": "tencent"}

NO_CLIENT = (
    "No Serverless CLI (scf, serverless or sls) is on PATH. Either install one:\n"
    "    npm install --global serverless-cloud-framework    (Tencent Cloud's own)\n"
    "    npm install --global serverless@2                  (the one it is based on)\n"
    'or run `make package` and upload the zip in the console: docs/deploy.md, section "Without the CLI".'
)
MISSING = (
    "serverless.yml refers to variables that are set neither in the environment nor in .env: {}\n"
    "Set them, or delete the lines that you do not need. (A line of .env is NAME=value, without export.)"
)
LACKING = "serverless.yml has settings that need an extra of the package. Run: make serverless EXTRAS={}"


def main(extras: str | None) -> int:
    """Deploy; or, with the extras of a package that will be built, only check."""
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
    """Yield each problem that prevents a deployment."""
    if client is None:
        yield NO_CLIENT
    yield from written.problems
    known = {**written.values, **environ}
    lines = without_comments((ROOT / "serverless.yml").read_text("utf-8").splitlines())
    missing = unset(lines, known)
    if missing:
        yield MISSING.format(", ".join(missing))
    yield from strays(written.values, environ)
    yield from unreferenced(written.values, environ, ROOT / "serverless.yml", ".env")
    settings = function_settings(lines, known)
    yield from setting_problems(settings, known.get("DEPLOY_REGION", ""), files_of_clone(ROOT))
    if extras is not None:
        asked = {extra.strip() for extra in extras.split(",") if extra.strip()}
        needed = set(needed_extras(settings))
        if not needed <= asked:
            yield LACKING.format(",".join(sorted(needed | asked)))


def unset(lines: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Return the variables that ``serverless.yml`` refers to and that are not set, in the order of the file."""
    return [
        name for name in dict.fromkeys(references(lines)) if not known.get(name) and is_required(name, known)
    ]


def function_settings(lines: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the deployed function would have; those without a value are left out."""
    settings = {match[1]: match[2] for match in map(_SETTING.fullmatch, lines) if match}
    texts = {
        name: REFERENCE.sub(lambda match: known.get(match[1], ""), unquoted(text))
        for name, text in settings.items()
    }
    return {name: text for name, text in texts.items() if text}


if __name__ == "__main__":
    sys.exit(main(sys.argv[2] if sys.argv[1:2] == ["check"] else None))
