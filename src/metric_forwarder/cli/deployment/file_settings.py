"""The settings that hold JSON text or name a file, checked with the files that the package will contain.

The function reads such a file at its start, so a file that only this machine has would make every event a ``ConfigError``.
"""

import ssl
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO

from metric_forwarder.errors import ConfigError, ProblemCollector
from metric_forwarder.formats.mapping import read_mapping
from metric_forwarder.intake.relabel import read_relabeller
from metric_forwarder.secret import is_harmless
from metric_forwarder.settings.readers import is_json_text
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings

FOLDER = "function"
"""The folder beside ``serverless.yml`` whose files the package contains."""
# SCF unpacks the package there (583/37039).
_UNPACKED = "/var/user/"
# Layers and file systems are mounted there: their files cannot be seen from here.
_MOUNTED = ("/opt/", "/mnt/")

ReadFile = Callable[[str], bytes | None]
"""Returns the contents of a file of the package, by its path in the package; None: it has no such file."""


def user_files(clone: Path) -> list[str]:
    """The user's own files that the package will contain, by their paths in it: hidden ones, which an editor leaves, are left out."""
    found = (path.relative_to(clone) for path in (clone / FOLDER).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def files_of_clone(clone: Path) -> ReadFile:
    """Read what a package that is built in this clone will contain."""
    contained = frozenset(user_files(clone))
    return lambda path: (clone / path).read_bytes() if path in contained else None


def files_of_zip(package: Path) -> ReadFile | None:
    """Read what a built package contains; None: it is no zip, or a damaged one, which is reported elsewhere."""
    if not is_whole_zip(package):
        return None

    def read(path: str) -> bytes | None:
        with zipfile.ZipFile(package) as archive:
            return archive.read(path) if path in archive.namelist() else None

    return read


def is_whole_zip(package: Path | IO[bytes]) -> bool:
    try:
        with zipfile.ZipFile(package) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def check_files(texts: Mapping[str, str], settings: Settings, read: ReadFile | None) -> None:
    """Read the rules, the mapping and the schema as the function will read them, and look for the certificates.

    Args:
        texts: the function's variables.
        settings: the same, read.
        read: reads the package's files; None: they are not known, so only JSON text is checked.

    Raises:
        ConfigError: with the problems of all of them.
    """
    problems = ProblemCollector()
    problems.collect(
        lambda: read_relabeller(_json_text("MF_RELABEL", settings.relabel, read), settings.labels)
    )
    problems.collect(lambda: _check_mapping(_json_text("MF_MAPPING", settings.mapping, read)))
    problems.collect(lambda: _check_schema(settings.schema, read))
    for name, path in _certificates(texts, settings).items():
        problems.collect(lambda: _check_certificates(name, path, read))  # noqa: B023 - called now
    problems.check()


def _certificates(texts: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The files of certificates, by what names them."""
    found = {"MF_CA_FILE": texts.get("MF_CA_FILE", "").strip()}
    for name, address in (("MF_DEDUPE", settings.dedupe), ("MF_SPOOL", settings.spool)):
        if isinstance(address, RedisAddress):
            found[f"{name}'s ssl_ca_certs"] = address.ca_file
    return found


def _check_certificates(name: str, path: str, read: ReadFile | None) -> None:
    content = _contents(name, path, read)
    if content is None:
        return
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file.name)
        except ssl.SSLError:
            raise ConfigError(
                [f"{name} names a file that holds no certificates in PEM form: correct it"]
            ) from None


def _check_mapping(text: str) -> None:
    if text:
        read_mapping(text)


def _check_schema(path: str, read: ReadFile | None) -> None:
    content = _contents("MF_SCHEMA", path, read)
    # `make serverless` works without any other package.
    if content is not None and find_spec("jsonschema"):
        from metric_forwarder.intake.user_schema import parse_user_schema

        parse_user_schema(content, path)


def _json_text(name: str, value: str, read: ReadFile | None) -> str:
    """The setting as JSON text; empty if it is not set, or names a file that cannot be seen from here."""
    if is_json_text(value):
        return value
    content = _contents(name, value, read, ", or write the JSON itself in its place")
    if content is None:
        return ""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not is_json_text(text):
        raise ConfigError([f"{name} names a file that holds no JSON in UTF-8: correct it"])
    return text


def _contents(name: str, path: str, read: ReadFile | None, otherwise: str = "") -> bytes | None:
    """The contents of the file that a setting names; None if there is none, or it cannot be seen from here.

    Raises:
        ConfigError: the package will not contain it.
    """
    if not path or read is None or path.startswith(_MOUNTED):
        return None
    in_package = str(PurePosixPath(path.removeprefix(_UNPACKED)))
    content = read(in_package)
    if content is not None:
        return content
    # A path that may be a part of a URL is not shown.
    file = PurePosixPath(path).name
    place = f"{FOLDER}/{file.lstrip('.') if is_harmless(file) else 'NAME'}"
    remedy = f"put it into the folder {FOLDER}/ beside serverless.yml and set {name}={place}{otherwise}"
    raise ConfigError([f"{name} names a file that the package does not contain: {remedy}"])
