"""The web page in a real browser: upload, ask, slide, and see the overlay change.

The README's picture is made by it: ``pytest tests/serve/test_web_browser.py --screenshot
images/web.png``.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


class Tab:
    """The page in a tab, and what went wrong in it."""

    def __init__(self, browser, address, width=1280, height=800):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.hosts, self.complaints = set(), []
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.complaints.append(said.text),
        )
        self.page.goto(address)
        self.answers = self.page.locator(".card.whole .answer")
        self.overlay = self.page.locator(".overlay img")
        self.ask_button.wait_for()

    @property
    def ask_button(self):
        return self.page.get_by_role("button", name="Ask")

    def ask(self, question=None):
        if question is not None:
            self.page.get_by_label("Question").fill(question)
        self.ask_button.click()

    def slide_to(self, budget):
        self.page.locator("input[type=range]").fill(str(budget))

    def heading(self):
        return self.page.locator(".overlay h3")


@pytest.fixture
def tab(chromium, page):
    tab = Tab(chromium, page)
    yield tab
    tab.page.close()


def test_upload_ask_and_slide(tab, page, request, tmp_path):
    tab.page.locator("input[type=file]").first.set_input_files(ROOT / "images" / "scene.png")
    tab.ask("What color is the star?")
    expect(tab.page.locator(".stages .row")).to_have_count(2, timeout=20_000)
    expect(tab.answers).to_have_text(["black", "black"])
    expect(tab.heading()).to_have_text("36 of 144 patches kept, and why")
    expect(tab.page.locator(".candidates li")).to_have_count(3)
    expect(tab.page.locator(".candidates .chosen")).to_contain_text("a small black star")

    before = tab.overlay.get_attribute("src")
    tab.slide_to(18)
    expect(tab.heading()).to_have_text("18 of 144 patches kept, and why")
    assert tab.overlay.get_attribute("src") != before
    expect(tab.page.locator(".card.whole header").first).to_contain_text("18 of 144 tokens")
    expect(tab.answers).to_have_text(["black", "black"])  # the full one stays

    picture = Path(request.config.getoption("--screenshot", None) or tmp_path / "web.png")
    tab.page.mouse.move(0, 0)
    tab.page.screenshot(path=picture)
    assert picture.stat().st_size > 50_000
    assert tab.hosts <= {urlsplit(page).netloc, ""}  # the nameless ones are data: addresses
    assert tab.complaints == []


def test_all_tokens_prune_nothing(tab):
    tab.slide_to(144)
    tab.ask()
    expect(tab.heading()).to_have_text("144 of 144 patches kept, and why", timeout=20_000)
    expect(tab.page.locator(".overlay .legend")).to_have_text("all are kept: nothing is pruned")
    expect(tab.page.locator(".candidates")).to_have_count(0)


def test_an_example_brings_its_question(tab):
    tab.page.locator(".gallery-item").nth(1).click()
    expect(tab.page.get_by_label("Question")).to_have_value("Where is the green circle?")
    tab.ask()
    expect(tab.answers).to_have_text(["northeast", "northeast"], timeout=20_000)


def test_sliding_before_asking_does_nothing(tab):
    tab.slide_to(9)
    expect(tab.page.locator(".empty")).to_have_count(2)
    tab.ask()
    expect(tab.heading()).to_have_text("9 of 144 patches kept, and why", timeout=20_000)


def test_a_mistake_is_told_and_the_answers_stay(tab):
    tab.ask()
    expect(tab.answers).to_have_count(2, timeout=20_000)
    tab.ask("<b>look</b> at <image> {{value}} ${1}")
    expect(tab.page.get_by_text("the question holds <image>")).to_be_visible()
    expect(tab.answers).to_have_text(["black", "black"])
    tab.ask("What color is the star?")
    expect(tab.page.locator(".card.waiting")).to_have_count(0)
    expect(tab.answers).to_have_text(["black", "black"])


def test_a_warning_is_shown_for_a_picture_that_is_no_drawn_scene(tab, tmp_path):
    expect(tab.page.locator(".intro")).to_contain_text("accm-mini knows drawn scenes")
    Image.effect_noise((60, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    warning = tab.page.locator(".warning")
    for picture, count in ((tmp_path / "noise.png", 1), (ROOT / "images" / "scene.png", 0)):
        tab.page.get_by_label("Remove Image").click()
        tab.page.locator("input[type=file]").first.set_input_files(picture)
        tab.page.wait_for_timeout(500)
        tab.ask("What color is the star?")
        expect(warning).to_have_count(count, timeout=20_000)
    expect(tab.answers).to_have_text(["black", "black"])


def test_a_file_that_is_no_image(tab, tmp_path):
    (tmp_path / "image.png").write_text("not an image")
    tab.page.get_by_label("Remove Image").click()
    tab.page.locator("input[type=file]").first.set_input_files(tmp_path / "image.png")
    tab.page.wait_for_timeout(500)
    tab.ask()
    expect(tab.page.get_by_text("cannot be read as an image")).to_be_visible(timeout=20_000)


def test_on_a_phone_nothing_sticks_out(chromium, page):
    tab = Tab(chromium, page, width=390, height=844)
    tab.ask()
    expect(tab.answers).to_have_count(2, timeout=20_000)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.page.close()
