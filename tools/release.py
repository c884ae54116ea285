"""Build the files of a release, and prepare a release.

``release.py artefacts`` writes into ``dist/``: the zip of the function for each destination, which is built twice and compared;
the list of its packages, in CycloneDX; the SHA-256 of these files; and the release notes, from CHANGELOG.md.

``release.py prepare VERSION`` writes the version into pyproject.toml, the package and CHANGELOG.md, commits and tags. It does not
push, and refuses a tree with uncommitted changes.
"""

import argparse
import datetime as dt
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import package
import package_contents
import package_locks

ROOT = package_contents.ROOT
DIST = ROOT / "dist"
# Name of the zip → its extras: one zip for each destination, and one with everything.
ZIPS = {
    "metric-forwarder-receiver.zip": (),
    "metric-forwarder-prometheus.zip": ("remote-write",),
    "metric-forwarder-all.zip": package_contents.ALL_EXTRAS,
}
SBOM = "metric-forwarder.cdx.json"
# Where the Makefile installs the tool that writes it.
_CYCLONEDX = Path(sys.prefix) / "cyclonedx"
# The files that contain the version, and its name in each.
VERSIONED = {"pyproject.toml": "version", "src/metric_forwarder/__init__.py": "__version__"}
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_UNRELEASED = "## [Unreleased]\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the files of a release, and prepare a release.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("artefacts", help="build everything into dist/")
    commands.add_parser("prepare", help="write the version, commit and tag").add_argument("version")
    arguments = parser.parse_args()
    try:
        if arguments.command == "prepare":
            prepare(ROOT, arguments.version, dt.datetime.now(dt.timezone.utc).date())
        else:
            artefacts()
    except package_locks.Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


def artefacts() -> None:
    for name, extras in ZIPS.items():
        with tempfile.TemporaryDirectory() as scratch:
            package.build(extras, Path(scratch) / "first", DIST / name)
            again = Path(scratch) / name
            package.build(extras, Path(scratch) / "second", again)
            if again.read_bytes() != (DIST / name).read_bytes():
                raise package_locks.Refused(
                    f"{name} is not the same if it is built twice: find the difference before you release it"
                )
    write_sbom(DIST / SBOM)
    (DIST / "NOTES.md").write_text(notes((ROOT / "CHANGELOG.md").read_text("utf-8")), encoding="utf-8")
    sums = [f"{hashlib.sha256((DIST / name).read_bytes()).hexdigest()}  {name}" for name in (*ZIPS, SBOM)]
    (DIST / "SHA256SUMS").write_text("\n".join([*sums, ""]), encoding="utf-8")


def write_sbom(path: Path) -> None:
    """List the packages of all locks with their hashes; the tool validates the list against CycloneDX's schema."""
    lines = {
        line
        for lock in package_locks.TOOLS.glob("requirements*.lock")
        for line in lock.read_text("utf-8").splitlines()
    }
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as merged:
        merged.write("\n".join(sorted(line for line in lines if not line.startswith("#"))))
        merged.flush()
        subprocess.run(
            [
                *(sys.executable, "-m", "cyclonedx_py", "requirements", merged.name),
                *("--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--validate"),
                *("--output-file", str(path)),
            ],
            env=os.environ | {"PYTHONPATH": str(_CYCLONEDX)},
            check=True,
        )


def notes(changelog: str) -> str:
    """Return the newest section of the changelog that has a version."""
    sections = re.findall(r"^## \[[0-9][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return f"{sections[0].strip()}\n" if sections else "See CHANGELOG.md.\n"


def prepare(root: Path, version: str, today: dt.date) -> None:
    if not _VERSION.fullmatch(version):
        raise package_locks.Refused(f"{version!r} is not a version: it must be like 1.2.3")
    if _git(root, "status", "--porcelain"):
        raise package_locks.Refused("there are uncommitted changes: commit or remove them first")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    if _UNRELEASED not in changelog:
        raise package_locks.Refused("CHANGELOG.md has no section [Unreleased]: there is nothing to release")
    dated = changelog.replace(_UNRELEASED, f"{_UNRELEASED}\n## [{version}] - {today.isoformat()}\n", 1)
    (root / "CHANGELOG.md").write_text(dated, encoding="utf-8")
    for name, variable in VERSIONED.items():
        text = (root / name).read_text("utf-8")
        line = re.compile(rf'^{variable} = "[^"]*"$', re.MULTILINE)
        (root / name).write_text(line.sub(f'{variable} = "{version}"', text, count=1), encoding="utf-8")
    _git(root, "commit", "--all", "--message", f"Release {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    print(f"Committed and tagged v{version}. To publish it: git push --follow-tags")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["/usr/bin/env", "git", *arguments], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
