"""`make release-check`: build wheel and source archive, install the wheel into empty environments, and try it outside the checkout.

One environment has all that the package asks for; the other has JAX, NumPy, SciPy and xarray alone, with which `solve` and `simulate`
must work. Takes some minutes, most of them of pip.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "sgdlimit"
LEAST = ("jax", "numpy", "scipy", "xarray")

COMMON = """
import jax.numpy as jnp
import numpy as np
import sgdlimit as sl

assert "site-packages" in sl.__file__, sl.__file__
problem = sl.Problem(
    loss=lambda r, y: 0.5 * (jnp.tanh(r[0]) - y) ** 2, label=lambda r_star, z: jnp.tanh(r_star[0]) + 0.3 * z, noise=sl.Normal(),
    sample_ratio=1.5, teacher=sl.GaussianTeacher([[2.25]]), init=sl.Init([[0.0]], [[1.0]]), penalty=sl.Ridge(0.05),
)
theory = sl.solve(problem, sl.SGD(step=1.5), horizon=4.0, rtol=0.05)
assert theory.status.code == "done", theory.status
assert abs(float(theory.dataset.test_risk[-1]) - 0.237) < 0.01  # tests/data/reference
runs = sl.simulate(problem, sl.SGD(step=1.5), horizon=4.0, n_features=400, repeats=8)
found = sl.compare(theory, runs)
assert found.agree, found
assert "Theory: SGD(step=1.5)" in theory._repr_html_()
"""
WHOLE = (
    COMMON
    + """
theory.save("sgd.nc")
np.testing.assert_array_equal(sl.load("sgd.nc").dataset.test_risk, theory.dataset.test_risk)
assert "<svg" in theory._repr_html_()
sl.plot.save(sl.plot.curves({"SGD": (theory, runs)}), "curves.png")
assert sl.solve(problem, sl.OnlineSGD(step=1.5), horizon=1.0, rtol=0.05).status.code == "done"
"""
)
BARE = (
    COMMON
    + """
import sys
for dynamics in (sl.SGD(1.5, sampling="reshuffle"), sl.SME(1.5), sl.GradientFlow(), sl.MiniBatchGD(0.5, 1.0)):
    assert sl.solve(problem, dynamics, horizon=1.0, rtol=0.1).status.code == "done", dynamics
try:
    sl.solve(problem, sl.OnlineSGD(1.5), horizon=1.0)
except sl.InputError as e:
    assert "pip install diffrax" in str(e), e
else:
    raise AssertionError("one pass without diffrax")
"""
)


def build(out: Path) -> tuple[Path, Path]:
    """Wheel and source archive, made by the installed hatchling."""
    run(sys.executable, "-m", "hatchling", "build", "-d", out, cwd=ROOT)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive


def missing(wheel: Path) -> set[str]:
    """Files of the package, code or data, that the wheel lacks."""
    ours = {f"sgdlimit/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*") if path.is_file()}
    return {name for name in ours if "__pycache__" not in name} - set(zipfile.ZipFile(wheel).namelist())


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["XDG_CACHE_HOME"] = str(cwd / "cache") if cwd != ROOT else os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    done = subprocess.run([str(one) for one in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"release-check: `{' '.join(map(str, command))[:200]}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(folder: Path, name: str, *installs: tuple[object, ...]) -> Path:
    """A new environment's `bin`, after these calls of pip."""
    venv.create(folder / name, with_pip=True)
    programs = folder / name / "bin"
    for arguments in installs:
        run(programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments, cwd=ROOT)
    return programs


def check(folder: Path) -> None:
    (out := folder / "dist").mkdir()
    (desk := folder / "desk").mkdir()
    wheel, archive = build(out)
    assert not missing(wheel), missing(wheel)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name == f"sgdlimit-{version}-py3-none-any.whl", wheel.name
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "src/sgdlimit/results/report.html"} <= names
    print(f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} kB, {archive.name}: {archive.stat().st_size / 1024:.0f} kB")

    tools = environment(folder, "tools", ("cffconvert",))
    run(tools / "cffconvert", "--validate", cwd=ROOT)
    print("CITATION.cff is valid")

    constraints = ("--constraint", ROOT / "constraints.txt")
    bare = environment(folder, "bare", (*constraints, *LEAST), ("--no-deps", wheel))
    run(bare / "python", "-W", "error", "-c", BARE, cwd=desk)
    print("With " + ", ".join(LEAST) + " alone: solve and simulate work")

    whole = environment(folder, "whole", (*constraints, wheel))
    assert run(whole / "sgdlimit", "--version", cwd=desk).strip() == version
    assert "recommend" in run(whole / "sgdlimit", "--help", cwd=desk)
    run(whole / "python", "-W", "error", "-c", "import sgdlimit", cwd=desk)
    run(whole / "python", "-W", "error", "-c", WHOLE, cwd=desk)
    run(whole / "sgdlimit", "check", ROOT / "examples" / "quickstart.toml", cwd=desk)
    run(whole / "sgdlimit", "run", ROOT / "examples" / "ridge.toml", "--out", "ridge", cwd=desk)
    page = (desk / "ridge" / "report.html").read_text()
    assert "Theory and simulation agree" in page
    assert "finite-size" in run(whole / "sgdlimit", "gallery", "--list", cwd=desk)
    print("With everything: import, solve, simulate, save, draw and the commands work")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        check(Path(made))
