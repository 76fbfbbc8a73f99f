"""Make the README's picture: the quick start's own figure.

python docs/make_images.py
"""

import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

from sgdlimit import config, run
from sgdlimit.folder import Folder

ROOT = Path(__file__).resolve().parent.parent


def silent(task, finished):
    return nullcontext(lambda fraction, text: None)


if __name__ == "__main__":
    job = config.read(ROOT / "examples" / "quickstart.toml")
    with tempfile.TemporaryDirectory() as scratch:
        run.execute(job, Folder.open(Path(scratch), job), silent)
        (ROOT / "docs" / "images").mkdir(exist_ok=True)
        shutil.copy(Path(scratch) / "curves.png", ROOT / "docs" / "images" / "quickstart.png")
