"""The report in a real browser: it draws, asks for nothing, and answers mouse, touch and keys."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.report.moves import weakest_move

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATH = next(filter(None, map(shutil.which, BROWSERS)), None)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    PATH is None, reason=f"there is no browser: none of {', '.join(BROWSERS)} is on the path"
)


@pytest.fixture(scope="module")
def fitted(measure):
    """A healthy fit of five angles with points missing at one of them."""
    m = measure(n=61, phi=(0.0, 30.0, 60.0, 90.0, 120.0), noise=0.02, seed=3)
    m.data.c2[1, 5:9, 20:40] = np.nan
    return hf.fit(m.data, gap=m.gap, multi_start=False)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("page") / "results")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PATH, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a report: ``opened(path, width=, …)``; what goes wrong in it fails the test."""
    contexts, troubles = [], []

    def open_page(path, width=1200, ready=True, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        requests = []
        page.goto(path.as_uri())
        if ready and options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]")
        assert requests == [path.as_uri()]
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def page(opened, folder):
    return opened(folder / "report.html")


def box_of(page, selector):
    """Where an element is, once it can be seen."""
    page.locator(selector).scroll_into_view_if_needed()
    return page.locator(selector).bounding_box()


def number(text):
    """The first number of a text, a power of ten behind a bracket included."""
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    text = text.translate(superscripts).replace("+", "")
    value = re.search(r"-?\d+\.?\d*", text)[0]
    power = re.search(r"× 10(-?\d+)", text)
    return float(f"{value}e{power[1] if power else 0}")


def selected(page):
    return page.get_by_role("radio", checked=True).inner_text()


def painted(page, selector):
    """Number of different colours of a canvas."""
    return page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }""",
        selector,
    )


def test_numbers_are_those_of_parameters_json(page, folder):
    stored = json.loads((folder / "parameters.json").read_text("utf-8"))
    for name, estimate in stored["parameters"].items():
        text = page.locator(f"[data-parameter={name}]").inner_text()
        error = estimate["stderr"] or 1e-12
        assert number(text) == pytest.approx(estimate["value"], abs=0.06 * error, rel=1e-5)
    page.get_by_text("Table of the angles").click()
    for row, angle in zip(page.locator("#scaling tbody tr").all(), stored["scaling"], strict=True):
        cells = row.locator("th, td").all_inner_texts()
        assert number(cells[0]) == angle["phi"]
        for cell, kind in ((cells[1], "contrast"), (cells[2], "offset")):
            assert number(cell) == pytest.approx(angle[kind]["value"], abs=angle[kind]["stderr"])


def test_everything_is_drawn(page):
    for panel in ("data", "fit", "residual"):
        assert painted(page, f"#panel-{panel} canvas") > 50
    for chart in page.locator("div.chart").all():
        assert chart.locator("svg path.line, svg .dot circle").count() > 0
        assert (
            chart.locator("svg")
            .get_attribute("aria-label")
            .startswith(chart.get_attribute("data-name"))
        )
    page.wait_for_function(
        "[...document.querySelectorAll('#strip canvas')].every((canvas) => canvas.width === 61)"
    )
    assert painted(page, "#strip button:nth-child(5) canvas") > 50


def test_the_cursor_tells_data_fit_and_residual(page, fitted):
    box = box_of(page, "#panel-data svg")
    # Block 1: a pixel is a point. t1 of frame 12, t2 of frame 33.
    n = 61
    x, y = box["x"] + box["width"] * 12.5 / n, box["y"] + box["height"] * (1 - 33.5 / n)
    page.mouse.move(x, y)
    told = {name: number(page.locator(f"#at-{name}").inner_text()) for name in (
        "t1", "t2", "lag", "age", "c2", "fit", "residual")}  # fmt: skip
    data, fit = float(fitted.data.c2[0, 12, 33]), float(fitted.c2(0)[12, 33])
    assert (told["t1"], told["t2"], told["lag"]) == pytest.approx((1.2, 3.3, 2.1))
    assert told["age"] == pytest.approx(2.25)
    assert told["c2"] == pytest.approx(data, abs=0.001)
    assert told["fit"] == pytest.approx(fit, abs=0.001)
    assert told["residual"] == pytest.approx((data - fit) / fitted.noise, abs=0.02)
    for panel in ("fit", "residual"):
        assert page.locator(f"#panel-{panel} svg .through").count() == 1
    assert "2.25 s" in page.locator("#cut-age").locator("xpath=..").locator("h3").inner_text()
    # A pointer on a cut moves the cursor of the matrices.
    chart = box_of(page, "#cut-lag svg")
    page.mouse.click(chart["x"] + 0.8 * chart["width"], chart["y"] + 50)
    assert number(page.locator("#at-lag").inner_text()) == pytest.approx(2.1)
    assert number(page.locator("#at-age").inner_text()) > 3


def test_a_missing_point_is_said_to_be_missing(page):
    page.get_by_role("radio", name="φ = 30°").click()
    box = box_of(page, "#panel-data svg")
    page.mouse.move(box["x"] + box["width"] * 6.5 / 61, box["y"] + box["height"] * (1 - 30.5 / 61))
    assert page.locator("#at-c2").inner_text() == "missing"


def test_angles_are_chosen_by_mouse_and_keys(page):
    assert selected(page) == "0°"
    page.get_by_role("radio", name="φ = 60°").click()
    assert selected(page) == "60°"
    assert "φ = 60°" in page.locator("#angle-name").inner_text()
    page.keyboard.press("ArrowRight")
    assert selected(page) == "90°"
    page.locator("#panel-fit svg").focus()
    page.keyboard.press("PageDown")
    assert selected(page) == "120°"
    before = page.locator("#at-t1").inner_text()
    page.keyboard.press("ArrowRight")
    assert number(page.locator("#at-t1").inner_text()) == pytest.approx(number(before) + 0.1)
    page.locator("#scaling-contrast svg").focus()
    page.keyboard.press("Home")
    assert selected(page) == "0°"


def test_the_slider_moves_parameters_curves_and_chi_squared(page, fitted):
    slider = page.get_by_role("slider")
    assert page.locator("path.moved").count() == 0
    slider.focus()
    page.keyboard.press("End")
    assert page.locator("path.moved").count() > 3
    rise = number(page.locator("#rise").inner_text().partition("=")[2])
    rows = page.locator("#moved-parameters tr").all_inner_texts()
    moved = {row.split()[0]: number(row.split("\t")[1]) for row in rows}
    expected = weakest_move(fitted, np.array([0]))
    assert set(moved) == set(expected.parameters)
    for name, values in expected.parameters.items():
        assert moved[name] == pytest.approx(values[-1], rel=1e-3)
    assert rise == pytest.approx(expected.rise[-1], rel=0.05)
    page.get_by_role("button", name="back to the fit").click()
    assert page.locator("path.moved").count() == 0
    assert "= 0," in page.locator("#rise").inner_text()


def test_colours_and_axes_can_be_changed(page):
    before = page.locator("#panel-data .colours span").first.inner_text()
    page.locator("#low").fill("0.5")
    page.locator("#low").press("Enter")
    assert page.locator("#range").input_value() == "own"
    assert page.locator("#panel-data .colours span").first.inner_text() == "0.5" != before
    page.locator("#sigmas").select_option("2")
    assert page.locator("#panel-residual .colours span").last.inner_text() == "2 σ"
    log = page.locator("#cut-mean svg").inner_html()
    page.locator("#lag-axis").select_option("linear")
    assert page.locator("#cut-mean svg").inner_html() != log
    page.locator("#rate-axis").select_option("log")
    page.locator("#strip-shows").select_option("residual")
    page.locator("#colours").select_option("log")


def test_a_curve_is_told_under_the_pointer(page, fitted):
    page.locator("#rate-J svg").focus()
    page.keyboard.press("End")
    text = page.locator("#rate-J .readout").inner_text()
    (value,), (error,) = fitted.J(fitted.times[-1:])
    assert "6 s" in text
    assert number(text.split(":")[1]) == pytest.approx(value, abs=error)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_too_wide_and_a_finger_moves_the_cursor(opened, folder, scheme):
    path = folder / "report.html"
    page = opened(path, 390, has_touch=True, is_mobile=True, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = box_of(page, "#panel-residual svg")
    page.touchscreen.tap(box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"])
    assert number(page.locator("#at-t1").inner_text()) == pytest.approx(0.2 * 6, abs=0.15)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (number(background.removeprefix("rgb(")) > 128) == (scheme == "light")


def test_all_that_can_be_used_has_a_name(page):
    tree = page.locator("body").aria_snapshot()
    for role in ("radio", "slider", "combobox", "spinbutton", "button", "img", "application"):
        assert not re.search(rf"- {role}(\s*\[[^\]]*\])*:?\s*$", tree, re.MULTILINE), role


def test_without_javascript_numbers_and_a_picture_remain(opened, folder):
    page = opened(folder / "report.html", java_script_enabled=False)
    assert page.locator("#static svg.chart").count() == 3
    assert page.locator("#static svg.chart").first.is_visible()
    assert not page.locator("#look").is_visible()
    assert page.locator("[data-parameter=D0]").is_visible()


def test_it_prints(page):
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_one_static_angle_is_drawn(opened, measure, tmp_path):
    m = measure((1200.0, -0.4, 150.0), n=40, phi=(0.0,))
    result = hf.fit(m.data, "static", multi_start=False)
    page = opened(result.save(tmp_path / "r") / "report.html")
    assert page.locator("#strip").is_hidden()
    assert page.locator("#rate-gamma_dot").count() == 0
    assert painted(page, "#panel-data canvas") > 50


def test_raw_matrices_can_be_looked_at(opened, called, small, tmp_path):
    c2 = small.c2.copy()
    c2[1, 9] = c2[1, :, 9] = 3.0
    np.save(tmp_path / "c2.npy", c2)
    path = tmp_path / "c2.html"
    done = called("inspect", tmp_path / "c2.npy", "--html", path)
    assert (done.status, done.err) == (0, "")
    assert f"wrote {path}\n" in done.out
    page = opened(path)
    notes = page.locator(".verdict li").all_inner_texts()
    assert [f"note: {note}" for note in notes] == [
        line for line in done.out.splitlines() if line.startswith("note: ")
    ]
    # It begins with the matrix that has a fault.
    assert selected(page) == "2"
    page.get_by_role("radio").nth(2).click()
    assert painted(page, "#panel-data canvas") > 50
    box = box_of(page, "#panel-data svg")
    page.mouse.move(box["x"] + box["width"] * 4.5 / 24, box["y"] + box["height"] * (1 - 11.5 / 24))
    assert number(page.locator("#at-c2").inner_text()) == pytest.approx(c2[2, 4, 11], abs=0.01)
    assert page.locator("#at-lag").inner_text() == "7 frames"
    page.keyboard.press("ArrowLeft")
    assert selected(page) == "2"
    assert page.locator("#levels .dot.moved circle").count() == 1


def test_several_results_in_one_notebook(opened, fitted, tmp_path):
    path = tmp_path / "notebook.html"
    outputs = "".join(f"<div>{fitted._repr_html_()}</div>" for _ in range(2))
    path.write_text(f"<meta charset='utf-8'>{outputs}", encoding="utf-8")
    page = opened(path, ready=False)
    second = page.locator(".two-time-fit").nth(1)
    second.locator("select").select_option("φ = 60°")
    box = second.locator("svg").first
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    page.mouse.move(place["x"] + place["width"] * 12.5 / 61, place["y"] + place["height"] / 2)
    told = second.locator("output").inner_text()
    assert "t₁ 1.2 s, t₂ 3 s, lag 1.8 s" in told
    assert number(told.partition("c₂ ")[2]) == pytest.approx(fitted.data.c2[2, 12, 30], abs=0.01)
    assert page.locator(".two-time-fit").nth(0).locator("select").input_value() == "φ = 0°"


def test_headers_alone_make_no_page(called, small_array, tmp_path):
    done = called("inspect", small_array, "--headers-only", "--html", tmp_path / "x.html")
    assert done.status == 1
    assert "--headers-only reads no matrix, so --html has nothing to draw" in done.err


def test_a_fit_that_failed_is_obvious(opened, fitted, tmp_path):
    info = replace(fitted.info, success=False, message="stopped after 7 evaluations")
    page = opened(replace(fitted, info=info).save(tmp_path / "r") / "report.html")
    assert "did not converge" in page.locator(".verdict.bad strong").inner_text()
    crossed = page.locator("#quote td.value").first
    if crossed.count():
        assert "line-through" in crossed.evaluate("(e) => getComputedStyle(e).textDecorationLine")
    assert page.get_by_role("slider").count() == 0


def test_fits_are_compared_on_a_page(opened, fitted, tmp_path):
    held = hf.fit(fitted.data, "static", multi_start=False)
    comparison = hf.compare([fitted, held], ["with flow", "<static>"])
    page = opened(comparison.write_html(tmp_path / "c.html"))
    assert page.locator("#rate-J svg path.line").count() == 2
    assert page.locator("#rate-gamma_dot svg path.line").count() == 1
    assert "<static>" in page.locator("#rate-J .legend").inner_text()
    page.locator("#rate-J svg").focus()
    page.keyboard.press("End")
    told = page.locator("#rate-J .readout").inner_text()
    texts = (told.partition(f"{name}: ")[2] for name in ("with flow", "<static>"))
    for result, text in zip((fitted, held), texts, strict=True):
        (value,), (error,) = result.J(result.times[-1:])
        assert number(text) == pytest.approx(value, abs=error)
    row = page.locator("#quantities tr.begins").first.inner_text()
    assert number(row.split("A")[-1]) == pytest.approx(fitted.mean_J()[0], abs=fitted.mean_J()[1])
    page.locator("#rate-axis").select_option("log")
    phone = opened(tmp_path / "c.html", 390, color_scheme="dark")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    plain = opened(tmp_path / "c.html", java_script_enabled=False)
    assert plain.locator("#static svg.chart").count() == 2
