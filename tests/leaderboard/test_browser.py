"""The page in a real headless Chromium; skipped where none is installed."""

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from benchmarks.leaderboard import learning_curves, write_run
from offjax.leaderboard import page, reported, screenshot, store

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
BROWSER, DRIVER = screenshot.find_browser(), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no Chromium: apt-get install chromium chromium-driver",
)
EVIL = "<img src=x onerror=window.hacked=1>"
U, M, H = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0", "hopper-medium-v2"


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for method, level in (("bc", 30), ("cfpi", 90), ("asp", 60), (EVIL, 45)):
        for dataset in (U, M, H):
            scores = learning_curves(4, 12, rng, level)
            write_run(root, "m", dataset, seeds=range(4), scores=scores,
                      run_id=f"r{level}", variants=("default",))  # fmt: skip
            folder = root / "m" / dataset / f"r{level}"
            config = folder / "config.json"
            config.write_text(config.read_text().replace('"m"', json.dumps(method)))
            rows = folder / "scores.csv"
            rows.write_text(rows.read_text().replace("\nm,", f"\n{method},"))
    write_run(root, "cfpi", U, seeds=[9], info={"status": "running"},
              variants=("k=5",))  # fmt: skip
    text = page.render(store.read([root]), reported.load())
    path = root / "leaderboard.html"
    page.write(path, text)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*screenshot.FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    logs = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page_url):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page_url)
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert urlsplit(url).scheme in ("file", "data"), url


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def section(browser, name):
    return next(
        s for s in find(browser, ".group") if s.get_attribute("data-domain") == name
    )


def rows(browser, name="offjax/maze2d"):
    """Names of the visible rows of a group's table."""
    return [
        row.get_attribute("data-name")
        for row in section(browser, name).find_elements(
            "css selector", ".board tbody tr"
        )
        if row.is_displayed()
    ]


def choose(browser, field, value):
    browser.execute_script(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        field,
        value,
    )


def test_rows_come_best_first_with_the_evil_name_as_text(opened):
    assert rows(opened) == ["cfpi", "asp", EVIL, "bc", "cfpi (k=5)"]
    shown = section(opened, "offjax/maze2d").text
    assert EVIL in shown and find(opened, "img") == []


def test_sorting_by_click_and_by_keyboard(opened):
    table = section(opened, "offjax/maze2d").find_element("css selector", ".board")
    heads = table.find_elements("css selector", "thead th")
    button = heads[0].find_element("css selector", "button")
    button.click()
    assert heads[0].get_attribute("aria-sort") == "ascending"
    assert rows(opened) == [EVIL, "asp", "bc", "cfpi", "cfpi (k=5)"]
    button.send_keys("\ue007")  # Enter
    assert heads[0].get_attribute("aria-sort") == "descending"
    assert rows(opened) == ["cfpi (k=5)", "cfpi", "bc", "asp", EVIL]
    total = heads[1].find_element("css selector", "button")
    total.click()
    assert heads[1].get_attribute("aria-sort") == "descending"
    assert heads[0].get_attribute("aria-sort") == "none"
    assert rows(opened) == ["cfpi", "asp", EVIL, "bc", "cfpi (k=5)"]
    total.send_keys(" ")
    # What has no value stays last in both directions.
    assert rows(opened) == ["bc", EVIL, "asp", "cfpi", "cfpi (k=5)"]


def test_filters(opened):
    choose(opened, "method", "CF")
    assert rows(opened) == ["cfpi", "cfpi (k=5)"]
    series = section(opened, "offjax/maze2d").find_elements(
        "css selector", "svg .series"
    )
    visible = [s for s in series if s.value_of_css_property("display") != "none"]
    assert 0 < len(visible) < len(series)
    choose(opened, "method", "")
    choose(opened, "dataset", "umaze")
    heads = section(opened, "offjax/maze2d").find_elements(
        "css selector", "thead [data-dataset]"
    )
    assert [h.get_attribute("data-dataset") for h in heads if h.is_displayed()] == [U]
    assert not section(opened, "d4rl/gym").is_displayed()
    choose(opened, "dataset", "")
    choose(opened, "domain", "d4rl/gym")
    assert not section(opened, "offjax/maze2d").is_displayed()
    choose(opened, "source", "measured")
    assert rows(opened, "d4rl/gym") == ["cfpi", "asp", EVIL, "bc"]
    choose(opened, "source", "reported")
    names = rows(opened, "d4rl/gym")
    assert "IQL ‡CORL last" in names and "cfpi" not in names
    assert "domain=d4rl" in opened.current_url
    opened.refresh()
    assert rows(opened, "d4rl/gym") == names
    choose(opened, "method", "no such")
    assert find(opened, ".nothing")[0].is_displayed()
    find(opened, ".filters [type=reset]")[0].click()
    opened.implicitly_wait(1)
    assert find(opened, ".group:not([hidden])") and len(rows(opened)) == 5


def heads(browser):
    """Names of the visible columns of the matrix, in order."""
    return [
        head.get_attribute("data-name")
        for head in find(browser, ".all thead th")
        if head.is_displayed()
    ]


def matrix_row(browser, name):
    return next(
        row for row in find(browser, ".all tbody tr")
        if row.get_attribute("data-name") == name
    )  # fmt: skip


def scores(row):
    """The values of a row of the matrix as shown, without those that are not there."""
    texts = [cell.text for cell in row.find_elements("css selector", "td")]
    return [float(text.split("\n")[0].rstrip("*†")) for text in texts if text != "–"]


def test_the_matrix_comes_first_with_the_best_column_first(opened):
    first = find(opened, "main > section, main > details")[0]
    assert first.get_attribute("class") == "overview"
    assert heads(opened) == ["cfpi", "asp", EVIL, "bc", "cfpi (k=5)"]
    labels = [r.text.split("\n")[0] for r in find(opened, ".all tbody th")]
    assert labels == [
        "hopper-medium-v2", "offjax/maze2d/medium-v0", "offjax/maze2d/umaze-v0",
        "offjax/maze2d: mean of 2", "all: IQM of 3",
    ]  # fmt: skip
    row = matrix_row(opened, M)
    (best,) = row.find_elements("css selector", ".best")
    assert float(best.text) == max(scores(row))


def test_a_row_sorts_the_columns_of_the_matrix(opened):
    row = matrix_row(opened, U)
    button = row.find_element("css selector", ".across")
    button.click()
    assert row.find_element("css selector", "th").get_attribute("aria-sort") == (
        "descending"
    )
    assert scores(row) == sorted(scores(row), reverse=True)
    names = heads(opened)
    button.send_keys(" ")
    assert scores(row) == sorted(scores(row))
    assert heads(opened) == names[::-1]
    last = scores(row)
    choose(opened, "at", "best")
    assert scores(row) == sorted(scores(row)) and scores(row) > last


def test_filters_of_the_matrix(opened):
    choose(opened, "method", "cf")
    assert heads(opened) == ["cfpi", "cfpi (k=5)"]
    choose(opened, "domain", "offjax/maze2d")
    assert matrix_row(opened, "offjax/maze2d").is_displayed()
    assert not matrix_row(opened, H).is_displayed()
    choose(opened, "dataset", "umaze")
    assert matrix_row(opened, U).is_displayed()
    assert not matrix_row(opened, "offjax/maze2d").is_displayed()
    choose(opened, "source", "reported")
    assert not find(opened, ".overview")[0].is_displayed()


def test_a_number_of_the_matrix_opens_its_details(opened):
    matrix_row(opened, M).find_elements("css selector", ".cell")[0].click()
    (dialog,) = find(opened, "dialog")
    assert dialog.find_element("css selector", "code").text == M
    dialog.find_element("css selector", ".close").click()


def pair(browser):
    """Label → texts of the rows of the comparison."""
    rows = find(browser, ".pair tbody tr")
    texts = [[c.text for c in r.find_elements("css selector", "th, td")] for r in rows]
    return {name: rest for name, *rest in texts}


def test_two_methods_are_compared(opened):
    found = pair(opened)
    assert list(found) == ["hopper-medium-v2", M, U, "mean of 3"]
    a, b, difference, _, probability, needed = found[M]
    assert difference.startswith("+") and probability == "1.00"
    value, low, high = (float(x.strip("[],")) for x in difference.split())
    assert value == pytest.approx(float(a) - float(b), abs=0.11)
    assert low < value < high and needed.endswith(" seeds")
    find(opened, "#pair-swap")[0].click()
    swapped = pair(opened)[M]
    assert swapped[:2] == [b, a] and swapped[4:] == ["0.00", needed]
    assert float(swapped[2].split()[0]) == -value
    choose(opened, "pair-a", "4")  # one seed on one dataset
    found = pair(opened)
    assert list(found) == [U, "mean of 1"] and found[U][5] == "–"
    choose(opened, "pair-a", "0")
    assert list(pair(opened)) == ["Choose two methods."]


def test_checkpoint_changes_the_numbers(opened):
    def shown():
        return section(opened, "offjax/maze2d").find_element(
            "css selector", "tbody tr td[data-dataset]"
        ).text  # fmt: skip

    last = shown()
    choose(opened, "at", "best")
    assert float(shown().split()[0]) > float(last.split()[0])
    choose(opened, "at", "ten")
    assert shown() not in ("", last)


def test_details_of_a_cell(opened):
    cells = section(opened, "offjax/maze2d").find_elements("css selector", ".cell")
    cells[0].send_keys("\ue007")
    (dialog,) = find(opened, "dialog")
    assert dialog.get_attribute("open") is not None
    assert dialog.find_element("css selector", "h2").text == "cfpi"
    assert len(dialog.find_elements("css selector", "tbody tr")) == 4
    assert len(dialog.find_elements("css selector", "polyline")) == 4
    for expected in ("0123456789abcdef", "jax 0.10.2", "1234.5", "61.5", "f00d"):
        assert expected in dialog.text
    dialog.find_element("css selector", "details summary").click()
    assert '"batch_size": 256' in dialog.text
    opened.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not dialog.is_displayed()


def test_details_of_an_evil_name_are_text(opened):
    row = next(
        r for r in find(opened, ".group tbody tr")
        if r.get_attribute("data-name") == EVIL
    )  # fmt: skip
    row.find_element("css selector", ".cell").click()
    (dialog,) = find(opened, "dialog")
    assert dialog.find_element("css selector", "h2").text == EVIL
    dialog.find_element("css selector", ".close").click()
    assert not dialog.is_displayed()


def test_theme_follows_the_system_and_the_button(opened):
    def ground():
        return find(opened, "body")[0].value_of_css_property("background-color")

    colors = {}
    for scheme in ("dark", "light"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colors[scheme] = ground()
    assert colors["dark"] != colors["light"]
    find(opened, "#theme")[0].click()
    assert ground() == colors["dark"]
    opened.refresh()
    assert ground() == colors["dark"]
    find(opened, "#theme")[0].click()
    assert ground() == colors["light"]


def test_legend_picks_a_method(opened):
    keys = section(opened, "offjax/maze2d").find_elements("css selector", ".key")
    (key,) = [k for k in keys if k.text == "asp"]
    key.click()
    assert key.get_attribute("aria-pressed") == "true"
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    picked = section(opened, "offjax/maze2d").find_elements("css selector", ".picked")
    assert picked
    assert {p.get_attribute("data-method") for p in picked} == {
        key.find_element("xpath", "..").get_attribute("data-method")
    }


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_no_sideways_scrolling(opened, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        inner = opened.execute_script("return document.documentElement.scrollWidth")
        assert inner <= width
        small = opened.execute_script(
            "return [...document.querySelectorAll('svg text')].filter(t =>"
            "t.getBoundingClientRect().height && t.getBoundingClientRect().width &&"
            "parseFloat(getComputedStyle(t).fontSize) *"
            "t.ownerSVGElement.getBoundingClientRect().width / 360 < 8.5).length"
        )
        assert small == 0
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_for_screen_readers(opened):
    unnamed = opened.execute_script(
        "return [...document.querySelectorAll('button, input, select')].filter(e =>"
        "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert unnamed == 0
    for svg in find(opened, "svg"):
        assert svg.get_attribute("role") == "img" and svg.get_attribute("aria-label")
    for table in find(opened, ".board"):
        for head in table.find_elements("css selector", "th"):
            assert head.get_attribute("scope") in ("row", "col")


def test_screenshot_command(page_url, tmp_path):
    out = tmp_path / "sub" / "picture.png"
    screenshot.take(Path(urlsplit(page_url).path), out, 800, 600)
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 20_000
