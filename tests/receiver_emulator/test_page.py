"""The emulator's page in a real browser: what people see, and what they can do."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from receiver_emulator import Emulator
from support.browser import PATIENCE_MS, browser, keep_picture, page_of
from support.put_monitor_data import put

pytestmark = pytest.mark.slow

REPORT: dict[str, Any] = {
    "status": "partial",
    "trigger": "ckafka",
    "requestId": "r",
    "received": 3,
    "outcomes": {"delivered": 2, "invalid": 1},
    "requests": {"sent": 1, "retried": 0, "returnCodes": {"0": 1}},
    "durationMs": 41,
    "errors": [{"outcome": "invalid", "rule": "type", "message": "not a number", "source": "t/0@1"}],
    "filtered": [],
}
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><b>b",
    "\u202egnp.exe",
    "__proto__",
    "💥",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with browser() as running:
        yield running


@pytest.fixture
def page(chromium: Browser, receiver: Emulator) -> Iterator[Page]:
    with page_of(chromium, receiver.base_url) as opened:
        yield opened


def send(
    receiver: Emulator, metric: str = "load", value: float = 1, namespace: str = "pc", **dimensions: str
) -> int:
    return put(receiver, [{"dimensions": dimensions, "metricName": metric, "value": value}], namespace)


def test_an_empty_page_gives_the_commands_and_fills_when_they_are_run(receiver: Emulator, page: Page) -> None:
    commands = page.locator("#commands")
    expect(commands).to_contain_text(f"MF_RECEIVER_URL={receiver.url}")
    expect(commands).to_contain_text("metric-forwarder send")
    expect(page.locator("#switches")).to_be_visible()
    keep_picture(page, "empty")
    send(receiver, host="a")
    expect(page.locator("#series article")).to_contain_text("pc / load")
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#requests tbody tr").first).to_contain_text("pc")
    page.locator("#clear").click()
    expect(page.locator("#empty")).to_be_visible()


def test_a_report_shows_what_became_of_an_event_and_why(receiver: Emulator, page: Page) -> None:
    receiver.report(REPORT)
    send(receiver)
    expect(page.locator("#outcomes")).to_contain_text("2delivered")
    expect(page.locator("#outcomes")).to_contain_text("1invalid")
    expect(page.locator("#reasons")).to_contain_text("not a number")
    expect(page.locator("#events tbody tr")).to_contain_text(["partial"])
    expect(page.locator("#answers")).to_contain_text("Half within")
    expect(page.locator("#rate")).to_contain_text("points a second")


def test_series_are_filtered_by_text_namespace_state_and_time(receiver: Emulator, page: Page) -> None:
    send(receiver, "cpu", host="alpha")
    send(receiver, "disk", namespace="other", host="beta")
    receiver.fault("code", 1006)
    send(receiver, "refused", host="gamma")
    cards = page.locator("#series article h3")
    expect(cards).to_have_count(3)
    page.locator("#text").fill("ALPHA")
    expect(cards).to_have_text(["pc / cpu"])
    page.locator("#text").fill("")
    page.locator("#namespace").select_option("other")
    expect(cards).to_have_text(["other / disk"])
    page.locator("#namespace").select_option("all")
    page.locator("#series-state").select_option("failed")
    expect(cards).to_have_text(["pc / refused"])
    page.locator("#series-state").select_option("")
    page.get_by_label("60 minutes").check()
    expect(cards).to_have_count(3)
    expect(page.locator("#reasons")).to_contain_text("1006")


def test_the_newest_series_is_the_first(receiver: Emulator, page: Page) -> None:
    for metric in ("first", "second", "third"):
        send(receiver, metric)
    expect(page.locator("#series article h3")).to_have_text(["pc / third", "pc / second", "pc / first"])


def test_a_switch_makes_requests_fail_until_it_is_off(receiver: Emulator, page: Page) -> None:
    page.locator("#switches summary").click()
    switch = page.get_by_role("switch", name="Return code 1006: too many requests")
    switch.check()
    expect(page.locator("#faults-on")).to_have_text("1 on")
    assert send(receiver) == 1006
    expect(page.locator("#series article")).to_contain_text("not delivered")
    switch.uncheck()
    expect(page.locator("#faults-on")).to_be_hidden()
    assert send(receiver) == 0


def test_a_fault_from_elsewhere_is_shown_and_can_be_removed(receiver: Emulator, page: Page) -> None:
    receiver.fault("code", 1009, times=3)
    page.locator("#switches summary").click()
    expect(page.locator("#faults li")).to_contain_text("1009")
    page.locator("#faults button").click()
    expect(page.locator("#faults li")).to_have_count(0)
    assert receiver.faults() == []


def test_a_limit_is_set_and_taken_away_while_it_runs(receiver: Emulator, page: Page) -> None:
    page.locator("#switches summary").click()
    limit = page.get_by_label("Points in a request (1018)")
    with page.expect_response("**/-/limits") as reply:
        limit.fill("1")
        limit.press("Enter")
    assert reply.value.ok
    two = [{"dimensions": {}, "metricName": "m", "value": 1}] * 2
    assert put(receiver, two) == 1018
    with page.expect_response("**/-/limits"):
        limit.fill("")
        limit.press("Enter")
    assert put(receiver, two) == 0
    with page.expect_response("**/-/limits"):
        limit.fill("1.5")
        limit.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("maxPointsPerRequest")


def test_hostile_names_are_text_and_nothing_else(receiver: Emulator, page: Page) -> None:
    for name in HOSTILE:
        put(receiver, [{"dimensions": {name: name}, "metricName": "m", "value": 1}])
    receiver.report({**REPORT, "trigger": HOSTILE[0], "errors": [{"outcome": HOSTILE[0], "rule": HOSTILE[1], "message": HOSTILE[0], "source": "x"}]})  # fmt: skip
    expect(page.locator("#series article")).to_have_count(len(HOSTILE))
    for name in (text.replace("\u202e", r"\u202e") for text in HOSTILE):
        expect(page.locator("#series .names").filter(has_text=f"{name}={name}")).to_have_count(1)
    expect(page.locator("#reasons")).to_contain_text(HOSTILE[0])
    expect(page.locator("main img, main b:not(.counts b)")).to_have_count(0)
    assert page.title() == "Emulated receiver"
    keep_picture(page, "hostile-names")


def test_5000_series_are_counted_searched_and_shown_a_page_at_a_time(receiver: Emulator, page: Page) -> None:
    for first in range(0, 5000, 500):
        rows = [
            {"dimensions": {"host": f"h{n:04}"}, "metricName": "load", "value": n}
            for n in range(first, first + 500)
        ]
        assert put(receiver, rows) == 0
    expect(page.locator("#series-count")).to_have_text("60 shown of 5000, newest first")
    page.locator("#more").click()
    expect(page.locator("#series article")).to_have_count(120)
    page.locator("#text").fill("h0042")
    expect(page.locator("#series article")).to_have_count(1)
    expect(page.locator("#series article .value")).to_contain_text("42")


def test_of_an_endless_series_the_newest_points_are_kept(receiver: Emulator, page: Page) -> None:
    rows = [{"dimensions": {}, "metricName": "load", "value": value} for value in range(6000)]
    assert put(receiver, rows) == 0
    expect(page.locator("#series article")).to_contain_text("Points: 4000")
    expect(page.locator("#series article .value")).to_contain_text("5999")


def test_a_chart_tells_its_values_to_pointer_and_keyboard(receiver: Emulator, page: Page) -> None:
    for value in (1, 2, 3):
        send(receiver, value=value)
    card = page.locator("#series article")
    expect(card).to_contain_text("Points: 3")
    chart = card.locator("svg")
    expect(chart).to_have_attribute(
        "aria-label", "load: 3 values from 1 to 3, the newest 3. Arrow keys read each value."
    )
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 5)
    expect(card.locator(".readout")).to_contain_text("  1")
    page.mouse.move(0, 0)
    expect(card.locator(".readout")).to_have_text("")
    chart.focus()
    for key, value in (("ArrowLeft", 3), ("ArrowLeft", 2), ("Home", 1), ("End", 3)):
        chart.press(key)
        expect(card.locator(".readout")).to_contain_text(f"  {value}")


def test_everything_is_reached_with_the_tab_key_in_a_sensible_order(receiver: Emulator, page: Page) -> None:
    send(receiver)
    expect(page.locator("#series article")).to_have_count(1)
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()")
        )
    wanted = ["a", "pause", "clear", "language", "input", "text", "namespace", "series-state"]
    assert reached[: len(wanted)] == wanted
    assert {"summary", "svg"} <= set(reached)
    # Each has a name that a screen reader says.
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, svg')].filter((node) => node.checkVisibility()"
        " && !node.ariaLabel && !node.getAttribute('aria-label') && !node.textContent.trim()"
        " && ![...(node.labels ?? [])].some((label) => label.textContent.trim())).map((node) => node.outerHTML)"
    )
    assert nameless == []


def test_text_can_be_selected_and_copied_while_points_arrive(receiver: Emulator, page: Page) -> None:
    send(receiver, value=1)
    value = page.locator("#series .value span").first
    expect(value).to_have_text("1")
    value.dblclick(position={"x": 3, "y": 10})
    expect(page.get_by_role("status")).to_have_text("Paused while text is selected")
    with page.expect_response(lambda reply: "/-/activity" in reply.url and '"points": [[' in reply.text()):
        send(receiver, value=2)
    assert page.evaluate("document.getSelection().toString()").strip() == "1"
    page.evaluate("document.getSelection().empty()")
    expect(value).to_have_text("2")
    expect(page.get_by_role("status")).to_have_text("Live")


def test_it_speaks_chinese_where_the_browser_does_and_remembers_a_choice(
    chromium: Browser, receiver: Emulator
) -> None:
    send(receiver)
    with page_of(chromium, receiver.base_url, language="zh-CN") as page:
        expect(page.locator("h1")).to_have_text("模拟接收端")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.locator("#requests th").first).to_have_text("时间")
        page.locator("#language").click()
        expect(page.locator("h1")).to_have_text("Emulated receiver")
        page.reload()
        expect(page.locator("h1")).to_have_text("Emulated receiver")


def test_no_word_is_missing_in_either_language(chromium: Browser, receiver: Emulator) -> None:
    send(receiver)
    for language in ("en-US", "zh-CN"):
        with page_of(chromium, receiver.base_url, language=language) as page:
            expect(page.locator("#series article")).to_have_count(1)
            empty = "[...document.querySelectorAll('[data-word]')].filter((node) => !node.textContent).map((node) => node.dataset.word)"
            assert page.evaluate(empty) == []
            assert "undefined" not in page.inner_text("body")


def test_a_phone_needs_no_sideways_scrolling_in_light_and_dark(chromium: Browser, receiver: Emulator) -> None:
    receiver.report(REPORT)
    send(receiver, "a" * 200, host="b" * 300)
    with page_of(chromium, receiver.base_url, width=360) as page:
        expect(page.locator("#series article")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        keep_picture(page, "phone")
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 30)"
        keep_picture(page, "phone-dark")


def test_it_says_so_when_the_receiver_is_gone_and_goes_on_when_it_is_back(chromium: Browser) -> None:
    emulator = Emulator()
    emulator.start()
    try:
        with page_of(chromium, emulator.base_url) as page:
            status = page.get_by_role("status")
            expect(status).to_have_text("Live")
            page.route("**/-/activity**", lambda route: route.fulfill(status=500, body="{"))
            expect(status).to_have_text("No answer from the server; trying again")
            page.unroute("**/-/activity**")
            expect(status).to_have_text("Live")
    finally:
        emulator.stop()


def test_the_page_shows_only_valid_reports(receiver: Emulator) -> None:
    receiver.report(
        {"outcomes": {"delivered": "many", "<b>": 1}, "errors": "x", "requests": 3, "received": True}
    )
    with urlopen(f"{receiver.base_url}/-/activity", timeout=20) as reply:
        (report,) = json.loads(reply.read())["reports"]
    assert (report["outcomes"], report["errors"], report["received"]) == ({"delivered": 0}, [], 0)
