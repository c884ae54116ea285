"""Runs the world against each change of the code, and keeps what was found in a file, so that a run can go on later."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from world.bugbank.edits import ROOT, SOURCE, changed_source

# How long the world may take beyond the time it was given, to start and to end.
_SLACK_S = 120.0


class Target(NamedTuple):
    """Code to be tried: a name, and the new texts of files below ``src``.

    Attributes:
        plan: the seeds that can find it, each with the hash of its trace in today's code; None: any seed may.
    """

    name: str
    texts: Mapping[str, str]
    needs: tuple[str, ...] = ()
    plan: Mapping[int, str] | None = None


class Finding(NamedTuple):
    """What the world says of a target.

    Attributes:
        tried: how many seeds were run, from 0 on.
        law: which law was broken by the last of them; None: none was.
        text: what was seen.
        changed: how many seeds of a plan had another trace than with today's code.
    """

    tried: int
    law: str | None
    text: str
    changed: int = 0


def hunt(target: Target, first: int, last: int, time_s: float) -> Finding:
    """Run the seeds from ``first`` to below ``last`` until a law is broken or the time is up.

    A seed that breaks a law with the code as it is, too, finds nothing; no plan has such a seed.
    """
    if target.plan is not None and not any(first <= seed < last for seed in target.plan):
        return Finding(last, None, "")
    until = time.monotonic() + time_s
    with changed_source(dict(target.texts)) as source:
        while True:
            finding = _run(source, first, last, max(1.0, until - time.monotonic()), target.needs, target.plan)
            is_sure = finding.law is None or target.plan is not None
            if is_sure or _run(SOURCE, finding.tried - 1, finding.tried, _SLACK_S).law is None:
                return finding
            first = finding.tried


def _run(
    source: Path,
    first: int,
    last: int,
    time_s: float,
    needs: Sequence[str] = (),
    plan: Mapping[int, str] | None = None,
) -> Finding:
    path = os.pathsep.join((str(source), str(ROOT / "tests")))
    command = [sys.executable, "-m", "world.bugbank.hunt", str(first), str(last), str(time_s), *needs]
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            input="" if plan is None else json.dumps(plan),
            capture_output=True,
            text=True,
            timeout=time_s + _SLACK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(first + 1, "hang of the world", "it did not come back")
    lines = ended.stdout.splitlines()
    try:
        return Finding(**json.loads(lines[-1]))
    except (IndexError, ValueError, TypeError):
        return Finding(
            first + 1, "crash of the world", (ended.stderr.splitlines() or ["no output"])[-1][:200]
        )


class Results:
    """The findings so far, in a file.

    A finding holds for one state of the world, of the source and of the target; with ``keep`` also for later states.
    """

    def __init__(self, file: Path, state: str, *, keep: bool = False) -> None:
        self._file = file
        self._state = state
        self._keep = keep
        try:
            self._known: dict[str, dict[str, object]] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._known = {}

    def get(self, target: Target) -> Finding | None:
        known = self._known.get(target.name)
        if known is None or known["target"] != _digest_of(target):
            return None
        if known["state"] != self._state and not self._keep:
            return None
        law = known["law"]
        return Finding(
            int(str(known["tried"])),
            None if law is None else str(law),
            str(known["text"]),
            int(str(known.get("changed", 0))),
        )

    def put(self, target: Target, finding: Finding) -> None:
        self._known[target.name] = {
            "state": self._state,
            "target": _digest_of(target),
            **finding._asdict(),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(self._known, indent=1, sort_keys=True))
        draft.rename(self._file)


def state_of_code() -> str:
    """Identifies the world and the source as they are now."""
    digest = hashlib.sha256()
    files = [*(ROOT / "tests" / "world").glob("*.py"), *(SOURCE / "metric_forwarder").rglob("*.py")]
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _digest_of(target: Target) -> str:
    return hashlib.sha256(json.dumps(target.texts, sort_keys=True).encode()).hexdigest()[:16]


def run(
    targets: Sequence[Target],
    results: Results,
    *,
    seeds: int,
    step: int,
    jobs: int,
    time_s: float,
    tell: Callable[[Target, Finding], None],
) -> Iterator[tuple[Target, Finding]]:
    """Try each target; yields each with its finding. First all get ``step`` seeds, then three times as many, and so on."""
    limit = min(step, seeds)
    while True:
        open_targets = [target for target in targets if _is_open(results.get(target), limit)]
        with ThreadPoolExecutor(jobs) as pool:
            tries = [
                (target, pool.submit(_try, target, results.get(target), limit, time_s))
                for target in open_targets
            ]
            for target, future in tries:
                finding = future.result()
                results.put(target, finding)
                tell(target, finding)
        if limit >= seeds:
            break
        limit = min(3 * limit, seeds)
    for target in targets:
        yield target, results.get(target) or Finding(0, None, "")


def _is_open(known: Finding | None, limit: int) -> bool:
    return known is None or (known.law is None and known.tried < limit)


def _try(target: Target, known: Finding | None, limit: int, time_s: float) -> Finding:
    known = known or Finding(0, None, "")
    finding = hunt(target, known.tried, limit, time_s)
    return finding._replace(changed=known.changed + finding.changed)
