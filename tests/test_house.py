"""The house stands: imports point down, lazy and type-only ones too, nothing runs in a circle, and nothing is too long to read."""

import ast
import shutil
from pathlib import Path

import pytest

import sgdlimit
from sgdlimit.rooms import FLOORS

SOURCE = Path(sgdlimit.__file__).parent
ROOT = Path(__file__).parent.parent
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOM = {place: room for room in FLOOR for place in room.split()}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60  # lines


def modules(source):
    """Name below the package -> file; the package itself is `sgdlimit`."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "sgdlimit"] = path
    return found


def imports(source):
    """All `(importing module, imported module)` inside the package, wherever in a file they stand."""
    known = modules(source)
    for name, path in known.items():
        package = [] if name == "sgdlimit" else name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name.removeprefix("sgdlimit.")) for alias in node.names if alias.name.split(".")[0] == "sgdlimit")
            elif isinstance(node, ast.ImportFrom):
                base = (node.module or "").split(".") if node.level == 0 else package[: len(package) - node.level + 1]
                if node.level == 0 and base[0] != "sgdlimit":
                    continue
                home = base[1:] if node.level == 0 else [*base, *(node.module or "").split(".")]
                for alias in node.names:
                    for target in (".".join(filter(None, [*home, alias.name])), ".".join(filter(None, home)) or "sgdlimit"):
                        if target in known:
                            yield name, target
                            break
                    else:
                        raise AssertionError(f"{name} imports {alias.name} from nowhere")


def room(module):
    """The room of a module: that of the longest name which begins it."""
    parts = module.split(".")
    return next((ROOM[".".join(parts[:n])] for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in ROOM), None)


def upward(source):
    """Imports that do not point down or stay in their room."""
    pairs = {(a, b) for a, b in imports(source) if room(a) != room(b)}
    return sorted(f"{a} -> {b}" for a, b in pairs if FLOOR[room(b)] >= FLOOR[room(a)])


def circles(source):
    """Modules that reach themselves."""
    below = {}
    for a, b in imports(source):
        below.setdefault(a, set()).add(b)

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for b in below.get(todo.pop(), ()):
                if b not in seen:
                    seen.add(b)
                    todo.append(b)
        return seen

    return sorted(name for name in below if name in reached(name))


def test_every_module_has_a_room_and_every_room_a_module():
    rooms = {name: room(name) for name in modules(SOURCE)}
    assert not [name for name, home in rooms.items() if home is None]
    assert set(rooms.values()) == set(FLOOR)
    assert [place for place in ROOM if place not in rooms] == []


def test_imports_point_down():
    assert upward(SOURCE) == []


def test_no_import_runs_in_a_circle():
    assert circles(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("show/looks.py", "def f():\n    from ..results import Solution\n", "show.looks -> results"),
        ("learning/clock.py", "from .. import plot\n", "learning.clock -> plot"),
        ("theory/samples/draws.py", "from ..weights import particles\n", "theory.samples.draws -> theory.weights.particles"),
        ("theory/march.py", "if TYPE_CHECKING:\n    from .solve import solve\n", "theory.march -> theory.solve"),
        ("settings/run.py", "import sgdlimit\n", "settings.run -> sgdlimit"),
    ],
)
def test_one_upward_import_is_seen(tmp_path, file, line, told):
    shutil.copytree(SOURCE, tmp_path / "house", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "house" / file, "a") as added:
        added.write(line)
    assert upward(tmp_path / "house") == [told]


def test_a_circle_within_a_room_is_seen(tmp_path):
    (tmp_path / "one.py").write_text("def f():\n    from . import two\n")
    (tmp_path / "two.py").write_text("from .one import f\n")
    (tmp_path / "three.py").write_text("from .one import f\n")
    assert circles(tmp_path) == ["one", "two"]


def test_modules_and_functions_fit_on_few_screens():
    long = []
    for name, path in modules(SOURCE).items():
        text = path.read_text()
        if (count := len(text.splitlines())) > LONGEST_MODULE:
            long.append(f"{name}: {count}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (count := body(node)) > LONGEST_FUNCTION:
                long.append(f"{name}.{node.name}: {count}")
    assert long == []


def test_the_plan_in_the_documentation_is_this_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_house  # pyright: ignore[reportMissingImports]

    assert make_house.FILE.read_text(encoding="utf-8") == make_house.picture()  # docs/make_house.py draws it again


def body(node):
    """Lines of a function's statements, from the first after its docstring to the last."""
    statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0
