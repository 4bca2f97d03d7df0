"""The map of the report in a browser: what is pointed at is shown, filters filter, a finger and the keys do as well."""

import numpy as np
import pytest
from test_datamap import ROOT, write_checkout, write_network

from fashion_mnist.data import CLASS_NAMES
from fashion_mnist.headless import report

WRONG = (5, 700, 701)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout").resolve()
    with pytest.MonkeyPatch.context() as patch:
        dataset = write_checkout(root, ROOT / "data.zip", patch)
        write_network(root, dataset, "best", 0.9, WRONG)
        return dataset, report.report().with_name("map.html")


@pytest.fixture(params=[{"width": 1280, "height": 900}, {"width": 390, "height": 800}], ids=["wide", "phone"])
def page(made, chromium, request):
    """The page, nothing else to be reached, and no error in its script."""
    phone = request.param["width"] < 500
    context = chromium.new_context(viewport=request.param, has_touch=phone, offline=True)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(made[1].as_uri())
    page.wait_for_function("document.getElementById('count').textContent")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"
    yield page
    context.close()
    assert errors == []


def where(page, number):
    """Place of a test image on the screen, scrolled to."""
    page.locator("#map").scroll_into_view_if_needed()
    x, y = page.evaluate(f"dot({number})")
    page.evaluate(f"window.scrollBy(0, document.getElementById('map').getBoundingClientRect().top + {y} - 500)")
    box = page.locator("#map").bounding_box()
    return box["x"] + x, box["y"] + y


GARMENT = "[...document.getElementById('garment').getContext('2d').getImageData(0, 0, 28, 28).data]"


@pytest.mark.parametrize("number", [3, 700])
def test_what_is_pointed_at_is_shown(made, page, number):
    dataset, _ = made
    x, y = where(page, number)
    if page.viewport_size["width"] < 500:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y)
    label = dataset.y_test[number]
    words = page.locator("#what").inner_text()
    assert words.startswith(f"{CLASS_NAMES[label]}\ntest image {number}")
    named = CLASS_NAMES[(label + 1) % 10] if number in WRONG else CLASS_NAMES[label]
    assert f"{'✗' if number in WRONG else '✓'} named {named}, 90%" in words
    shown = 255 - np.reshape(page.evaluate(GARMENT), (28, 28, 4))[..., 0]
    assert np.abs(shown - dataset.x_test[number, ..., 0].astype(int)).max() <= 3, "its own garment"


def test_filters_change_how_many_are_drawn(made, page):
    dataset, _ = made
    count = page.locator("#count")
    assert count.inner_text() == "2,000 of 2,000 images"
    page.get_by_label("Coat").focus()
    page.keyboard.press("Space")
    coats = int((dataset.y_test == CLASS_NAMES.index("Coat")).sum())
    assert count.inner_text() == f"{2000 - coats:,} of 2,000 images"
    page.get_by_role("button", name="None").click()
    assert count.inner_text() == "0 of 2,000 images"
    assert page.evaluate("pen.getImageData(0, 0, map.width, map.height).data.every((value) => value === 0)")
    page.get_by_role("button", name="All").click()
    page.get_by_label("is wrong").check()
    assert count.inner_text() == "3 of 2,000 images"
    assert page.evaluate("drawn") == list(WRONG)


def test_the_keys_go_from_image_to_image_and_the_buttons_closer(page):
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#what").inner_text()
    assert "test image" in first
    before = page.evaluate("dot(chosen)")
    page.keyboard.press("ArrowLeft")
    after = page.evaluate("dot(chosen)")
    assert page.locator("#what").inner_text() != first and after[0] < before[0]
    page.get_by_role("button", name="Closer").click()
    assert page.evaluate("view.zoom") == 1.6
    page.get_by_role("button", name="Whole map").click()
    assert page.evaluate("[view.zoom, view.x, view.y]") == [1, 0, 0]
