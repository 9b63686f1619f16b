"""The page in a real browser: charts are drawn, nothing is reported on the console, nothing scrolls sideways."""

import importlib.util
import shutil

import pytest
from report_fixtures import (
    DEAD,
    SEARCH,
    SENSITIVITY,
    run_metrics,
    run_result,
    speed,
    sweep_result,
    write_run,
    write_sweep,
)

from secateur.lab.report import build

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)

pytestmark = [
    pytest.mark.skipif(not BROWSER or not DRIVER, reason="needs a browser: chromium and chromedriver on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("selenium") is None, reason="needs selenium: pip install selenium"),
]

FACTS = """
const marks = [...document.querySelectorAll("svg.marks")];
const reach = (svg) => svg.getBoundingClientRect().right;
return {
  width: document.documentElement.clientWidth,
  content: document.documentElement.scrollWidth,
  charts: document.querySelectorAll('script[type="application/json"]').length,
  svgs: marks.length,
  paths: marks.map((svg) => svg.querySelectorAll("[role=graphics-symbol], .mark-line path, .mark-rect path").length),
  furthest: Math.max(...marks.map(reach)),
  label: getComputedStyle(document.querySelector("svg.marks .role-axis-label text")).fill,
  page: getComputedStyle(document.body).backgroundColor,
  requests: performance.getEntriesByType("resource").map((entry) => entry.name),
};
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=["run", "facts", "speed", "sweep", "many methods", "long names"])
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    if request.param == "run":
        return build(write_run(folder, run_result(), run_metrics()))
    if request.param == "sweep":
        return build(write_sweep(folder, sweep_result()))
    if request.param == "many methods":
        return build(write_sweep(folder, sweep_result({f"a-long-method-name-{number}": "" for number in range(19)})))
    result = run_result()
    if request.param == "speed":
        return build(write_run(folder, result | {"speed": speed(shrunk=True)}, run_metrics()))
    if request.param == "facts":
        result["facts"] = {"sensitivity": SENSITIVITY, "search": SEARCH, "dead": DEAD, "frozen": ["fc1.weight"]}
        return build(write_run(folder, result, run_metrics()))
    result["name"] = result["command"] = "a-name-without-any-place-to-break-it-" * 5
    for layer in result["measure"]["pruned"]["layers"]:
        layer["name"] = "transformer.encoder.layers.11.self_attention.output_projection." + layer["name"]
    return build(write_run(folder, result, run_metrics()))


def look(browser, page, width, scheme):
    """Open the page at a width in CSS pixels and a colour scheme; return what there is to see."""
    from selenium.webdriver.support.ui import WebDriverWait

    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    WebDriverWait(browser, 30).until(drawn)
    return browser.execute_script(FACTS)


def drawn(browser):
    return browser.execute_script(
        "const waiting = document.querySelectorAll('.vega').length;"
        "return waiting > 0 && document.querySelectorAll('svg.marks').length >= waiting;"
    )


def brightness(colour):
    return sum(int(part) for part in colour[colour.index("(") + 1 :].rstrip(")").split(",")[:3]) / 3


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_and_nothing_scrolls_sideways(browser, page, width, scheme):
    browser.get_log("browser")
    seen = look(browser, page, width, scheme)
    assert seen["width"] == pytest.approx(width, abs=20)
    assert seen["content"] <= seen["width"]
    assert seen["furthest"] <= seen["width"], "a chart is cut off at the right"
    assert seen["svgs"] >= 2
    assert all(count >= 2 for count in seen["paths"])
    assert seen["requests"] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    paper, ink = brightness(seen["page"]), brightness(seen["label"])
    assert (paper > 200 and ink < 140) if scheme == "light" else (paper < 60 and ink > 120)


def test_charts_follow_a_change_of_the_colour_scheme(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    look(browser, page, 1200, "light")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    WebDriverWait(browser, 30).until(
        lambda browser: drawn(browser) and brightness(browser.execute_script(FACTS)["label"]) > 120
    )


def test_charts_follow_the_width_of_the_window(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    look(browser, page, 1200, "light")
    narrow = {"width": 360, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    WebDriverWait(browser, 30).until(lambda browser: browser.execute_script(FACTS)["furthest"] <= 360)
    seen = browser.execute_script(FACTS)
    assert seen["content"] <= seen["width"]


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "selection"])
def test_the_command_can_be_copied_without_a_network(browser, tmp_path, clipboard):
    from selenium.webdriver.support.ui import WebDriverWait

    page = build(write_run(tmp_path, run_result(), run_metrics()))
    look(browser, page, 1200, "light")
    if not clipboard:  # as in browsers that keep it from pages opened from a file
        browser.execute_script("Object.defineProperty(navigator, 'clipboard', {value: undefined});")
    button = browser.find_element("id", "copy")
    assert button.is_displayed()
    button.click()
    WebDriverWait(browser, 10).until(lambda _: button.text == "Copied")
    browser.execute_script("document.body.append(document.createElement('textarea'));")
    field = browser.find_element("tag name", "textarea")
    field.send_keys("\ue009v")  # Ctrl+V
    assert field.get_property("value").strip() == run_result()["command"]
