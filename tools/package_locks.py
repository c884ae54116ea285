"""The lock files from which the package is built: each dependency with its version and the digest of its file.

They are resolved from ``pyproject.toml`` under Python 3.10, since pip judges the conditions of a dependency by the interpreter
that runs it.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent
PYPROJECT = TOOLS.parent / "pyproject.toml"
# Extras that are not for the function: the command line, and the tools of developers.
OTHER_EXTRAS = ("cli", "dev")
RUNTIME = (3, 10)
TARGET = (
    "--platform=manylinux2014_x86_64",
    "--implementation=cp",
    "--python-version=3.10",
    "--only-binary=:all:",
)


class Refused(Exception):
    """The command cannot be executed; the text says why, and what to do."""


def lock_files(extras: Sequence[str]) -> list[Path]:
    """Return the lock files of a package with these extras; raises ``Refused`` if one does not exist."""
    paths = [lock_file(), *map(lock_file, extras)]
    for path in paths:
        if not path.is_file():
            others = sorted(
                other.stem.removeprefix("requirements-") for other in TOOLS.glob("requirements-*.lock")
            )
            raise Refused(
                f"there is no {path.name}: the extras are {', '.join(others)}; for another one of pyproject.toml, run: make lock"
            )
    return paths


def lock_file(extra: str = "") -> Path:
    return TOOLS / (f"requirements-{extra}.lock" if extra else "requirements.lock")


def lock() -> None:
    """Resolve the dependencies of the function and of each of its extras, and write the lock files."""
    if sys.version_info[:2] != RUNTIME:
        raise Refused(
            "lock under Python 3.10, as the function runs: make lock PYTHON=python3.10, after make clean"
        )
    project = _project()
    dependencies: list[str] = project["dependencies"]
    base = _resolve(dependencies)
    _write(lock_file(), base)
    for extra, additional in sorted(_extras(project).items()):
        resolved = _resolve([*dependencies, *additional])
        moved = sorted(name for name in base if resolved[name] != base[name])
        if moved:
            raise Refused(
                f"the extra {extra} needs other versions of {', '.join(moved)}: narrow them in pyproject.toml"
            )
        _write(lock_file(extra), {name: line for name, line in resolved.items() if name not in base})


def _resolve(requirements: Sequence[str]) -> dict[str, str]:
    """Return the line of each dependency, with version and digest, by the name of its package."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        pip_install(
            "--dry-run", "--ignore-installed", f"--target={scratch}", f"--report={report}", *requirements
        )
        decisions = json.loads(report.read_text("utf-8"))["install"]
    resolved = {}
    for decision in decisions:
        name = re.sub(r"[-_.]+", "-", decision["metadata"]["name"]).lower()
        digest = decision["download_info"]["archive_info"]["hashes"]["sha256"]
        resolved[name] = f"{name}=={decision['metadata']['version']} --hash=sha256:{digest}"
    return resolved


def _write(path: Path, lines: Mapping[str, str]) -> None:
    path.write_text(
        "\n".join(["# Written by: make lock", *(lines[name] for name in sorted(lines)), ""]), encoding="utf-8"
    )


def _project() -> Mapping[str, Any]:
    # Only a lock needs it, and Python 3.10 has no such module of its own: the developers' environment does.
    import tomli  # noqa: PLC0415

    with PYPROJECT.open("rb") as file:
        project: Mapping[str, Any] = tomli.load(file)["project"]
    return project


def _extras(project: Mapping[str, Any]) -> dict[str, list[str]]:
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return {name: lines for name, lines in extras.items() if name not in OTHER_EXTRAS}


def pip_install(*arguments: str) -> None:
    """Install for the function's platform; pip's own configuration says where packages come from, and what to trust."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        *TARGET,
        *arguments,
    ]
    subprocess.run(command, check=True)
