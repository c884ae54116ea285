"""Writes a shell script that deploys the description with ``tccli``, Tencent Cloud's command line.

The requests are files next to the script, since everybody on the machine could see secrets on a command line.
"""

import base64
import errno
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metric_forwarder.cli.deployment.deployer import (
    UPDATABLE,
    asynchronous,
    creation,
    reconfiguration,
    trigger_request,
)
from metric_forwarder.cli.deployment.description import Description
from metric_forwarder.cli.deployment.triggers import Trigger

_SCRIPT = r"""#!/bin/sh
# Deploys {function} with tccli, as serverless.yml describes it. Written by: metric-forwarder deploy --tccli
# The files beside this one hold the function's settings, secrets included: remove them when you are done.
# The key is the one that tccli is configured with. It can be run again after a failure.
set -eu
cd "$(dirname "$0")"

api() {{
    action=$1
    shift
    tccli scf "$action" --region {region} ${{SCF_ENDPOINT:+--endpoint "$SCF_ENDPOINT"}} "$@"
}}

# One member of an answer. Without a pipe, which would hide that the call failed.
ask() {{
    answer=$(api "$@") || exit
    printf '%s\n' "$answer" | tr -d '"'
}}

call() {{
    echo "$1" >&2
    api "$1" --cli-input-json "file://$PWD/$2" >/dev/null
}}

settle() {{
    while :; do
        state=$(ask GetFunction --cli-input-json "file://$PWD/function.json" --filter Status)
        case $state in
            Active) return ;;
            CreateFailed | '') echo "the function could not be created, or is gone: look at it in the console" >&2; exit 1 ;;
            *Failed) echo "the last change failed ($state): correct it, and run this again" >&2; exit 1 ;;
        esac
        sleep 2
    done
}}

# Type, name, qualifier, file, and whether it is created. The API updates some types only. The platform names a function URL
# itself; each qualifier has one at most.
trigger() {{
    name=$(ask ListTriggers --cli-input-json "file://$PWD/triggers.json" \
        --filter "Triggers[?Type=='$1' && Qualifier=='$3' && (Type=='http' || TriggerName=='$2')] | [0].TriggerName")
    if [ -n "$name" ]; then
        case " {updatable} " in
            *" $1 "*)
                sed "s/\"TriggerName\": \"[^\"]*\"/\"TriggerName\": \"$name\"/" "$4" >trigger.json
                call UpdateTrigger trigger.json
                ;;
            *) echo "the trigger $1 $2 exists already, and is left as it is" >&2 ;;
        esac
    elif [ "$5" = on ]; then
        call CreateTrigger "$4"
    fi
    settle
}}

if api GetFunction --cli-input-json "file://$PWD/function.json" >/dev/null 2>&1; then
    call UpdateFunctionCode code.json
    settle
    call UpdateFunctionConfiguration configuration.json
else
    call CreateFunction create.json
fi
settle
call UpdateFunctionEventInvokeConfig asynchronous.json
settle
echo PublishVersion >&2
version=$(ask PublishVersion --cli-input-json "file://$PWD/publish.json" --filter FunctionVersion)
settle
echo UpdateAlias >&2
api UpdateAlias --FunctionName {name} --Namespace {namespace} --Name '$DEFAULT' --FunctionVersion "$version" >/dev/null
{triggers}
echo "deployed: version $version is in force" >&2
"""


def write_commands(wanted: Description, package: bytes, folder: Path) -> Path:
    """Write the script and its requests into a folder that only its owner can read; return the script.

    Raises:
        OSError: the folder cannot be written, or holds other files.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "deploy.sh").exists():
        raise FileExistsError(errno.EEXIST, "it holds other files")
    folder.chmod(0o700)
    for name, request in _requests(wanted, package).items():
        _write(folder / name, json.dumps(request, ensure_ascii=False), 0o600)
    calls = [
        f"trigger {trigger.type} {shlex.quote(trigger.name)} {shlex.quote(trigger.qualifier)} {_trigger_file(number)}"
        f" {'off' if trigger.is_switched_off else 'on'}"
        for number, trigger in enumerate(wanted.triggers)
    ]
    text = _SCRIPT.format(
        function=wanted.name,
        name=shlex.quote(wanted.name),
        namespace=shlex.quote(wanted.namespace),
        region=shlex.quote(wanted.region),
        updatable=" ".join(UPDATABLE),
        triggers="\n".join(calls),
    )
    script = folder / "deploy.sh"
    _write(script, text, 0o700)
    return script


def _write(path: Path, text: str, mode: int) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text, encoding="utf-8")


def _requests(wanted: Description, package: bytes) -> dict[str, Mapping[str, Any]]:
    """File name → the parameters of one call."""
    function = {"FunctionName": wanted.name, "Namespace": wanted.namespace}
    code = {"ZipFile": base64.b64encode(package).decode("ascii")}
    return {
        "function.json": {**function, "Qualifier": "$LATEST", "ShowCode": "FALSE"},
        "create.json": {**function, **creation(wanted, code)},
        "code.json": {**function, "Code": code, "Handler": wanted.handler},
        "configuration.json": {**function, **reconfiguration(wanted.configuration)},
        "asynchronous.json": {**function, **asynchronous(wanted)},
        "publish.json": {**function, "Description": "metric-forwarder deploy --tccli"},
        "triggers.json": {**function, "Offset": 0, "Limit": 100},
        **{name: {**function, **request} for name, request in _trigger_requests(wanted.triggers)},
    }


def _trigger_requests(triggers: tuple[Trigger, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, trigger in enumerate(triggers):
        yield _trigger_file(number), trigger_request(trigger)


def _trigger_file(number: int) -> str:
    return f"trigger-{number}.json"
