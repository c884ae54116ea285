"""Build the package of the function, and the lock files from which it is built.

``package.py build`` makes ``build/package/`` (a folder that holds what runs in the function) and
``dist/metric-forwarder.zip`` (the same as an archive), for SCF's Python 3.10 on x86-64, whatever machine it runs on. If there is a
Python 3.10, the package contains the bytecode of the modules that every event needs: an instance cannot write bytecode, so it
would compile all of them at every start. The same sources, locks and Python give the same bytes.

``package.py verify`` builds the package again and compares it with an archive, such as a downloaded one. If they differ, it lists
the files that do, and its exit status is 1.

``package.py lock`` resolves the dependencies in ``pyproject.toml`` again, and writes ``requirements*.lock`` beside this file.

The contents of the package are in ``package_contents``, the locks in ``package_locks``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from package_contents import ROOT, copy_contents, extras_of, files_to_compile
from package_locks import TOOLS, Refused, lock, lock_files, pip_install

# The most differing files that ``verify`` lists.
SHOWN = 20
_ONLY_THERE = "only in it: "

# The earliest time that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
# A regular file that everyone may read: the function runs as another user than the one who packed it.
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
    commands.add_parser("lock", help="resolve the dependencies again")
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
        # pip has written to standard error what is wrong.
        return int(error.returncode)
    return 0


def build(extras: Sequence[str], folder: Path, archive: Path) -> None:
    """Make the folder and the zip, in the place of any that exist."""
    locks = lock_files(extras)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as installed:
        options = ("--no-deps", "--require-hashes", "--no-compile", f"--target={installed}")
        pip_install(*options, *(f"--requirement={path}" for path in locks))
        copy_contents(Path(installed), folder)
    compile_ahead(folder, extras)
    write_zip(folder, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes; unpacked in {folder}")


def verify(extras: Sequence[str], archive: Path) -> int:
    """Compare an archive with one that is built now; return the exit status."""
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
    if unnamed := extras_of(
        line.removeprefix(_ONLY_THERE) for line in differing if line.startswith(_ONLY_THERE)
    ):
        named = ",".join([*extras, *unnamed])
        print(
            f"If it was built with {' and '.join(unnamed)}, say so: make verify EXTRAS={named}",
            file=sys.stderr,
        )
    return 1


def differences(archive: Path, again: Path) -> list[str]:
    """Return a line for each difference between an archive and the one that was built again."""
    try:
        there, here = _checksums(archive), _checksums(again)
    except zipfile.BadZipFile:
        return ["it is not a zip"]
    lines = [
        f"{_ONLY_THERE}{name}"
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


def compile_ahead(folder: Path, extras: Sequence[str]) -> None:
    """Write the bytecode of the modules that every event needs."""
    python = python_310()
    if python is None:
        print(
            "No Python 3.10 was found, so the package holds no bytecode: it works, and each cold start takes about twice "
            "as long. Put a python3.10 on PATH; or run make clean, and then make with PYTHON=/path/to/python3.10",
            file=sys.stderr,
        )
        return
    lines = "".join(f"{path}\n" for path in files_to_compile(folder, extras))
    command = [python, "-S", "-s", "-B", str(TOOLS / "bytecode.py"), str(folder)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # The order of a constant set of texts depends on their hashes.
    environment = {**inherited, "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, input=lines, text=True, env=environment)


def python_310() -> str | None:
    """Find a CPython 3.10 on this machine, whose bytecode the function can use."""
    check = "import sys; print(sys.executable if sys.version_info[:2] == (3, 10) and sys.implementation.name == 'cpython' else '')"
    for name in filter(None, map(shutil.which, (sys.executable, "python3.10"))):
        # The program may be a shim that starts another one, or for a Python that is not installed.
        found = subprocess.run([name, "-I", "-S", "-c", check], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.strip()
    return None


def write_zip(folder: Path, archive: Path) -> None:
    """Pack a folder, so that the zip depends only on names and contents of its files."""
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


if __name__ == "__main__":
    sys.exit(main())
