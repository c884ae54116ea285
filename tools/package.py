"""Build the package of the function, and the lock files it is built from.

``package.py build`` makes ``build/package/`` (what runs in the function, as a folder) and
``dist/metric-forwarder.zip`` (the same, as an archive) for SCF's Python 3.10 on x86-64, whatever machine it runs on.
With a Python 3.10 at hand it holds the bytecode of what every event needs: an instance cannot write any, and would
compile it all at every start. The same sources, locks and Python give the same bytes.

``package.py verify`` builds the package once more and compares it with an archive, such as one that was downloaded: it exits with 1
if they differ, and names what differs.

``package.py lock`` resolves the dependencies of ``pyproject.toml`` anew and writes ``requirements*.lock`` beside this
file. It runs under Python 3.10: pip judges a dependency's conditions by the interpreter it runs under.

Where packages come from, and which certificates are trusted, is for pip's own configuration and environment to say.
"""

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
# Of the package only what needs no other package is imported: this runs before anything is installed.
sys.path.insert(0, str(ROOT / "src"))

from metric_forwarder.settings.extras import EXTRAS  # noqa: E402

SOURCES = ("index.py", "metric_forwarder")
ALL_EXTRAS = tuple(EXTRAS)
# Not dependencies of the function: the command line, and what developers use.
OTHER_EXTRAS = ("cli", "dev")

TARGET = (
    "--platform=manylinux2014_x86_64",
    "--implementation=cp",
    "--python-version=3.10",
    "--only-binary=:all:",
)
RUNTIME = (3, 10)

# By the name of a file or folder, wherever it stands: nothing of this is imported in the function.
LEFT_OUT = (
    "__pycache__",
    "*.pyc",
    "*.pyi",
    "py.typed",
    "__main__.py",
    "*.dist-info",
    "bin",
    "tests",
    "benchmarks",
    "emscripten",  # urllib3 inside a browser
)
# Likewise, by place.
LEFT_OUT_PATHS = (
    # Command lines, and what only they ask for.
    "metric_forwarder/cli",
    "charset_normalizer/cli",
    "idna/cli.py",
    "jsonschema/cli.py",
    # Two of these are the same again, compiled: they guess the encoding of a text, which nothing here asks for.
    "charset_normalizer/*.so",
    # Names of hosts beyond ASCII, which no host here has.
    "idna/codec.py",
    "idna/uts46data.py",
    # Other ways to connect.
    "urllib3/contrib/pyopenssl.py",
    "urllib3/contrib/socks.py",
    "urllib3/http2/connection.py",
    "tencentcloud/common/*_async.py",
    "tencentcloud/common/http/*_async.py",
)
# What only a point that is not valid, a key in Secrets Manager, MF_MAPPING, or a person who asks for the doctor needs: its
# bytecode would not fit into the budget.
NOT_COMPILED = (
    "attr/*",
    "attrs/*",
    "charset_normalizer/constant.py",
    "idna/idnadata.py",
    "jsonschema/*",
    "metric_forwarder/clients/reachability.py",
    "metric_forwarder/clients/secrets_manager.py",
    "metric_forwarder/doctor.py",
    "metric_forwarder/formats/mapping*.py",
    "metric_forwarder/intake/explain.py",
    "metric_forwarder/scrape/*",
    "metric_forwarder/spool/redis_check.py",
    "referencing/*",
    "rpds/*",
    "tencentcloud/*",
    "typing_extensions.py",
)
LICENCES = "THIRD_PARTY_LICENSES.txt"
LICENCE_FILES = ("LICEN[CS]E*", "COPYING*", "NOTICE*")

# Of the files in which an archive differs.
SHOWN = 20

# The earliest time a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
# Regular file, readable by everyone: the function runs as another user than the one who packed.
MODE = 0o100644


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the package of the function.")
    commands = parser.add_subparsers(dest="command", required=True)
    build_command = commands.add_parser("build", help="make the folder and the zip")
    build_command.add_argument("--folder", type=Path, default=ROOT / "build" / "package")
    verify_command = commands.add_parser("verify", help="build again, and compare with the zip")
    for command in (build_command, verify_command):
        command.add_argument("--extras", default="", help="comma-separated, such as redis")
        command.add_argument("--zip", type=Path, default=ROOT / "dist" / "metric-forwarder.zip")
    commands.add_parser("lock", help="resolve the dependencies anew")
    arguments = parser.parse_args()
    try:
        if arguments.command == "lock":
            lock()
            return 0
        extras = [extra.strip() for extra in arguments.extras.split(",") if extra.strip()]
        if arguments.command == "verify":
            return verify(extras, arguments.zip)
        build(extras, arguments.folder, arguments.zip)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        # pip has said on standard error what was wrong.
        return int(error.returncode)
    return 0


class Refused(Exception):
    """What was asked for cannot be done; the text says why and what to do."""


def build(extras: Sequence[str], folder: Path, archive: Path) -> None:
    """Make the folder and the zip anew."""
    locks = [lock_file(), *map(lock_file, extras)]
    for path in locks:
        if not path.is_file():
            known = ", ".join(
                sorted(
                    other.stem.removeprefix("requirements-") for other in TOOLS.glob("requirements-*.lock")
                )
            )
            raise Refused(
                f"there is no {path.name}: the extras are {known}; another one of pyproject.toml takes a: make lock"
            )
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as installed:
        requirements = [f"--requirement={path}" for path in locks]
        _pip(
            "install",
            "--no-deps",
            "--require-hashes",
            "--no-compile",
            f"--target={installed}",
            *TARGET,
            *requirements,
        )
        copy(Path(installed), folder, list(relevant(Path(installed))))
        (folder / LICENCES).write_text(licences(Path(installed)), encoding="utf-8")
    sources = ROOT / "src"
    copy(sources, folder, [path for path in relevant(sources) if path.parts[0] in SOURCES])
    compile_ahead(folder, extras)
    write_zip(folder, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes; unpacked in {folder}")


def verify(extras: Sequence[str], archive: Path) -> int:
    """Compare an archive with one that is built now; the exit status."""
    if not archive.is_file():
        raise Refused(f"there is no {archive}: run make package, or name one with ZIP=")
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "again.zip"
        build(extras, Path(scratch) / "folder", again)
        if again.read_bytes() == archive.read_bytes():
            print(f"{archive}: the same bytes as these sources and locks give")
            return 0
        differing = differences(archive, again)
    print(f"{archive} differs from what these sources and locks give:", file=sys.stderr)
    print("\n".join(differing[:SHOWN]), file=sys.stderr)
    if len(differing) > SHOWN:
        print(f"… and {len(differing) - SHOWN} more", file=sys.stderr)
    return 1


def differences(archive: Path, again: Path) -> list[str]:
    """What differs between an archive and the one that was built again, a line each."""
    try:
        there, here = _checksums(archive), _checksums(again)
    except zipfile.BadZipFile:
        return ["it is no zip"]
    lines = [
        f"only in it: {name}"
        if name not in here
        else f"missing: {name}"
        if name not in there
        else f"other: {name}"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    # A Python or a zlib of another version packs the same files in another way.
    return lines or ["the files are the same; they are packed in another way"]


def _checksums(archive: Path) -> dict[str, int]:
    with zipfile.ZipFile(archive) as packed:
        return {entry.filename: entry.CRC for entry in packed.infolist()}


def relevant(root: Path) -> Iterator[Path]:
    """The files of a folder that the function needs, relative to it."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not is_left_out(relative):
            yield relative


def is_left_out(relative: Path) -> bool:
    """Whether a file, by its path in the package, has no business there."""
    if any(fnmatch.fnmatchcase(part, pattern) for part in relative.parts for pattern in LEFT_OUT):
        return True
    places = [relative.as_posix(), *(parent.as_posix() for parent in relative.parents)]
    return any(fnmatch.fnmatchcase(place, pattern) for place in places for pattern in LEFT_OUT_PATHS)


def copy(source: Path, target: Path, relatives: Iterable[Path]) -> None:
    for relative in relatives:
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, target / relative)


def licences(installed: Path) -> str:
    """The licences of the packages, whose own metadata is left out."""
    texts = []
    for metadata in sorted(installed.glob("*.dist-info")):
        files = sorted(
            {path for pattern in LICENCE_FILES for path in metadata.rglob(pattern) if path.is_file()}
        )
        name = metadata.name.removesuffix(".dist-info")
        texts += [f"==== {name}: {path.name} ====\n\n{path.read_text('utf-8').strip()}\n" for path in files]
        if not files:
            named = re.search(
                r"^License(?:-Expression)?: (.+)$", (metadata / "METADATA").read_text("utf-8"), re.MULTILINE
            )
            licence = named[1] if named else "not named"
            texts.append(f"==== {name}: METADATA ====\n\n{licence} (the package holds no text of it)\n")
    return "\n".join(texts)


def compile_ahead(folder: Path, extras: Sequence[str]) -> None:
    """Put bytecode beside what every event needs."""
    python = python_310()
    if python is None:
        print(
            "No Python 3.10 was found, so the package holds no bytecode: it works, and each cold start takes about twice "
            "as long. Put a python3.10 on PATH, or: make package PYTHON=python3.10, after make clean",
            file=sys.stderr,
        )
        return
    left = [
        *NOT_COMPILED,
        *(pattern for name, extra in EXTRAS.items() if name not in extras for pattern in extra.needed_by),
    ]
    sources = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py"))]
    lines = "".join(
        f"{path}\n" for path in sources if not any(fnmatch.fnmatchcase(path, each) for each in left)
    )
    command = [python, "-S", "-s", "-B", str(TOOLS / "bytecode.py"), str(folder)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # The order of a set that is a constant depends on the hashes of its texts.
    environment = {**inherited, "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, input=lines, text=True, env=environment)


def python_310() -> str | None:
    """A CPython 3.10 on this machine, whose bytecode is the function's; None if there is none."""
    check = "import sys; sys.exit(sys.version_info[:2] != (3, 10) or sys.implementation.name != 'cpython')"
    for name in (sys.executable, "python3.10"):
        found = shutil.which(name)
        # What is found may only stand for a Python that is not installed.
        if (
            found
            and subprocess.run([found, "-I", "-S", "-c", check], capture_output=True, check=False).returncode
            == 0
        ):
            return found
    return None


def write_zip(folder: Path, archive: Path) -> None:
    """Pack a folder so that only names and contents of its files matter."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(
        (path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()
    )
    with zipfile.ZipFile(archive, "w") as packed:
        for name, path in files:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3
            entry.external_attr = MODE << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def lock() -> None:
    """Resolve the function's dependencies, and those of each of its extras, and write them down with hashes."""
    if sys.version_info[:2] != RUNTIME:
        raise Refused(
            "lock under Python 3.10, as the function runs: make lock PYTHON=python3.10, after make clean"
        )
    project = _project()
    dependencies: list[str] = project["dependencies"]
    base = resolve(dependencies)
    lock_file().write_text(lock_text(base), encoding="utf-8")
    for extra, additional in sorted(_extras(project).items()):
        resolved = resolve([*dependencies, *additional])
        moved = sorted(name for name in base if resolved[name] != base[name])
        if moved:
            raise Refused(
                f"the extra {extra} needs other versions of {', '.join(moved)}: narrow pyproject.toml"
            )
        added = {name: line for name, line in resolved.items() if name not in base}
        lock_file(extra).write_text(lock_text(added), encoding="utf-8")


def resolve(requirements: Sequence[str]) -> dict[str, str]:
    """Requirement line, pinned and hashed, by the name of the package."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        _pip(
            "install",
            "--dry-run",
            "--ignore-installed",
            f"--target={scratch}",
            f"--report={report}",
            *TARGET,
            *requirements,
        )
        decisions = json.loads(report.read_text("utf-8"))["install"]
    resolved = {}
    for decision in decisions:
        name = re.sub(r"[-_.]+", "-", decision["metadata"]["name"]).lower()
        digest = decision["download_info"]["archive_info"]["hashes"]["sha256"]
        resolved[name] = f"{name}=={decision['metadata']['version']} --hash=sha256:{digest}"
    return resolved


def lock_file(extra: str = "") -> Path:
    return TOOLS / (f"requirements-{extra}.lock" if extra else "requirements.lock")


def lock_text(lines: Mapping[str, str]) -> str:
    return "\n".join(["# Written by: make lock", *(lines[name] for name in sorted(lines)), ""])


def _project() -> Mapping[str, Any]:
    # Only a lock needs it, and Python 3.10 has no such module of its own: the developers' environment does.
    import tomli  # noqa: PLC0415

    with (ROOT / "pyproject.toml").open("rb") as file:
        project: Mapping[str, Any] = tomli.load(file)["project"]
    return project


def _extras(project: Mapping[str, Any]) -> dict[str, list[str]]:
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return {name: lines for name, lines in extras.items() if name not in OTHER_EXTRAS}


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
