"""``metric-forwarder deploy``: make what is deployed what ``serverless.yml`` describes."""

import io
import json
import os
import re
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from metric_forwarder.cli.deployment import deployer
from metric_forwarder.cli.deployment.cloud import Account, Cloud, CloudError
from metric_forwarder.cli.deployment.contradictions import contradictions
from metric_forwarder.cli.deployment.description import (
    Description,
    extras_of,
    read_description,
    setting_problems,
    settings_of,
)
from metric_forwarder.cli.deployment.dotenv import parse
from metric_forwarder.cli.deployment.env_variables import emptied, name_is_hidden, strays, unreferenced
from metric_forwarder.cli.deployment.file_settings import (
    FOLDER,
    ReadFile,
    files_of_clone,
    files_of_zip,
    is_whole_zip,
)
from metric_forwarder.cli.deployment.plan import Plan, deployed_key, make_plan
from metric_forwarder.cli.deployment.tccli import write_commands
from metric_forwarder.cli.inputs import Unusable
from metric_forwarder.cli.options import example
from metric_forwarder.errors import ConfigError
from metric_forwarder.secret import Secret, is_plain
from metric_forwarder.settings.extras import EXTRAS

# What each of these modes would ignore.
_WITHOUT = {"--rollback": ("--to", "--prune", "--package", "--json"), "--tccli": ("--prune", "--json")}
# The values of `--to`, and the destinations that they mean.
_DESTINATIONS = {"prometheus": "remote-write", "receiver": "receiver"}
# UpdateFunctionCode takes 20 MB in base64, by the description in its SDK.
_MAX_PACKAGE_BYTES = 20 * 2**20 // 4 * 3


def _existing_env_file(ctx: click.Context, parameter: click.Parameter, file: Path) -> Path:
    """Refuse a file that is not there; only the default one may be absent, since a pipeline needs none."""
    is_default = ctx.get_parameter_source(parameter.name or "") is ParameterSource.DEFAULT
    if file.is_file() or (is_default and not file.exists()):
        return file
    raise click.BadParameter(f"{file} does not exist, or is not a file.")


@click.command(epilog=example("metric-forwarder deploy --plan", "metric-forwarder deploy"))
@click.option(
    "--to",
    type=click.Choice(list(_DESTINATIONS)),
    help="The destination, instead of MF_DESTINATION in .env.",
)
@click.option(
    "--plan", "only_plan", is_flag=True, help="Print what would change, field by field, and change nothing."
)
@click.option(
    "--verify",
    "only_verify",
    is_flag=True,
    help="Compare what is deployed with this build and this description; status 1 if they differ.",
)
@click.option(
    "--rollback",
    is_flag=True,
    help="Let $DEFAULT lead to the version that was published before the current one.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Also remove triggers that serverless.yml does not describe; otherwise they stay.",
)
@click.option(
    "--tccli",
    "tccli_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Do not deploy, but write a script for tccli into this folder; its files hold secrets.",
)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    default=Path("serverless.yml"),
    show_default=True,
    help="The description.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    default=Path(".env"),
    show_default=True,
    callback=_existing_env_file,
    help="Values for ${env:…}; variables of the environment take precedence.",
)
@click.option(
    "--package",
    "zip_file",
    type=click.Path(path_type=Path),
    default=None,
    help="A package that `make package` built; without it, one is built, with the extras that the settings need.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def deploy(  # noqa: PLR0913 - one for each option
    *,
    to: str | None,
    only_plan: bool,
    only_verify: bool,
    rollback: bool,
    prune: bool,
    tccli_folder: Path | None,
    file: Path,
    env_file: Path,
    zip_file: Path | None,
    as_json: bool,
) -> None:
    """Deploy the function and its triggers, as serverless.yml describes them.

    Creates or changes what differs, publishes a version, and lets the alias $DEFAULT lead to it. A second run changes
    nothing. If a step fails, it says what was done and what was not; another run continues from there. The keys are
    TENCENT_SECRET_ID and TENCENT_SECRET_KEY (and TENCENT_TOKEN for temporary ones), from the environment or .env.
    """
    modes = {"--plan": only_plan, "--verify": only_verify, "--rollback": rollback, "--tccli": tccli_folder}
    _refuse_ignored(modes, {"--to": to, "--prune": prune, "--package": zip_file, "--json": as_json})
    written, env_problems = parse(env_file)
    chosen = {"MF_DESTINATION": _DESTINATIONS[to]} if to else {}
    variables = {**written, **os.environ, **chosen}
    hidden = emptied(written, os.environ)
    if env_problems and (rollback or not written):
        # A rollback checks no settings, and without any value each variable would be called missing.
        raise ConfigError(env_problems)
    if rollback:
        # Settings are not checked: wrong ones may be the reason to go back.
        _roll_back(_cloud(variables, read_description(file, variables, hidden), hidden))
        return
    key_problems = [] if tccli_folder else _account_problems(variables, hidden)
    ignored = unreferenced(written, os.environ, file, env_file.name)
    files = files_of_zip(zip_file) if zip_file else files_of_clone(file.resolve().parent)
    wanted = _read_checked(
        file,
        variables,
        hidden,
        files,
        [*env_problems, *key_problems, *strays(written, os.environ), *ignored],
    )
    package = _package(wanted, zip_file, file)
    if tccli_folder:
        _write_commands(wanted, package, tccli_folder)
        return
    cloud = _cloud(variables, wanted, hidden)
    try:
        _say(f"Asking SCF's API what is deployed in {wanted.region} …")
        plan = make_plan(wanted, package, cloud)
        _show(plan, as_json=as_json, prune=prune)
        if only_verify:
            sys.exit(1 if plan.all_changes(prune=prune) else 0)
        if only_plan:
            return
        deployer.deploy(wanted, package, plan, cloud, _say, prune=prune)
        click.echo(f"deployed: version {cloud.alias()} is in force", err=True)
    except (CloudError, deployer.HalfDone) as error:
        _fail(str(error))


def _refuse_ignored(modes: Mapping[str, object], details: Mapping[str, object]) -> None:
    """Refuse two options of which one would be ignored, such as ``--plan`` beside ``--rollback``.

    Args:
        modes: the options that say what the command is to do, with what was given.
        details: those that say how, likewise.
    """
    given = [option for option, value in modes.items() if value]
    if given:
        given += [option for option in _WITHOUT.get(given[0], ()) if details[option]]
    if len(given) > 1:
        first, second = given[:2]
        raise click.UsageError(f"{first} and {second} exclude each other: leave one of them out.")


def _read_checked(
    file: Path,
    variables: Mapping[str, str],
    hidden: AbstractSet[str],
    files: ReadFile | None,
    problems: Sequence[str],
) -> Description:
    """Read the description; raises ``ConfigError`` with these problems and all of its own, so that one run names all."""
    try:
        wanted = read_description(file, variables, hidden)
        own: Sequence[str] = [
            *setting_problems(settings_of(wanted), wanted.region, files),
            *contradictions(wanted, file.name),
        ]
    except ConfigError as error:
        own = error.problems
    if problems or own:
        raise ConfigError([*problems, *own])
    return wanted


def _write_commands(wanted: Description, package: bytes, folder: Path) -> None:
    try:
        script = write_commands(wanted, package, folder)
    except OSError as error:
        raise Unusable(f"{folder} cannot be written ({error.strerror}): name another folder") from None
    click.echo(f"written: {script}; its folder holds the function's secrets", err=True)


def _roll_back(cloud: Cloud) -> None:
    try:
        current, older = deployer.previous_version(cloud)
        if older is None:
            _fail(
                f"$DEFAULT leads to {current or 'nothing'}, and no version was published before it: nothing to go back to"
            )
        deployer.point_alias(cloud, older)
    except CloudError as error:
        _fail(str(error))
    click.echo(f"rolled back: $DEFAULT leads to version {older}, was {current}", err=True)


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(1)


def _show(plan: Plan, *, as_json: bool, prune: bool) -> None:
    changes = plan.all_changes(prune=prune)
    if as_json:
        click.echo(json.dumps([change._asdict() for change in changes], ensure_ascii=False))
        return
    for change in changes:
        click.echo(str(change))
    for unknown in () if prune else plan.unknown_triggers:
        click.echo(
            f"? trigger {deployed_key(unknown)}: not in the description, not changed (--prune removes it)"
        )
    if not changes:
        click.echo("Nothing to change: the deployed function is as described.")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _cloud(variables: Mapping[str, str], wanted: Description, hidden: AbstractSet[str]) -> Cloud:
    return Cloud(_account(variables, wanted.region, hidden), wanted.namespace, wanted.name, time.sleep, _say)


_KEY = ("TENCENT_SECRET_ID", "TENCENT_SECRET_KEY")
_NO_KEY = "TENCENT_SECRET_ID and TENCENT_SECRET_KEY are not set: put the deployer's key into .env or the environment"


def _account_problems(variables: Mapping[str, str], hidden: AbstractSet[str]) -> list[str]:
    """What is wrong with the key and the certificates: the calls of the API would only fail without saying so."""
    missing = [name for name in _KEY if not variables.get(name)]
    if missing:
        return [name_is_hidden(name) for name in missing if name in hidden] or [_NO_KEY]
    problems = [
        f"{name} holds characters that are never in a key of Tencent Cloud: copy it again"
        for name in (*_KEY, "TENCENT_TOKEN")
        if not is_plain(variables.get(name, ""))
    ]
    ca_file = variables.get("DEPLOY_CA_FILE")
    if ca_file:
        try:
            where = "capath" if Path(ca_file).is_dir() else "cafile"
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{where: ca_file})
        except OSError as error:
            # An SSLError has a text of OpenSSL in its place.
            reason = "not in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            problems.append(
                f"DEPLOY_CA_FILE names a file that cannot be used ({reason}): name the certificates to trust, or unset it"
            )
    return problems


def _account(variables: Mapping[str, str], region: str, hidden: AbstractSet[str]) -> Account:
    problems = _account_problems(variables, hidden)
    if problems:
        raise ConfigError(problems)
    return Account(
        variables["TENCENT_SECRET_ID"],
        Secret(variables["TENCENT_SECRET_KEY"]),
        region,
        token=variables.get("TENCENT_TOKEN", ""),
        endpoint=variables.get("DEPLOY_API_ENDPOINT", ""),
        ca_file=variables.get("DEPLOY_CA_FILE", ""),
    )


def _build(clone: Path, extras: Sequence[str]) -> Path:
    """Build the package in the clone that holds the description."""
    tool = clone / "tools" / "package.py"
    if not tool.is_file():
        raise Unusable(
            f"{clone} is no clone, so no package can be built there: name a built one with --package"
        )
    command = [sys.executable, str(tool), "build", "--extras", ",".join(extras)]
    _say("Building the package …")
    # It prints its progress; standard output is for the plan.
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:  # noqa: S603 - the clone's own script
        raise Unusable("the package could not be built: see above")
    return clone / "dist" / "metric-forwarder.zip"


def _package(wanted: Description, zip_file: Path | None, file: Path) -> bytes:
    """The package that is named, or one that is built in the clone of the description."""
    extras = extras_of(wanted)
    path = zip_file or _build(file.resolve().parent, extras)
    try:
        package = path.read_bytes()
    except OSError as error:
        raise Unusable(
            f"{path} cannot be read ({error.strerror}): run make package first, or leave --package out"
        ) from None
    problem = _package_problem(package, wanted.handler, extras)
    if problem:
        raise Unusable(f"{path} cannot be deployed: {problem}")
    return package


def _package_problem(package: bytes, handler: str, extras: Sequence[str]) -> str | None:
    """Why every event would fail with this package, or the API would refuse it."""
    if not is_whole_zip(io.BytesIO(package)):
        return "it is no zip, or a damaged one: run make package"
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = archive.namelist()
    if f"{handler.partition('.')[0]}.py" not in names:
        return f"it lacks the module of {handler}: run make package, which puts it at the top of the zip"
    modules = {re.split("[/.]", name)[0] for name in names}
    if not {EXTRAS[extra].module for extra in extras} <= modules:
        return f"the settings need a package that it lacks: run make package EXTRAS={','.join(extras)}"
    if len(package) > _MAX_PACKAGE_BYTES:
        return f"it has {len(package):,} bytes, and the API takes {_MAX_PACKAGE_BYTES:,}: shrink the files in {FOLDER}/"
    return None
