"""Read ``serverless.yml`` as the Serverless CLI does, with and without what is commented out."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from support.harness import ROOT

TOOLKIT = "tencent-component-toolkit"
TOOLKIT_VERSION = "2.27.6"

_REFERENCE = re.compile(r"\$\{env:(\w+)\}")
_SETTING = re.compile(r"      (?P<off># )?(?P<name>MF_\w+): (?P<value>.*)")
_COMMENTED_TRIGGER = re.compile(r"    # (- |  )")
_COMMENTED_INPUT = re.compile(r"  # (deadLetter:|cfs:|  )")


def text() -> str:
    return (ROOT / "serverless.yml").read_text("utf-8")


def with_everything() -> str:
    """The file with all of its triggers and other inputs uncommented; its settings as they are."""
    lines = (
        re.sub("# ", "", line, count=1)
        if _COMMENTED_TRIGGER.match(line) or _COMMENTED_INPUT.match(line)
        else line
        for line in text().split("\n")
    )
    return "\n".join(lines)


def load(source: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The ``inputs``, references resolved; one that is not set leaves its member out, as in the CLI."""
    inputs: dict[str, Any] = _resolve(yaml.safe_load(source)["inputs"], environ)
    return inputs


def references(source: str) -> list[str]:
    """The environment variables that the file refers to, comments apart."""
    return [
        name
        for line in source.split("\n")
        if not line.lstrip().startswith("#")
        for name in _REFERENCE.findall(line)
    ]


def required(source: str) -> list[str]:
    """Those of them that are neither a setting, which has a default, nor the role or a switch, which not everybody needs."""
    return [
        name
        for name in references(source)
        if name.startswith("DEPLOY_") and name != "DEPLOY_ROLE" and not name.startswith("DEPLOY_ENABLE_")
    ]


def settings(source: str) -> dict[str, tuple[bool, str]]:
    """Setting → whether it is in force, and the value that stands there."""
    found = filter(None, map(_SETTING.fullmatch, source.split("\n")))
    return {match["name"]: (not match["off"], str(yaml.safe_load(match["value"]))) for match in found}


def made_by_toolkit(inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The requests Tencent Cloud's toolkit would send; None without Node.js, which a continuous integration has."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        assert not os.environ.get("CI"), "Node.js and npm are needed here"
        return None
    folder = ROOT / "build" / f"toolkit-{TOOLKIT_VERSION}"
    package = folder / "node_modules" / TOOLKIT
    if not package.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run([npm, "install", *options, f"{TOOLKIT}@{TOOLKIT_VERSION}"], check=True, timeout=180)
    script = str(ROOT / "tests" / "support" / "format_with_toolkit.js")
    result = subprocess.run(
        [node, script, str(package)], input=json.dumps(inputs), capture_output=True, text=True, check=True
    )
    made: dict[str, Any] = json.loads(result.stdout)
    return made


def _resolve(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        resolved = {name: _resolve(member, environ) for name, member in value.items()}
        return {name: member for name, member in resolved.items() if member is not None}
    if isinstance(value, list):
        return [_resolve(member, environ) for member in value]
    whole = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return environ.get(whole[1]) if whole else value
