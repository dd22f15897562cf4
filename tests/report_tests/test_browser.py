"""The page in a real browser: headless Chromium opens it as a file, at a desktop's and a phone's width.

Skipped, with the reason, where Chromium, its driver or selenium is missing (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from made_records import make_experiment, write_sentences
from needs import CHROMEDRIVER, CHROMIUM

from harness.records.store import RecordStore
from harness.report.page import write_report
from harness.report.sources import load_sources

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

OFF = ("gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage")
FLAGS = ("--headless=new", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in OFF))
SIZES = {"desktop": (1440, 900), "phone": (375, 812)}
Driver = Any


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Four arms, so that every order of theirs is another one, and a sentence that is a script."""
    root = tmp_path_factory.mktemp("browser")
    write_sentences(root / "sentences.jsonl")
    arms = {"frozen": 0.5, "delta": 0.2, "alpha_with_a_rather_long_name": 0.7, "charlie": 0.35}
    store = make_experiment(root / "results", root / "sentences.jsonl", arms)
    write_report(load_sources(root / "results", "made"), None)
    return store


@pytest.fixture(scope="module", params=SIZES)
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One browser a size, with a profile of its own."""
    width, height = SIZES[request.param]
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    if request.param == "phone":
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True, "mobile": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    driver.requested_width = width
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Driver, store: RecordStore) -> Driver:
    """The page, opened anew in the system's light theme; afterwards nothing may stand in the console."""
    browser.get("about:blank")
    for log in ("browser", "performance"):  # what the browser's own first page did, or the test before
        browser.get_log(log)
    emulate(browser, "light")
    browser.get((store.path / "report.html").as_uri())
    browser.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")
    browser.refresh()
    return browser


def emulate(browser: Driver, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find(browser: Driver, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def rows(browser: Driver) -> list[str]:
    """The names of the rows that are shown, in order."""
    script = """return [...document.querySelectorAll('#results-table tbody tr')].filter((row) => row.offsetParent)
        .map((row) => row.querySelector('th').textContent.trim())"""
    return list(browser.execute_script(script))


def background(browser: Driver) -> int:
    """How light the page's paper is, 0 to 255."""
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return int(colour.removeprefix("rgb(").split(",")[0])


def test_no_request_no_error_no_sideways_scrolling(page: Driver) -> None:
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert asked and all(url.startswith(("file://", "data:")) for url in asked)
    widths = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1] <= page.requested_width
    assert page.execute_script("return document.querySelectorAll('img, iframe').length") == 0


def test_wide_tables_scroll_inside(page: Driver) -> None:
    inside = page.execute_script(
        "const box = document.querySelector('#results-table .scroll'); return [box.scrollWidth, box.clientWidth]"
    )
    if page.requested_width < 600:
        assert inside[0] > inside[1]
    assert inside[1] <= page.requested_width


def test_scripts_in_sentences_did_not_run(page: Driver) -> None:
    texts = page.execute_script("return document.querySelector('#examples').textContent")
    assert '<script>alert("x")</script>' in texts
    assert page.execute_script("return document.scripts.length") == 1


PRESS: dict[str, Callable[[Any], None]] = {
    "click": lambda element: element.click(),
    "keyboard": lambda element: element.send_keys("\ue007"),  # enter
}


@pytest.mark.parametrize("act", PRESS.values(), ids=PRESS)
def test_sorting(page: Driver, store: RecordStore, act: Callable[[Any], None]) -> None:
    from harness.tables.build import build_table

    table = build_table(store)
    values = {row.id: row.cells["target_accuracy"].value or 0.0 for row in table.rows}
    by_value = sorted(values, key=lambda row: values[row])
    original = rows(page)
    assert original == list(values)
    header = "#results-table th[data-column='target_accuracy']"
    button = find(page, f"{header} button")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'})", button)
    for order, state in ((by_value, "ascending"), (by_value[::-1], "descending"), (original, None)):
        act(button)
        assert rows(page) == order
        assert find(page, header).get_attribute("aria-sort") == state
    corner = find(page, "#results-table th[id$='-corner'] button")
    act(corner)
    assert rows(page) == sorted(values)


def test_filtering(page: Driver) -> None:
    box = find(page, "#filter")
    box.send_keys("ALPHA")
    assert rows(page) == ["alpha_with_a_rather_long_name"]
    assert find(page, "#filter-count").text == "1 of 4 rows"
    box.clear()
    box.send_keys("a e")  # both words
    assert rows(page) == ["delta", "alpha_with_a_rather_long_name", "charlie"]
    box.clear()
    box.send_keys("nothing has this")
    assert rows(page) == []
    box.send_keys("\ue003" * 20)  # backspace
    assert len(rows(page)) == 4
    assert find(page, "#filter-count").text == ""


def test_dark_and_light(page: Driver) -> None:
    button = find(page, "#theme")
    assert background(page) > 240 and button.text == "Dark"
    button.click()
    assert background(page) < 40 and button.text == "Light"
    page.refresh()
    assert background(page) < 40  # remembered
    find(page, "#theme").click()
    assert background(page) > 240
    page.execute_script("localStorage.clear()")
    page.refresh()
    emulate(page, "dark")
    assert background(page) < 40  # the system's
    find(page, "#theme").click()
    assert background(page) > 240  # against the system's


def test_figures_follow_the_theme(page: Driver) -> None:
    script = "return getComputedStyle(document.querySelector('svg.themed text')).fill"
    light = page.execute_script(script)
    find(page, "#theme").click()
    assert page.execute_script(script) != light


def test_examples_open(page: Driver) -> None:
    details = page.find_elements("css selector", "#examples details")
    assert [element.get_attribute("open") is not None for element in details] == [True, False, False]
    summary = details[1].find_element("css selector", "summary")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", summary)
    summary.click()
    assert details[1].get_attribute("open") is not None


def test_keyboard_starts_at_the_skip_link_and_shows_focus(page: Driver) -> None:
    find(page, "body").send_keys("\ue004")  # tab
    assert page.execute_script("return document.activeElement.className") == "skip"
    assert page.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_printing_opens_everything_on_white(page: Driver) -> None:
    find(page, "#theme").click()
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert background(page) == 255
    assert all(d.get_attribute("open") is not None for d in page.find_elements("css selector", "details"))
    assert not find(page, "nav").is_displayed() and not find(page, "#theme").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_script_the_page_is_whole(page: Driver) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.refresh()
    try:
        assert len(page.find_elements("css selector", "#results-table tbody tr")) == 4
        assert not find(page, "#filter-form").is_displayed()
        assert not find(page, "#theme").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_nothing_in_the_console_after_all_that(page: Driver, store: RecordStore) -> None:
    for selector in ("#theme", "#results-table th[id$='-corner'] button"):
        find(page, selector).click()
    find(page, "#filter").send_keys("a")
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
