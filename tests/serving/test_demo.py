"""The page that runs the generator in a browser: its server, and itself in headless Chromium."""

import gzip
import json
import urllib.error
import urllib.request

import browsers
import numpy as np
import pytest
import workers

from conftest import ROOT
from tfdps import launch
from tfdps.checks import UsageError
from tfdps.samplers import onnx_sampler
from tfdps.serving import demo

EXPORT = ROOT / "saved_models" / "mnist_eps1"


@pytest.fixture(scope="module")
def url():
    with demo.serving(str(EXPORT), port=0) as url:
        yield url


class TestServer:
    def ask(self, url, path):
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return answer.headers, gzip.decompress(answer.read())

    def test_serves_the_page_the_model_its_card_and_the_runtime(self, url):
        headers, page = self.ask(url, "")
        assert headers["Content-Type"].startswith("text/html")
        assert b"<script" in page
        assert self.ask(url, "generator.onnx")[1] == (EXPORT / "generator.onnx").read_bytes()
        card = json.loads((EXPORT / "model_card.json").read_text())
        assert json.loads(self.ask(url, "model_card.json")[1]) == card
        headers, wasm = self.ask(url, "ort/ort-wasm-simd-threaded.wasm")
        assert headers["Content-Type"] == "application/wasm"
        assert wasm.startswith(b"\0asm")

    def test_lets_the_page_talk_to_nobody_else(self, url):
        policy = self.ask(url, "")[0]["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        for path in ("", "demo.js", "demo.css"):
            text = self.ask(url, path)[1].replace(b"http://www.w3.org/2000/svg", b"")
            assert b"http" not in text

    @pytest.mark.parametrize("path", ["demo.py", "../demo.py", "%2e%2e/demo.py", "page/x"])
    def test_gives_away_nothing_else(self, url, path):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            self.ask(url, path)

    def test_listens_to_this_machine_alone(self, url):
        assert url.startswith("http://127.0.0.1:")

    def test_a_port_that_is_taken_is_said(self, url):
        port = int(url.split(":")[2].strip("/"))
        with (
            pytest.raises(UsageError, match=f"port {port} cannot be used: .* --port=0 for any"),
            demo.serving(str(EXPORT), port=port),
        ):
            pass
        port = int(workers.addresses(1)[0].split(":")[1])
        for _ in range(2):  # and is free again when the page is no longer served
            with demo.serving(str(EXPORT), port=port) as again:
                assert str(port) in again

    def test_a_port_that_is_none_is_said(self):
        with (
            pytest.raises(UsageError, match="port 70000 cannot be used"),
            demo.serving(str(EXPORT), port=70_000),
        ):
            pass

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [([], "export is missing"), (["--export=nowhere"], "there is nothing at nowhere: name")],
    )
    def test_the_command_says_what_is_missing(self, capsys, arguments, message):
        assert launch.main(["tfdps", "--mode=demo", *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_the_command_serves_until_it_is_interrupted(self, capsys, monkeypatch):
        asked = []

        def interrupted():
            said = capsys.readouterr().out
            asked.append(urllib.request.urlopen(said.split()[0], timeout=10).status)
            raise KeyboardInterrupt

        monkeypatch.setattr(demo, "_forever", interrupted)
        assert launch.main(["tfdps", "--mode=demo", f"--export={EXPORT}", "--port=0"]) == 0
        assert asked == [200]


# The page draws its z by Math.random; here each visit draws the same (mulberry32).
SEEDED = """let state = 7;
Math.random = () => {
  state = state + 0x6D2B79F5 | 0;
  let bits = Math.imul(state ^ state >>> 15, 1 | state);
  bits = bits + Math.imul(bits ^ bits >>> 7, 61 | bits) ^ bits;
  return ((bits ^ bits >>> 14) >>> 0) / 4294967296;
};"""


@pytest.fixture(scope="module")
def browser():
    if browsers.find() is None:
        pytest.skip("no Chromium on this machine")
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, url):
    """The page when it has drawn, with what went wrong and all that it asked for; for all tests."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(SEEDED)
    page.wrong, page.asked = [], []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("body[data-ready]", timeout=30_000)
    yield page
    page.close()


def picture(page, selector):
    """The pixels of a canvas."""
    script = """canvas => Array.from(canvas.getContext("2d").getImageData(
      0, 0, canvas.width, canvas.height).data)"""
    return np.array(page.locator(selector).first.evaluate(script), np.uint8)


def settled(page, selector):
    """Waits until the page handled what was done and draws no more; returns the canvas's pixels."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_selector("[aria-busy=true]", state="detached")
    return picture(page, selector)


def changed(page, selector, before):
    """Waits until the canvas is another than `before` and the page at rest; returns its pixels."""
    for _ in range(100):
        now = settled(page, selector)
        if now.shape != before.shape or np.any(now != before):
            return now
    raise AssertionError(f"{selector} did not change")


@pytest.mark.slow
class TestPage:
    def test_shows_images_and_the_guarantee_and_asks_nobody_else(self, page, url):
        assert not page.wrong
        assert all(asked.startswith((url, "data:", "blob:")) for asked in page.asked)
        assert page.inner_text("#epsilon") == "ε = 1, δ = 1e-5"  # 0.99995, rounded up
        assert "60,000" in page.inner_text("#meaning")
        assert page.locator("#many canvas").count() == 48
        assert "48 images in" in page.inner_text("#timing")
        drawn = picture(page, "#many canvas").reshape(28, 28, 4)
        assert drawn[..., 3].min() == 255
        assert drawn[..., 0].std() > 30
        page.click("summary")
        assert "The unit of protection is one" in page.inner_text("#caveats")

    def test_a_class_that_is_picked_is_drawn(self, page):
        one, many = picture(page, "#one"), picture(page, "#many canvas")
        page.get_by_role("radio", name="7").click()
        changed(page, "#many canvas", many)
        changed(page, "#one", one)
        assert page.locator("[aria-checked=true]").inner_text() == "7"
        many = picture(page, "#many canvas")
        page.keyboard.press("ArrowRight")
        assert page.locator("[aria-checked=true]").inner_text() == "8"
        changed(page, "#many canvas", many)

    def test_dragging_the_picture_moves_z(self, page):
        box = page.locator("#one").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        near, far = [], []
        for _ in range(5):  # a small move may end in another atom: one z alone says nothing
            before = picture(page, "#one")
            page.click("#new-z")
            start = changed(page, "#one", before).astype(int)
            page.mouse.move(*middle)
            page.mouse.down()
            page.mouse.move(middle[0] + 5, middle[1])
            near.append(np.abs(changed(page, "#one", start) - start).mean())
            page.mouse.move(middle[0] + 120, middle[1] + 60, steps=5)
            moved = settled(page, "#one")
            far.append(np.abs(moved - start).mean())
            page.mouse.move(*middle)  # back to where it began: the same z, so the same picture
            np.testing.assert_array_equal(changed(page, "#one", moved), start)
            page.mouse.move(middle[0] + 120, middle[1] + 60)
            np.testing.assert_array_equal(changed(page, "#one", start), moved)
            page.mouse.up()
            page.mouse.move(middle[0] + 5, middle[1])  # no longer dragged
            np.testing.assert_array_equal(settled(page, "#one"), moved)
        assert np.mean(far) > 1.3 * np.mean(near)

    def test_keys_sliders_and_buttons_move_z(self, page):
        now = picture(page, "#one")
        page.focus("#one")
        page.keyboard.press("ArrowDown")
        now = changed(page, "#one", now)
        page.locator("#sliders input").nth(1).fill("0.02")
        now = changed(page, "#one", now)
        page.click("#new-z")
        now = changed(page, "#one", now)
        page.click("#new-directions")
        np.testing.assert_array_equal(settled(page, "#one"), now)  # z stays

    def test_a_sample_that_is_chosen_is_shown_large(self, page):
        before = picture(page, "#one")
        page.locator("#many button").nth(5).click()
        now = changed(page, "#one", before)
        np.testing.assert_array_equal(now, picture(page, "#many button:nth-child(6) canvas"))

    def test_others_are_drawn_on_demand(self, page):
        before = picture(page, "#many canvas")
        page.click("#draw")
        changed(page, "#many canvas", before)

    def test_a_telephone_shows_it_without_scrolling_sideways(self, page):
        size = page.viewport_size
        page.set_viewport_size({"width": 375, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        page.set_viewport_size(size)

    def test_the_browser_makes_the_images_of_onnx_runtime(self, page):
        sampler = onnx_sampler.load(str(EXPORT))
        z = np.random.default_rng(0).random((20, sampler.latent_dim), np.float32)
        labels = np.arange(20, dtype=np.int32) % 10
        script = """async ([z, labels, latent]) => {
          const ort = await import("./ort/ort.wasm.bundle.min.mjs");
          const session = await ort.InferenceSession.create("generator.onnx");
          const tensor = (type, values, shape) => new ort.Tensor(type, values, shape);
          const { images } = await session.run({
            z: tensor("float32", Float32Array.from(z), [labels.length, latent]),
            labels: tensor("int32", Int32Array.from(labels), [labels.length]) });
          return Array.from(images.data); }"""
        arguments = [z.ravel().tolist(), labels.tolist(), sampler.latent_dim]
        images = np.reshape(page.evaluate(script, arguments), (20, 28, 28, 1))
        np.testing.assert_allclose(images, sampler.decode(z, labels), atol=5e-5)

    def test_a_generator_that_does_not_load_is_said(self, browser, url):
        page = browser.new_page()
        page.route("**/generator.onnx", lambda route: route.fulfill(body=b"broken"))
        page.goto(url)
        page.wait_for_selector("#error:not([hidden])", timeout=30_000)
        assert "The generator cannot be run in this browser: " in page.inner_text("#error")
        page.close()
