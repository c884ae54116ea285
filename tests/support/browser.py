"""Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from support.harness import ROOT

# Pictures of the last run: to look at, and kept by CI.
PICTURES = ROOT / "build" / "page"
# No sandbox: in a container there is no right to make one. The rest keeps it from asking anybody anything.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window, for as long as it is needed."""
    program = shutil.which("chromium") or os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield running
        finally:
            running.close()


@contextmanager
def page_of(running: Browser, url: str, *, language: str = "en-US", width: int = 1200) -> Iterator[Page]:
    """A page that has loaded; whatever its scripts complain of fails the test."""
    context = running.new_context(
        locale=language,
        viewport={"width": width, "height": 900},
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def note(message: ConsoleMessage) -> None:
        # A reply of 400 and the like is what a test may ask for.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    page.on("console", note)
    page.goto(url)
    page.wait_for_selector("#full:not([hidden])", state="attached")
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


def keep_picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)
