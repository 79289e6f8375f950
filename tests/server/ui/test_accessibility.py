"""What an accessibility checker finds: nothing."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from server.ui.conftest import Visit
from server.ui.person import fill_in, finish, open_example, paint_middle, set_field

SCHEMES = ("light", "dark")
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=[(scheme, size) for scheme in SCHEMES for size in SIZES], ids="-".join)
def page(request: pytest.FixtureRequest, visit: Visit, server: str) -> Page:
    """The page in one of its looks, into which the checker's script may be put."""
    scheme, size = request.param
    return visit(server, color_scheme=scheme, viewport=SIZES[size], bypass_csp=True)


def _violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]


def _unfold(page: Page) -> None:
    page.locator("details").evaluate_all("all => all.forEach((each) => (each.open = true))")


def test_the_checker_finds_nothing_in_any_state(page: Page) -> None:
    assert _violations(page) == []
    set_field(page, "Steps", "999")
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Steps: ")
    assert _violations(page) == []
    fill_in(page)
    finish(page)
    assert _violations(page) == []
    page.get_by_role("button", name="Edit").click()
    open_example(page)
    paint_middle(page)
    _unfold(page)
    assert _violations(page) == []
    fill_in(page)
    finish(page)
    assert _violations(page) == []


def test_the_checker_would_find_something(visit: Visit, server: str) -> None:
    page = visit(server, bypass_csp=True)
    page.locator("label[for=prompt]").evaluate("label => label.remove()")
    page.locator("#prompt").evaluate("field => field.removeAttribute('placeholder')")
    assert any(text.startswith("label:") for text in _violations(page))


_FOCUSED = """() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return [element === document.body ? null : element.id, outlineStyle, parseFloat(outlineWidth)];
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_focus_can_be_seen_and_goes_through_the_page_in_order(
    visit: Visit, server: str, scheme: str
) -> None:
    page = visit(server, color_scheme=scheme)
    open_example(page)
    paint_middle(page)
    page.locator("#show-editor").focus()
    names = []
    for _ in range(25):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(_FOCUSED)
        if name is None:
            break
        names.append(name)
        assert (style, width >= 2) == ("solid", True), name
    expected = ["open", "brush", "brush-size", "undo", "canvas", "prompt", "paint"]
    assert [name for name in names if name in expected] == expected
