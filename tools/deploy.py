"""Deploy ``serverless.yml`` with the Serverless CLI, once everything it refers to is set.

The CLI leaves out a ``${env:NAME}`` that is not set, in silence: a function without its VPC would be the result.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Serverless Cloud Framework's own name for itself, and those of the Serverless Framework before it.
CLIENTS = ("scf", "serverless", "sls")

_NAME = re.compile(r"\$\{env:(\w+)\}")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*")

NO_CLIENT = (
    "No Serverless CLI (scf, serverless or sls) is on PATH. Either install one:\n"
    "    npm install --global serverless-cloud-framework    (Tencent Cloud's own)\n"
    "    npm install --global serverless@2                  (what it came from)\n"
    'or upload dist/metric-forwarder.zip in the console: docs/deploy.md, section "Without the CLI".'
)


def main() -> int:
    client = next(filter(None, map(shutil.which, CLIENTS)), None)
    if client is None:
        print(NO_CLIENT, file=sys.stderr)
        return 2
    missing = unset(ROOT, os.environ)
    if missing:
        print(
            "serverless.yml refers to what is set neither in the environment nor in .env: "
            f"{', '.join(missing)}\nSet it, or delete the lines that you do not want.",
            file=sys.stderr,
        )
        return 2
    return subprocess.run([client, "deploy"], cwd=ROOT, check=False).returncode


def unset(root: Path, environ: Mapping[str, str]) -> list[str]:
    """The variables that ``serverless.yml`` refers to and nobody has set, in its order."""
    lines = (root / "serverless.yml").read_text("utf-8").splitlines()
    names = [name for line in lines if not line.lstrip().startswith("#") for name in _NAME.findall(line)]
    known = {**dotenv(root / ".env"), **environ}
    return [name for name in dict.fromkeys(names) if not known.get(name)]


def dotenv(path: Path) -> dict[str, str]:
    """The assignments of a ``.env`` file, if there is one."""
    if not path.is_file():
        return {}
    matches = map(_ASSIGNMENT.fullmatch, path.read_text("utf-8").splitlines())
    return {match[1]: match[2].strip("'\"") for match in matches if match}


if __name__ == "__main__":
    sys.exit(main())
