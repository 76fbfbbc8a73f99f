"""Make the documentation's pictures: the quick start's figure, and the map of the phase diagram (some minutes).

python docs/make_images.py
"""

import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

from sgdlimit import config, run, sweep
from sgdlimit.folder import Folder
from sgdlimit.sweep.maps import draw_all

ROOT = Path(__file__).resolve().parent.parent


def silent(task, finished):
    return nullcontext(lambda fraction, text: None)


if __name__ == "__main__":
    job = config.read(ROOT / "examples" / "quickstart.toml")
    with tempfile.TemporaryDirectory() as scratch:
        run.execute(job, Folder.open(Path(scratch), job), silent)
        (ROOT / "docs" / "images").mkdir(exist_ok=True)
        shutil.copy(Path(scratch) / "curves.png", ROOT / "docs" / "images" / "quickstart.png")
        sweep(ROOT / "examples" / "phase_diagram.toml", out=Path(scratch) / "phase_diagram.zarr")
        draw_all(Path(scratch) / "phase_diagram.zarr")
        shutil.copy(Path(scratch) / "phase_diagram-map.png", ROOT / "docs" / "images" / "phase_diagram.png")
