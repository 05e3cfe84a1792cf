"""Pages in a real browser: Debian's Chromium, driven by playwright."""

import io
import json
import shutil
from importlib.util import find_spec

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="needs playwright and Chromium, such as Debian's package",
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Visit:
    """An opened page, what it asked for, and what went wrong in it."""

    def __init__(self, context, file, awaited="change"):
        self.page = context.new_page()
        self.asked, self.wrong = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.goto(file.as_uri())
        self.await_text("current", awaited)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def await_text(self, name, part):
        from playwright.sync_api import expect

        found = self.page.locator(f"#{name}")
        expect(found).to_contain_text(part, timeout=30_000)

    def text(self, name):
        return self.page.locator(f"#{name}").inner_text()

    def settle(self):
        """Waits until all pictures are decoded and drawn."""
        for _ in range(300):
            if self.page.evaluate(
                "!drawing && [...pictures.values()].every((one) => one.complete)"
            ):
                break
            self.page.wait_for_timeout(100)
        self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def colour(self, x, y):
        """Red, green, blue of the canvas at shares of its sides, once pictures are drawn."""
        self.settle()
        shot = Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")
        return shot.getpixel((round(x * shot.width), round(y * shot.height)))

    def download(self):
        with self.page.expect_download() as waiting:
            self.press("l")
        return json.loads(waiting.value.path().read_text())


@pytest.fixture
def visit(browser):
    """Opens a page in a browser of its own."""
    contexts, visits = [], []

    def open_page(file, width=1200, height=800, awaited="change", **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        visits.append(Visit(contexts[-1], file, awaited))
        return visits[-1]

    yield open_page
    assert [visit.wrong for visit in visits if visit.wrong] == []
    for context in contexts:
        context.close()
