"""The variables of a deployment: what ``serverless.yml`` refers to, and what ``.env`` and the shell set."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from pathlib import Path

from metric_forwarder.settings.settings import PREFIX, SETTINGS

REFERENCE = re.compile(r"\$\{env:(\w+)\}")
# Also in a form that cannot be resolved, such as one with a default, which the description's reader reports.
_MENTION = re.compile(r"\$\{env:(\w+)")
# Variables of the deployment, as opposed to settings of the function.
_DEPLOYMENT = "DEPLOY_"
# Those that the command itself reads: the description does not refer to them.
_OWN_VARIABLES = frozenset({"DEPLOY_API_ENDPOINT", "DEPLOY_CA_FILE"})
# Variables that switch a trigger on or off.
SWITCH = "DEPLOY_ENABLE_"


def references(texts: Iterable[str]) -> list[str]:
    """The variables that lines or values of the file refer to, in their order."""
    return [name for text in texts for name in REFERENCE.findall(text)]


def without_comments(lines: Iterable[str]) -> list[str]:
    """The lines of the file that are in force."""
    return [line for line in lines if not line.lstrip().startswith("#")]


def strays(written: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Settings of this shell that would be deployed although ``.env`` says otherwise, such as those of a local trial.

    If ``.env`` has no setting, as in a pipeline, those of the environment are used.
    """
    if not _has_settings(written):
        return []
    return [
        f"{name} is set in this shell, but .env does not have the same value: unset it, or write it into .env"
        for name, value in sorted(environ.items())
        if name.startswith(PREFIX) and value != written.get(name, "")
    ]


def _has_settings(written: Mapping[str, str]) -> bool:
    return any(name.startswith(PREFIX) for name in written)


def emptied(written: Mapping[str, str], environ: Mapping[str, str]) -> frozenset[str]:
    """The variables of ``.env`` that are set to nothing in this shell, which takes precedence."""
    return frozenset(name for name, value in written.items() if value and environ.get(name) == "")


def name_is_hidden(name: str) -> str:
    """The problem with such a variable, if it must be set."""
    return f"{name} is set to nothing in this shell, which hides the one of .env: unset it"


def unreferenced(
    written: Mapping[str, str], environ: Mapping[str, str], file: Path, env_file: str
) -> list[str]:
    """The variables that the description does not refer to, so that they would be ignored silently.

    Args:
        written: the assignments of ``.env``; one without a value means the default under any name.
        environ: this shell's; its settings count if ``.env`` has none, and are strays otherwise.
        file: ``serverless.yml``; if it cannot be read, nothing is found, since that is reported elsewhere.
        env_file: the name of ``.env``, for the problems.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    referred = {*_MENTION.findall("\n".join(without_comments(lines)))}
    commented_out = {*references(lines)} - referred
    known = referred | _OWN_VARIABLES
    # Other programs, such as those of a pipeline, may have variables that begin with DEPLOY_.
    places: list[tuple[str, Mapping[str, str], tuple[str, ...]]] = [
        (env_file, written, (PREFIX, _DEPLOYMENT))
    ]
    if not _has_settings(written):
        places.append(("this shell", environ, (PREFIX,)))
    return [
        f"{name} in {place} would be ignored: {_instead_of_ignoring(name, known, commented_out, file.name)}"
        for place, variables, prefixes in places
        for name, value in sorted(variables.items())
        if value and name.startswith(prefixes) and name not in known
    ]


def _instead_of_ignoring(
    name: str, known: AbstractSet[str], commented_out: AbstractSet[str], file: str
) -> str:
    if name in commented_out:
        return f"the lines of {file} that refer to it are comments; uncomment them, or remove it"
    if any(each.name == name for each in SETTINGS):
        return f"{file} does not refer to it; add {name}: ${{env:{name}}} to its variables, or remove it"
    prefix = PREFIX if name.startswith(PREFIX) else _DEPLOYMENT
    # Without what they share, which would make any two of them seem alike.
    alike = sorted(each.removeprefix(prefix) for each in known | commented_out if each.startswith(prefix))
    nearest = get_close_matches(name.removeprefix(prefix), alike, n=1)
    return f"did you mean {prefix}{nearest[0]}?" if nearest else f"{file} does not refer to it; remove it"


def is_required(name: str, variables: Mapping[str, str]) -> bool:
    """Whether a reference to a variable that is not set is a mistake; otherwise the member is left out.

    A setting has a default, a role is needed only to read a secret or an object, and a trigger may stay off.
    """
    if name == "DEPLOY_ROLE":
        return bool(variables.get("MF_SECRET_NAME"))
    return not name.startswith((PREFIX, SWITCH))
