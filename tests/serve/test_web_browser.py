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
        expect.set_options(timeout=30_000)  # other tests share the processors
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
        expect(self.ask_button).not_to_have_attribute("aria-busy", "true")
        self.ask_button.click()

    def slide_to(self, budget):
        self.page.locator("input[type=range]").fill(str(budget))

    def upload(self, path):
        """Puts another picture into the place of the present one."""
        if self.page.get_by_label("Remove Image").count():
            self.page.get_by_label("Remove Image").click()
        self.page.locator("input[type=file]").first.set_input_files(path)

    def drop(self, name, kind):
        """Drops a file with a line of text onto the picture."""
        self.page.locator(".asked .upload-container").first.evaluate(
            """(place, [name, type]) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File(["not an image"], name, {type}));
                for (const kind of ["dragenter", "dragover", "drop"]) place.dispatchEvent(
                    new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
            }""",
            [name, kind],
        )

    def note(self, field):
        """What is said below a field: image, question, budget or button, from the top."""
        place = ("image", "question", "budget", "button").index(field)
        return self.page.locator(".field").nth(place).locator(".note")

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
    expect(tab.page.locator(".stages .row")).to_have_count(4)
    expect(tab.answers).to_have_text(["black", "black"])
    expect(tab.heading()).to_have_text("36 of 144 patches kept, and why")
    expect(tab.page.locator(".candidates li")).to_have_count(4)  # none is one of them
    expect(tab.page.locator(".candidates .chosen")).to_contain_text("(no caption)")

    before = tab.overlay.get_attribute("src")
    tab.slide_to(18)
    expect(tab.heading()).to_have_text("18 of 144 patches kept, and why")
    assert tab.overlay.get_attribute("src") != before
    expect(tab.page.locator(".candidates .chosen")).to_contain_text("a small black star")
    expect(tab.page.locator(".card.whole header").first).to_contain_text("18 of 144 tokens")
    expect(tab.answers).to_have_text(["black", "black"])  # the full one stays

    picture = Path(request.config.getoption("--screenshot", None) or tmp_path / "web.png")
    tab.page.mouse.move(0, 0)
    tab.page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    assert tab.hosts <= {urlsplit(page).netloc, ""}  # the nameless ones are data: addresses
    assert tab.complaints == []


def test_all_tokens_prune_nothing_and_have_one_answer(tab):
    tab.slide_to(144)
    tab.ask()
    expect(tab.heading()).to_have_text("144 of 144 patches kept, and why")
    expect(tab.page.locator(".overlay .legend")).to_have_text("all are kept: nothing is pruned")
    expect(tab.page.locator(".candidates")).to_have_count(0)
    expect(tab.page.locator(".card")).to_have_count(1)
    expect(tab.page.locator(".stages:not(.elsewhere) .row")).to_have_count(1)
    tab.slide_to(9)
    expect(tab.answers).to_have_text(["black", "black"])
    tab.slide_to(144)
    expect(tab.answers).to_have_text(["black"])
    expect(tab.page.locator(".card")).to_contain_text("All 144 tokens")


def test_an_example_brings_its_question(tab):
    tab.page.get_by_role("button", name="Where is the green circle?").click()
    expect(tab.page.get_by_label("Question")).to_have_value("Where is the green circle?")
    tab.ask()
    expect(tab.answers).to_have_text(["northeast", "northeast"])


def test_sliding_before_asking_does_nothing(tab):
    tab.slide_to(9)
    expect(tab.page.locator(".empty")).to_have_count(2)
    tab.ask()
    expect(tab.heading()).to_have_text("9 of 144 patches kept, and why")


def test_no_old_answer_stands_beside_a_mistake(tab):
    tab.ask()
    expect(tab.page.locator(".stages .row")).to_have_count(4)
    tab.page.get_by_label("Question").fill("<b>look</b> at <image> {{value}} ${1}")
    expect(tab.note("question")).to_contain_text("the question holds <image>")  # not asked yet
    tab.ask()
    expect(tab.page.locator(".card.idle")).to_have_count(2)
    expect(tab.page.locator(".overlay, .candidates, .stages")).to_have_count(0)
    tab.slide_to(9)  # there is no question whose answer it could change
    tab.ask("What color is the star?")
    expect(tab.answers).to_have_text(["black", "black"])
    expect(tab.page.locator(".note")).to_have_count(0)
    expect(tab.page.locator(".toast-body")).to_have_count(0)


def test_a_number_out_of_range_is_told_beside_it(tab):
    tab.ask()
    expect(tab.answers).to_have_count(2)
    number = tab.page.get_by_role("spinbutton")
    for wrong in ("999", "0"):
        number.fill(wrong)
        expect(tab.note("budget")).to_contain_text(f"is {wrong}: a whole number from 1 to 144")
        expect(tab.answers).to_have_count(1)  # of all tokens, which it does not touch
    number.fill("18")
    expect(tab.note("budget")).to_have_count(0)
    expect(tab.heading()).to_have_text("18 of 144 patches kept, and why")
    expect(tab.page.locator(".toast-body")).to_have_count(0)
    assert tab.complaints == []


def test_a_long_question_is_told_as_it_is_written(tab):
    question = tab.page.get_by_label("Question")
    sentence = "What color is the star that is northeast of the large blue circle? "
    for times, said in (
        (6, "the question is long: CLIP's text tower, by which patches are kept, reads about the"),
        (14, "the question is too long for the caption model: shorten it by some"),
        (60, "the question has 4,020 characters; this page takes at most 1,000"),
    ):
        question.fill(sentence * times)
        expect(tab.note("question")).to_contain_text(said)
    question.fill(sentence)
    expect(tab.note("question")).to_have_count(0)
    question.fill(sentence * 14)
    expect(tab.note("question")).to_have_count(1)
    tab.slide_to(144)  # writes no caption
    expect(tab.note("question")).to_have_count(0)


def test_a_warning_is_shown_for_a_picture_that_is_no_drawn_scene(tab, tmp_path):
    expect(tab.page.locator(".intro")).to_contain_text("accm-mini knows drawn scenes")
    Image.effect_noise((60, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    warning = tab.page.locator(".warning")
    for picture, count in ((tmp_path / "noise.png", 1), (ROOT / "images" / "scene.png", 0)):
        tab.upload(picture)
        expect(tab.page.locator(".asked .image-frame img")).to_be_visible()
        tab.ask("What color is the star?")
        expect(warning).to_have_count(count)
    expect(tab.answers).to_have_text(["black", "black"])


def bad_files(folder):
    """Files that the page does not take, and what it says of each."""
    scene = (ROOT / "images" / "scene.png").read_bytes()
    Image.new("1", (5001, 5000)).save(folder / "huge.png")
    files = {
        "fake.png": (b"not an image", "cannot be read as an image"),
        "cut.png": (scene[: len(scene) // 2], "damaged or cut short"),
        "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "PNG, JPEG, GIF"),
        "notes.txt": (b"not an image", "is no image"),
        "empty.png": (b"", "is no image, or empty"),
        "large.png": (scene + bytes(10 << 20), "more than 10,485,760 bytes"),
        "huge.png": ((folder / "huge.png").read_bytes(), "5,001 x 5,000 pixels"),
    }
    for name, (data, said) in files.items():
        (folder / name).write_bytes(data)
        yield folder / name, said


def test_bad_files_are_told_at_once(tab, tmp_path):
    tab.ask()
    expect(tab.answers).to_have_count(2)
    for path, said in bad_files(tmp_path):
        tab.upload(path)
        expect(tab.note("image")).to_contain_text(said)
        expect(tab.page.locator(".asked .image-frame img")).to_have_count(0)
        expect(tab.answers).to_have_count(0)
    tab.upload(ROOT / "images" / "scene.png")
    picture = tab.page.locator(".asked .image-frame img")
    expect(picture).to_be_visible()
    expect(tab.note("image")).to_have_count(0)
    tab.drop("notes.txt", "text/plain")
    expect(tab.note("image")).to_contain_text("is no image")
    expect(picture).to_be_visible()  # it stays
    tab.drop("fake.png", "image/png")
    expect(tab.note("image")).to_contain_text("cannot be read as an image")
    expect(picture).to_have_count(0)
    expect(tab.page.locator(".toast-body")).to_have_count(0)


@pytest.mark.parametrize("by_example", [True, False])
def test_what_is_said_of_a_file_does_not_reach_the_one_in_its_place(tab, tmp_path, by_example):
    """A bad file's check is held up until there is another picture."""
    (tmp_path / "fake.png").write_bytes(b"not an image")
    held, picture = [], tab.page.locator(".asked .image-frame img")
    tab.page.route("**/queue/join*", lambda route: held.append(route), times=1)
    with tab.page.expect_request("**/queue/join*"):
        tab.upload(tmp_path / "fake.png")
    if by_example:
        tab.page.get_by_role("button", name="Where is the green circle?").click()
        expect(picture).to_be_visible()
    else:
        tab.upload(ROOT / "images" / "scene.png")
        expect(picture).to_have_count(1)
    with tab.page.expect_response("**/queue/join*"):
        held[0].continue_()
    expect(picture).to_be_visible()
    tab.ask()
    expect(tab.answers).to_have_count(2)
    expect(picture).to_be_visible()
    expect(tab.note("image")).to_have_count(0)


def test_a_picture_that_browsers_do_not_show_is_said_so(tab, tmp_path):
    scene = Image.open(ROOT / "images" / "scene.png")
    scene.save(tmp_path / "scene.tiff")
    scene.save(tmp_path / "scene.gif", save_all=True, append_images=[Image.new("RGB", (96, 96))])
    shown = tab.page.locator(".asked .image-frame img")
    tab.upload(tmp_path / "scene.tiff")
    expect(tab.note("image")).to_contain_text("browsers do not show them")
    expect(shown).to_be_hidden()
    tab.upload(tmp_path / "scene.gif")
    expect(tab.note("image")).to_contain_text("first frame of the animation")
    expect(shown).to_be_visible()
    tab.ask()
    expect(tab.answers).to_have_text(["black", "black"])


def focusable(page):
    """Roles and names of all that can be focused, as those get them who do not see the page."""
    session = page.context.new_cdp_session(page)
    session.send("Accessibility.enable")
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        said = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
        if said.get("focusable") and not node["ignored"]:
            yield node["role"]["value"], node["name"]["value"]


def test_all_that_can_be_focused_has_a_name(tab):
    def names():
        found = list(focusable(tab.page))
        assert all(name.strip() for _, name in found), found
        return found

    examples = [("button", "Where is the green circle?"), ("button", "What size is the red star?")]
    expect(tab.page.get_by_role("region", name="Answers")).to_be_visible()
    assert {*examples, ("button", "Ask"), ("textbox", "Question")} <= set(names())
    tab.ask()
    expect(tab.page.locator(".stages .row")).to_have_count(4)
    names()
    assert tab.page.locator("img").evaluate_all("all => all.filter(i => !i.alt).length") == 3
    bars = tab.page.locator(".bar").evaluate_all("all => all.map(bar => bar.ariaLabel)")
    assert all("decode" in bar for bar in bars)
    tab.page.get_by_label("Remove Image").click()
    expect(tab.page.get_by_label("Remove Image")).to_have_count(0)
    names()


@pytest.mark.parametrize(
    "by_keyboard, motion", [(True, "no-preference"), (False, "no-preference"), (False, "reduce")]
)
def test_on_a_phone_the_answers_come_into_view(chromium, page, by_keyboard, motion):
    tab = Tab(chromium, page, width=390, height=844)
    tab.page.emulate_media(reduced_motion=motion)
    if by_keyboard:
        tab.page.get_by_label("Question").press("Enter")
    else:
        tab.ask()
    expect(tab.answers).to_have_count(2)
    expect(tab.answers.first).to_be_in_viewport()
    expect(tab.page.get_by_role("region", name="Answers")).to_be_focused()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.page.get_by_label("Question").fill("at <image>?")
    tab.ask()
    expect(tab.note("question")).to_be_in_viewport()
    expect(tab.page.get_by_label("Question")).to_be_focused()
    tab.page.close()


def test_the_button_says_at_once_that_it_works(chromium, open_page, held):
    with open_page(held) as address:
        tab = Tab(chromium, address)
        tab.ask()
        expect(tab.ask_button).to_have_attribute("aria-busy", "true")
        expect(tab.page.locator(".card.waiting")).to_have_count(2)
        held.may_go.set()
        expect(tab.answers).to_have_count(2)
        expect(tab.ask_button).not_to_have_attribute("aria-busy", "true")
        tab.ask("Break it?")
        expect(tab.note("button")).to_contain_text("the server could not answer this")
        expect(tab.ask_button).not_to_have_attribute("aria-busy", "true")
        expect(tab.page.locator(".card.idle")).to_have_count(2)
        tab.page.close()


def test_answers_are_marked_as_old_when_the_page_takes_no_more_questions(tab):
    tab.ask()
    expect(tab.answers).to_have_count(2)
    region = tab.page.get_by_role("region", name="Answers")
    expect(region).to_have_css("opacity", "1")
    tab.page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "no"}))
    tab.ask("Where is the star?")
    expect(tab.page.locator(".toast-body")).to_be_visible()
    expect(region).to_have_css("opacity", "0.35")
    expect(tab.ask_button).not_to_have_attribute("aria-busy", "true")
    tab.page.unroute("**/queue/join*")
    tab.ask()
    expect(region).to_have_css("opacity", "1")


def test_the_answers_stay_where_they_are_on_a_large_screen(tab):
    tab.ask()
    expect(tab.answers).to_have_count(2)
    assert tab.page.evaluate("window.scrollY") == 0
