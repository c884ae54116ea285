"""Settings of the function that the rest of its description does not allow for."""

import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import unquote, urlsplit

from metric_forwarder.cli.deployment.description import Description, settings_of
from metric_forwarder.cli.deployment.triggers import Trigger
from metric_forwarder.jobs import Replay, Scrape, read_job
from metric_forwarder.settings.settings import Settings


def contradictions(wanted: Description, file: str) -> list[str]:
    """Settings that the rest of the description does not allow for.

    Args:
        wanted: the function.
        file: the name of its description, for the problems.
    """
    # What is wrong with the settings themselves is found by ``setting_problems``.
    texts = settings_of(wanted)
    settings, _ = Settings.collect(texts)
    # Also those that cannot be used, and so have no value in ``settings``: they are not missing.
    are_set = {name for name, text in texts.items() if text.strip()}
    return [
        *_access_problems(wanted.triggers, settings, file),
        *_useless_triggers(wanted.triggers, settings, are_set, file),
        *_spool_problems(settings, wanted.configuration, file),
    ]


def _access_problems(triggers: Iterable[Trigger], settings: Settings, file: str) -> Iterator[str]:
    """Function URLs that let everybody in, as the function does, and those whose clients the function refuses."""
    is_cam = settings.http_auth == "cam"
    for trigger in triggers:
        if trigger.type != "http" or _is_cam(trigger) == is_cam:
            continue
        yield f"{file}: the trigger http {trigger.name} " + (
            "lets everybody in, and so does the function with MF_HTTP_AUTH=cam: write authType: CAM, or set MF_HTTP_TOKEN "
            "in place of MF_HTTP_AUTH"
            if is_cam
            else "has authType: CAM, and without MF_HTTP_AUTH=cam the function refuses its clients: set that, or write "
            "authType: NONE and set MF_HTTP_TOKEN"
        )


def _is_cam(url: Trigger) -> bool:
    return bool(json.loads(url.description)["AuthType"] == "CAM")


def _useless_triggers(
    triggers: Iterable[Trigger], settings: Settings, are_set: AbstractSet[str], file: str
) -> Iterator[str]:
    """Enabled triggers whose every event the function would refuse, because a setting is missing."""
    for trigger in triggers:
        reason = _reason_to_refuse(trigger, settings, are_set) if trigger.enabled else None
        if reason is not None:
            yield f"{file}: the trigger {trigger.key} is on: {reason}"


def _reason_to_refuse(trigger: Trigger, settings: Settings, are_set: AbstractSet[str]) -> str | None:
    """What the function would say to every event of a trigger; None: it takes them."""
    from metric_forwarder import pipeline
    from metric_forwarder.scrape import scraper
    from metric_forwarder.triggers import http

    job = read_job(trigger.argument or "")
    if isinstance(job, Replay) and "MF_SPOOL" not in are_set:
        return pipeline.NO_SPOOL
    if isinstance(job, Scrape) and "MF_SCRAPE_HOSTS" not in are_set:
        return scraper.CLOSED
    # A function URL that should have MF_HTTP_AUTH=cam, or should not, is told by ``_access_problems``.
    if trigger.type == "http" and not _is_cam(trigger) and settings.http_auth != "cam":
        return http.CLOSED if are_set.isdisjoint({"MF_HTTP_TOKEN", "MF_BRIDGE_ACCOUNTS"}) else None
    return None


def _spool_problems(settings: Settings, configuration: Mapping[str, Any], file: str) -> Iterator[str]:
    """A spool of files must be on a file system: the function's own folders vanish with the instance, or are read-only."""
    if not isinstance(settings.spool, str) or not settings.spool:
        return
    mounts = configuration.get("CfsConfig", {}).get("CfsInsList", [])
    folders = [PurePosixPath(str(mount["LocalMountDir"])) for mount in mounts]
    place = PurePosixPath(normpath(unquote(urlsplit(settings.spool).path)))
    if not any(place.is_relative_to(folder) for folder in folders):
        below = " or ".join(map(str, folders))
        remedy = f"set it to a folder below {below}" if below else f"describe one in the lines cfs: of {file}"
        yield f"MF_SPOOL names a folder that is on no file system, so its points would be lost: {remedy}, or use Redis"
