"""The moving picture of the README: a labelling session on drawn parts, recorded from the page in a real browser.

python docs/record.py        # writes docs/img/label.webp; needs Chromium and the weights of `mini`
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw, ImageFilter
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from anmok.labelling.photos import Photos  # noqa: E402
from anmok.server.settings import PageSettings, Served, Settings  # noqa: E402
from browser.chromium import choose_tab  # noqa: E402
from serving import running  # noqa: E402

TARGET = ROOT / "docs" / "img" / "label.webp"
SIZE = (1100, 760)  # of the window
STROKES, SPARSE = 90, 2  # pictures that are labelled; every so many are shown
PACE, FRAME = 350, 300  # milliseconds: of the labeller, and of a frame


def part(rng: np.random.Generator, *, is_defect: bool) -> pillow.Image:
    """A turned disc of metal from above; a defect is a scratch, or a dent at the rim."""
    side = 320
    noise = rng.normal(0, 9, (side, side, 1)) + np.linspace(-12, 12, side)[:, None, None]
    image = pillow.fromarray(np.clip(58 + noise + np.zeros(3), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = side / 2 + rng.normal(0, 8, 2)
    radius = 118 + rng.normal(0, 3)
    for ring in np.arange(radius, 8, -3.0):
        level = int(150 + 22 * np.sin(ring / 5.0) + rng.normal(0, 4))
        draw.ellipse((x - ring, y - ring, x + ring, y + ring), fill=(level, level, level + 6))
    draw.ellipse((x - 30, y - 30, x + 30, y + 30), fill=(38, 38, 42))
    if is_defect:
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(45, 80)
        centre = np.asarray([x, y]) + reach * np.asarray([np.cos(angle), np.sin(angle)])
        along = rng.uniform(0, 2 * np.pi)
        way = np.asarray([np.cos(along), np.sin(along)])
        points = [centre + t * way + rng.normal(0, 2, 2) for t in (-34, -10, 12, 36)]
        draw.line([tuple(point) for point in points], fill=(28, 26, 30), width=int(rng.integers(4, 8)))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def photos(folder: Path) -> None:
    """240 of them, one in four with a defect, which the name ends in ``x`` for: that is what the labeller knows."""
    rng = np.random.default_rng(11)
    for number in range(240):
        is_defect = bool(rng.random() < 0.25)
        part(rng, is_defect=is_defect).save(folder / f"part{number:03d}{'x' if is_defect else ''}.jpg", quality=88)


def session(visitor: Page, parts: Path) -> list[bytes]:
    """Labels as a person does, and photographs the window meanwhile."""
    known = Photos(parts)
    defects = {one for one, name in zip(known.ids, known.names, strict=True) if name.endswith("x.jpg")}
    visitor.wait_for_selector("#anmok-tabs button[role=tab][data-tab-id=label]")
    choose_tab(visitor, "#anmok-tabs", "label", "Label")
    visitor.locator("#label-folder input").click()
    visitor.get_by_role("option", name=parts.name, exact=True).click()
    visitor.locator("#label-classes").locator("textarea, input").fill("good, defect")
    visitor.wait_for_timeout(500)
    visitor.locator("#label-go").click()
    visitor.locator(".desk .who input").fill("Mina")
    visitor.keyboard.press("Enter")
    visitor.wait_for_selector(".desk[data-shown]:not([data-shown=''])")
    visitor.locator(".desk").scroll_into_view_if_needed()
    visitor.evaluate("document.querySelector('.desk').scrollIntoView({block: 'start'})")
    frames = []
    for stroke in range(STROKES):
        shown = str(visitor.locator(".desk").get_attribute("data-shown"))
        visitor.wait_for_timeout(PACE)
        if stroke % SPARSE == 0 or stroke > STROKES - 8:
            frames.append(visitor.screenshot())
        visitor.keyboard.press("j" if shown in defects else "f")
        visitor.wait_for_function("(last) => document.querySelector('.desk').dataset.shown !== last", arg=shown)
    visitor.wait_for_timeout(3000)
    return [*frames, visitor.screenshot()]


def main() -> None:
    """Makes the parts, labels them, and writes what was seen."""
    with tempfile.TemporaryDirectory() as place:
        parts = Path(place) / "parts"
        parts.mkdir()
        photos(parts)
        settings = Settings(models=(Served.of("mini"),), page=PageSettings(folder=place))
        with running(settings) as found, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            visitor = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            visitor.goto(f"{found.address}/ui/en/")
            frames = session(visitor, parts)
            browser.close()
    small = (SIZE[0] * 3 // 4, SIZE[1] * 3 // 4)
    opened = (pillow.open(io.BytesIO(frame)).convert("RGB") for frame in frames)
    pictures = [picture.resize(small, pillow.Resampling.LANCZOS) for picture in opened]
    times = [FRAME] * (len(pictures) - 1) + [3000]
    how = {"duration": times, "loop": 0, "quality": 60, "method": 6, "minimize_size": True}
    pictures[0].save(TARGET, save_all=True, append_images=pictures[1:], **how)
    print(f"{TARGET.relative_to(ROOT)}: {len(pictures)} frames, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
