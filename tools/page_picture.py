"""Draw docs/page.png, the picture of the page, from five minutes of invented data, so that it is the same each time.

It needs chromium and the development tools: ``make picture``.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Route, sync_playwright

from metric_forwarder.model import Outcome
from receiver_emulator import Emulator
from receiver_emulator.activity import Activity

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "page.png"
_SECONDS = 300
_EVERY_S = 1
# An outage, in seconds from the start: the receiver refuses requests, since there are too many.
_OUTAGE = range(150, 168)
_START_S = 1_770_000_000.0


class _Clock:
    now = _START_S

    def __call__(self) -> float:
        return self.now


def activity() -> dict[str, Any]:
    """Make the data of the page: what a function and a receiver could have done in five minutes."""
    clock = _Clock()
    made = Activity(clock)
    for number, second in enumerate(range(0, _SECONDS, _EVERY_S)):
        clock.now = _START_S + second
        refused = second in _OUTAGE
        points = [
            {"metricName": metric, "dimensions": {"host": host}, "value": round(_value(second, place), 3)}
            for place, (metric, host) in enumerate(
                (metric, host) for metric in ("cpu_load", "disk_usage") for host in ("web-1", "web-2", "db-1")
            )
        ]
        state = Outcome.REJECTED if refused else Outcome.DELIVERED
        made.add_points(clock.now, "demo", points, state.value)  # type: ignore[arg-type]
        made.put_request(
            {
                "number": number + 1,
                "at": clock.now,
                "points": len(points),
                "namespace": "demo",
                "bytes": 540,
                "fault": "code" if refused else None,
                "answer": "1006" if refused else "0",
                "ok": not refused,
                "meaning": "too many requests of this SecretId in the period" if refused else "",
                "ms": 0.3 + (number % 7) / 10,
            }
        )
        made.add_report(_report(number, len(points), is_refused=refused))
    return made.read("", 0)


def _value(second: int, place: int) -> float:
    return 0.5 + 0.3 * math.sin(second / 25 + place) + 0.02 * math.sin(second / 3 + place)


def _report(number: int, points: int, *, is_refused: bool) -> dict[str, Any]:
    invalid = 1 if number % 20 == 7 else 0  # noqa: PLR2004 - now and then
    error = {
        "outcome": "invalid",
        "rule": "type",
        "source": "demo-topic/0@37",
        "message": '"12" is not a number: it must be a finite number, without quotes',
    }
    return {
        "status": "failed" if is_refused else "partial" if invalid else "ok",
        "trigger": ("ckafka", "timer", "http")[number % 3],
        "received": points + invalid,
        "outcomes": {"spooled" if is_refused else "delivered": points, "invalid": invalid},
        "requests": {"returnCodes": {"1006" if is_refused else "0": 1}},
        "durationMs": 5 + number % 9,
        "errors": [error] * invalid,
    }


def main() -> None:
    """Draw the picture."""
    reply = {"source": "emulator", "faults": [], "limits": {}, "try": [], **activity()}

    def answer(route: Route) -> None:
        route.fulfill(body=json.dumps(reply), content_type="application/json")

    with Emulator() as emulator, sync_playwright() as playwright:
        program = shutil.which("chromium") or "/usr/bin/chromium"
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1180, "height": 750}, locale="en-US", timezone_id="UTC")
        page.route("**/-/activity**", answer)
        page.goto(emulator.base_url)
        page.wait_for_selector("#series article")
        # The name of the Chinese language needs a font that not every machine has.
        page.evaluate("document.getElementById('language').textContent = 'zh'")
        page.screenshot(path=str(PICTURE))
        browser.close()


if __name__ == "__main__":
    main()
