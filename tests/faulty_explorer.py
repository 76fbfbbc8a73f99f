"""The command `sgdlimit explore`, in which a file can switch faults on: the functions of `sgdlimit.app` whose names are in it raise.

SGDLIMIT_FAULT=FILE python tests/faulty_explorer.py ARGUMENTS
"""

import functools
import importlib
import inspect
import os
import sys
from pathlib import Path

PAGE = ("choices", "controls", "downloads", "figures", "page", "site", "sweeps", "turns", "views")
WORKER = ("worker",)


def plant(file, modules):
    for module in (importlib.import_module(f"sgdlimit.app.{name}") for name in modules):
        classes = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
        for owner in (module, *classes):
            for name, one in list(vars(owner).items()):
                if inspect.isfunction(one) and one.__module__ == module.__name__ and not name.startswith("__"):
                    setattr(owner, name, faulty(one, f"{module.__name__.rpartition('.')[2]}.{one.__qualname__}", file))


def faulty(function, name, file):
    @functools.wraps(function)
    def maybe(*arguments, **options):
        if name in file.read_text().split():
            raise RuntimeError(f"planted in {name}")
        return function(*arguments, **options)

    return maybe


if __name__ in ("__main__", "__mp_main__"):  # the page's process, and the one that computes
    plant(Path(os.environ["SGDLIMIT_FAULT"]), PAGE if __name__ == "__main__" else WORKER)
if __name__ == "__main__":
    from sgdlimit.cli import main

    sys.argv = ["sgdlimit", "explore", *sys.argv[1:]]
    main()
