"""Make the documentation's pictures: the quick start's figure, the explorer's page (with Playwright and Chromium), and the map of the phase
diagram (some minutes).

python docs/make_images.py [explore]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from sgdlimit import sweep
from sgdlimit.settings import config, run
from sgdlimit.settings.folder import Folder
from sgdlimit.sweep.maps import draw_all

ROOT = Path(__file__).resolve().parent.parent


def silent(task, finished):
    return nullcontext(lambda fraction, text: None)


def explorer(path: Path) -> None:
    """A picture of the explorer's page once real runs are done."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "sgdlimit", "explore", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().split()[-1]
    try:
        with sync_playwright() as playwright:
            chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.set_default_timeout(300_000)
            page.goto(f"{address}?show=sgd,reshuffle,sme,flow")
            page.wait_for_selector(".chips[data-state=ready]")
            page.get_by_role("button", name="Simulate").click()
            page.wait_for_selector("text=8 of 8 real runs >> nth=3")
            page.wait_for_selector(".chips[data-state=ready]")
            page.mouse.move(5, 5)
            page.wait_for_timeout(1000)
            page.screenshot(path=path)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    (ROOT / "docs" / "images").mkdir(exist_ok=True)
    explorer(ROOT / "docs" / "images" / "explore.png")
    if sys.argv[1:] == ["explore"]:
        sys.exit()
    job = config.read(ROOT / "examples" / "quickstart.toml")
    with tempfile.TemporaryDirectory() as scratch:
        run.execute(job, Folder.open(Path(scratch), job), silent)
        shutil.copy(Path(scratch) / "curves.png", ROOT / "docs" / "images" / "quickstart.png")
        sweep(ROOT / "examples" / "phase_diagram.toml", out=Path(scratch) / "phase_diagram.zarr")
        draw_all(Path(scratch) / "phase_diagram.zarr")
        shutil.copy(Path(scratch) / "phase_diagram-map.png", ROOT / "docs" / "images" / "phase_diagram.png")
