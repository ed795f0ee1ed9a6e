"""The page of a report in a real Chromium: nothing is fetched, and all that it offers works, for everybody."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest

from tests.page.folders import VERDICTS

READY = "html[data-ready]"
TIMES = "\u00d7"


@contextmanager
def opened(browser, path, address="", **options):
    """`path` in a window of its own; whatever goes wrong there is in `window.troubles`, and requests are noted."""
    context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
    try:
        page = context.new_page()
        page.troubles, page.requests = [], []
        page.on("console", lambda message: page.troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("dialog", lambda dialog: page.troubles.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: page.requests.append(request.url))
        page.set_default_timeout(20_000)
        page.goto(path.as_uri() + address)
        if options.get("java_script_enabled", True):
            page.wait_for_selector(READY, state="attached")
        yield page
        assert page.troubles == []
    finally:
        context.close()


@pytest.fixture
def window(browser, check_page_path):
    with opened(browser, check_page_path) as page:
        yield page


def heading(page, name):
    return page.locator("#rows thead th", has=page.get_by_role("button", name=name, exact=True))


def column(page, name):
    """The texts of a column, top to bottom, of the rows that show."""
    place = heading(page, name).evaluate("cell => cell.cellIndex")
    return page.evaluate(
        "place => [...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[place].textContent.trim())",
        place,
    )


def shown(page):
    return page.locator("#shown").text_content()


def ends_of_axis(page, figure="forest"):
    """First and last label of the log axis of a figure."""
    texts = page.locator(f"[data-figure={figure}] svg text").all_text_contents()
    return [text for text in texts if text.endswith(TIMES)]


# ------------------------------------------------------------------------------------------ network


@pytest.mark.parametrize("which", ["check_page_path", "run_page_path"])
def test_nothing_but_the_file_itself_is_fetched(browser, which, request):
    path = request.getfixturevalue(which)
    with opened(browser, path) as page:
        page.locator("#rows [data-opens]").first.click()
        page.wait_for_selector("dialog[data-drawn]")
        fetched = {url for url in page.requests if not url.startswith("data:")}
    assert fetched == {path.as_uri()}


# ---------------------------------------------------------------------------------- table and filter


def test_the_table_has_a_row_for_every_cell_with_icon_and_word(window):
    words = window.locator("#rows .chip").all_text_contents()
    assert set(VERDICTS.values()) == set(words)
    assert window.locator("#rows .chip .icon").count() == len(words)


def test_a_column_sorts_both_ways_and_rows_without_a_number_come_last(window):
    before = column(window, "ratio")
    for direction in ("ascending", "descending"):
        heading(window, "ratio").get_by_role("button").click()
        texts = column(window, "ratio")
        ratios = [float(text.removesuffix(TIMES)) for text in texts if text.endswith(TIMES)]
        assert heading(window, "ratio").get_attribute("aria-sort") == direction
        assert ratios == sorted(ratios, reverse=direction == "descending")
        assert set(texts[len(ratios) :]) == {"detail"}
        assert sorted(texts) == sorted(before)


def test_only_the_column_that_sorts_says_so_and_it_is_said_aloud(window):
    heading(window, "ratio").get_by_role("button").click()
    heading(window, "verdict").get_by_role("button").click()
    assert window.locator("#rows [aria-sort]").count() == 1
    assert window.locator("#said").text_content() == "Sorted by verdict, ascending"


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_sorts_once(window, key):
    heading(window, "pairs").get_by_role("button").focus()
    window.keyboard.press(key)
    assert heading(window, "pairs").get_attribute("aria-sort") == "ascending"


def test_text_verdict_and_runtime_filter_together_and_the_count_is_told(window):
    window.locator("[name=q]").fill("WRONG x")
    assert shown(window) == "2 of 11 rows"
    window.locator("[name=runtime]").select_option("sequential")
    assert shown(window) == "1 of 11 rows"
    assert column(window, "runtime") == ["sequential"]
    window.locator("[name=verdict]").select_option("slower")
    assert shown(window) == "0 of 11 rows"
    assert window.get_by_text("No row has all of that.").is_visible()
    window.get_by_role("button", name="Show all rows").click()
    assert shown(window) == "11 of 11 rows"
    assert window.locator("#shown").get_attribute("aria-live") == "polite"


def test_the_filter_is_kept_in_the_address(window):
    window.locator("[name=verdict]").select_option("not comparable")
    window.locator("[name=q]").fill("unlike x")
    window.reload()
    window.wait_for_selector(READY, state="attached")
    assert shown(window) == "1 of 11 rows"
    assert window.locator("[name=verdict]").input_value() == "not comparable"
    window.get_by_role("button", name="Show all", exact=True).click()
    window.wait_for_function("location.hash === ''")


def test_a_count_shows_its_rows(window):
    window.locator(".count", has_text="slower").click()
    assert shown(window) == "1 of 11 rows"
    assert column(window, "verdict") == ["slower"]


def test_a_filter_that_names_nothing_known_shows_all(browser, check_page_path):
    with opened(browser, check_page_path, "#verdict=sideways&runtime=%22") as page:
        assert shown(page) == "11 of 11 rows"


# ------------------------------------------------------------------------------------------- detail


def test_a_number_opens_its_detail_and_escape_returns_the_focus(window):
    link = window.locator("tr[data-verdict=slower] [data-opens]")
    link.click()
    window.wait_for_selector("dialog[data-drawn]")
    dialog = window.get_by_role("dialog", name="simulation, slow x 15, reactor")
    assert dialog.is_visible()
    titles = dialog.locator(".figure h4").all_text_contents()
    assert titles == ["Pairs", "Ratios of pairs", "Distribution of rounds", "Rounds in the order in which they ran"]
    assert dialog.locator(".figure svg.marks").count() == 4
    assert dialog.get_by_role("region", name="Records of").locator("tbody tr").count() == 72
    assert dialog.get_by_role("region", name="Pairs of").locator("tbody tr").count() == 36
    window.keyboard.press("Escape")
    link.and_(window.locator(":focus")).wait_for()
    assert not dialog.is_visible()
    assert window.locator("dialog .detail").count() == 0


def test_every_number_of_a_row_opens_it_and_the_other_details_close(window):
    window.locator("tr[data-verdict=faster] td.num").first.click()
    assert window.get_by_role("dialog", name="quick x 15").is_visible()
    window.get_by_role("button", name="Close").click()
    window.locator("tr[data-verdict=failed] td.num").first.click()
    assert window.get_by_role("dialog", name="crashing x 15").is_visible()


def test_a_detail_is_in_the_address_and_opens_from_there(window, browser, check_page_path):
    window.locator("tr[data-verdict=faster] [data-opens]").click()
    address = "#" + window.url.split("#")[1]
    with opened(browser, check_page_path, address) as page:
        assert page.get_by_role("dialog", name="quick x 15").is_visible()
        page.keyboard.press("Escape")
        page.wait_for_function("location.hash === ''")


def test_the_command_is_ready_to_copy(browser, check_page_path):
    with opened(browser, check_page_path, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("tr[data-verdict=slower] [data-opens]").click()
        page.get_by_role("button", name="Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("reactorbench check \\\n    --workload simulation")
    assert "--set env_id=slow" in copied


def test_text_of_a_record_is_text(window):
    window.locator("tr[data-verdict=failed] [data-opens]").click()
    assert "</script><img src=x onerror=alert(1)>" in window.locator("dialog .reasons").text_content()
    assert window.locator("img").count() == 0


# ------------------------------------------------------------------------------------------ figures


def test_the_wheel_scrolls_and_with_a_modifier_it_zooms(window):
    plot = window.locator("[data-figure=forest] .plot")
    plot.scroll_into_view_if_needed()
    plot.hover()
    labels, top = ends_of_axis(window), window.evaluate("scrollY")
    window.mouse.wheel(0, 120)
    window.wait_for_function("top => scrollY > top", arg=top)
    assert ends_of_axis(window) == labels
    plot.hover()
    top = window.evaluate("scrollY")
    window.keyboard.down("Control")
    window.mouse.wheel(0, -240)
    window.keyboard.up("Control")
    window.wait_for_timeout(200)
    assert window.evaluate("scrollY") == top
    assert ends_of_axis(window) != labels


def test_buttons_zoom_move_and_reset(window):
    window.evaluate(
        """() => {
            window.labels = () => [...document.querySelectorAll("[data-figure=forest] svg text")]
                .map(text => text.textContent).filter(text => text.endsWith("\u00d7")).sort().join(" ");
            window.first = window.labels();
        }"""
    )
    tools = window.get_by_role("group", name="Zoom: Ratios")
    for name, is_first in (
        ("Zoom in", False),
        ("Zoom out", True),
        ("Move left", False),
        ("Move right", True),
        ("Zoom out", False),
        ("Reset", True),
    ):
        tools.get_by_role("button", name=name).click()
        window.wait_for_function("isFirst => (labels() === first) === isFirst", arg=is_first)


def test_a_dot_of_the_ratios_opens_its_detail(window):
    window.locator("[data-figure=forest] svg .mark-symbol path").first.click()
    assert window.get_by_role("dialog").is_visible()


def test_figures_fit_their_frame_and_follow_it(window):
    for width in (1200, 700):
        window.set_viewport_size({"width": width, "height": 900})
        window.wait_for_function(
            "() => [...document.querySelectorAll('.plot-region')]"
            ".every(one => Math.abs(one.querySelector('svg').width.baseVal.value - one.clientWidth) < 12)"
        )


def test_no_dot_of_a_figure_that_became_wider_is_clipped(browser, run_page_path):
    with opened(browser, run_page_path, viewport={"width": 360, "height": 900}) as page:
        page.set_viewport_size({"width": 1200, "height": 900})
        page.wait_for_function("document.querySelector('[data-figure=forest] svg').width.baseVal.value > 900")
        plot = page.evaluate("parseFloat(document.querySelector('[data-figure=forest] .plot svg').width.baseVal.value)")
        clips = page.locator("[data-figure=forest] .plot clipPath rect")
        widths = [float(clips.nth(n).get_attribute("width")) for n in range(clips.count())]
        assert not widths or min(widths) > plot / 2


def test_a_figure_has_no_actions_of_the_library_and_its_numbers_stand_beside_it(window):
    assert window.locator(".vega-actions, .vega-embed summary").count() == 0
    window.get_by_text("The numbers of this figure").click()
    assert window.get_by_role("region", name="Numbers of the ratios").locator("tbody tr").count() == 5


def test_scaling_has_a_figure_where_there_are_several_numbers_of_workers(browser, run_page_path):
    with opened(browser, run_page_path) as page:
        assert page.locator("#scaling svg .mark-symbol path").count() == 3
        page.get_by_role("group", name="Zoom: Throughput").get_by_role("button", name="Zoom in").click()


# ------------------------------------------------------------------------------------------- access


def faults(page, axe, below="body", only=None):
    """What axe finds of serious or critical grade."""
    page.evaluate(axe)
    options = {"resultTypes": ["violations"]} | ({"runOnly": only} if only else {})
    found = page.evaluate("([below, options]) => axe.run(below, options)", [below, options])
    return [
        (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("which", ["check_page_path", "run_page_path"])
def test_axe_finds_nothing_serious(browser, axe, which, request):
    with opened(browser, request.getfixturevalue(which), reduced_motion="reduce") as page:
        assert faults(page, axe, "html") == []
        page.locator("#rows [data-opens]").nth(1).click()
        page.wait_for_selector("dialog[data-drawn]")
        assert faults(page, axe, "dialog") == []


def test_axe_finds_no_lack_of_contrast_in_the_dark(browser, axe, check_page_path):
    with opened(browser, check_page_path, color_scheme="dark", reduced_motion="reduce") as page:
        assert faults(page, axe, only=["color-contrast"]) == []
        page.locator("#rows [data-opens]").nth(1).click()
        page.wait_for_selector("dialog[data-drawn]")
        assert faults(page, axe, "dialog", ["color-contrast"]) == []


def test_axe_finds_what_is_wrong(window, axe):
    window.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button>')")
    assert [name for name, *_ in faults(window, axe, only=["button-name"])] == ["button-name"]


def test_the_first_tab_skips_to_the_table(window):
    window.keyboard.press("Tab")
    assert window.get_by_text("Skip to the table").evaluate("link => link === document.activeElement")
    window.keyboard.press("Enter")
    assert window.evaluate("document.activeElement.id") == "table"


def test_who_wants_less_motion_gets_none(browser, check_page_path):
    with opened(browser, check_page_path, reduced_motion="reduce") as page:
        page.locator("#rows [data-opens]").first.click()
        assert page.locator("dialog").evaluate("dialog => getComputedStyle(dialog).animationName") == "none"


def test_figures_have_the_colours_of_the_page_in_light_and_dark(window):
    for scheme in ("light", "dark"):
        window.emulate_media(color_scheme=scheme)
        ink = window.evaluate("getComputedStyle(document.body).color")
        label = window.locator("[data-figure=forest] svg text").first
        assert label.evaluate("text => getComputedStyle(text).fill") == ink


# ------------------------------------------------------------------------- widths, print, no script


@pytest.mark.parametrize("which", ["check_page_path", "run_page_path"])
def test_the_page_is_never_wider_than_the_window(browser, which, request, tmp_path):
    with opened(browser, request.getfixturevalue(which), reduced_motion="reduce") as page:
        for width in (1400, 800, 360):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
            page.locator("#rows [data-opens]").nth(1).click()
            page.wait_for_selector("dialog[data-drawn]")
            assert page.locator("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
            page.screenshot(path=tmp_path / f"{width}-detail.png")
            page.keyboard.press("Escape")


@pytest.mark.parametrize("which", ["check_page_path", "run_page_path"])
def test_without_javascript_figures_table_and_details_stand(browser, which, request):
    with opened(browser, request.getfixturevalue(which), java_script_enabled=False) as page:
        assert page.locator("[data-figure=forest] svg.marks").is_visible()
        rows = page.locator("#rows tbody tr").count()
        assert rows == len(page.locator("#rows tbody th").all_text_contents()) > 0
        assert page.locator("#rows tbody tr:visible").count() == rows
        assert page.locator(".detail:visible").count() == rows
        assert page.locator(".needs-js:visible").count() == 0
        page.locator("#rows [data-opens]").nth(2).click()
        assert re.search(r"#detail-\d+$", page.url)


def test_print_is_light_and_has_the_details(browser, check_page_path):
    with opened(browser, check_page_path, color_scheme="dark") as page:
        dark = page.evaluate("getComputedStyle(document.body).color")
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).color") != dark
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator(".detail:visible").count() == 11
        assert page.locator(".filters:visible, .tools:visible").count() == 0
        assert len(page.pdf()) > 10_000
