"""What is learnt: the teacher, its labels and noise, the student's start, loss and penalty (THEORY section 1).

Shapes: `k` student and `k_star` teacher directions. A pre-activation `r` is `(k,)`, `r_star` is `(k_star,)`; every
matrix is a second moment per feature, so it does not depend on `d`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from .checks import array as _array
from .checks import number as _number
from .checks import positive as _positive
from .checks import psd as _psd
from .checks import root
from .errors import InputError, Words, refuse
from .indices import missing_entry
from .spectrum import Spectrum

Array = Any


# --- laws of the label noise ---------------------------------------------------------------------------------------


@runtime_checkable
class NoiseLaw(Protocol):
    """Any object with a `shape` (of one draw) and `ppf` (quantile function, elementwise on arrays in (0, 1))."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def ppf(self, u: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Normal:
    """Standard normal noise; `shape` is that of one draw `z`."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return special.ndtri(u)


@dataclass(frozen=True)
class Uniform:
    """Uniform noise on (0, 1)."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return np.asarray(u)


@dataclass(frozen=True)
class Gumbel:
    """Standard Gumbel noise: `argmax(r_star + z)` is then a softmax draw."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return -np.log(-np.log(u))


@dataclass(frozen=True)
class StudentT:
    """Student's t noise with `df` degrees of freedom (heavy tails)."""

    df: float
    shape: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "df", _positive("noise.df", self.df, "degrees of freedom; 3 has heavy tails"))
        object.__setattr__(self, "shape", _shape(self.shape))

    def ppf(self, u):
        return special.stdtrit(self.df, u)


@dataclass(frozen=True)
class NoNoise:
    """No noise: `z` is zero and no random dimension is spent on it."""

    shape: tuple[int, ...] = ()

    def ppf(self, u):
        return np.zeros_like(u)


@dataclass(frozen=True)
class Logistic:
    """Standard logistic noise: `r_star + z > 0` then has the probability `1 / (1 + exp(-r_star))`."""

    shape: tuple[int, ...] = ()

    def ppf(self, u):
        return special.logit(u)


@dataclass(frozen=True)
class Scaled:
    """The noise of another law, `size` times. A size that is in the law is not in the label: what is compiled for a label serves
    noise of every size."""

    law: NoiseLaw
    size: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.law.shape

    def ppf(self, u):
        return self.size * self.law.ppf(u)


def draws_of(noise: NoiseLaw, u: np.ndarray) -> np.ndarray:
    """Turn uniform numbers `(n, size of one draw)` into draws `(n, *shape)`."""
    return np.asarray(noise.ppf(u), dtype=float).reshape(len(u), *noise.shape)


# --- teacher, start, penalty -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianTeacher:
    """Teacher rows `theta* ~ N(0, cov)`, `cov (k_star, k_star)`."""

    cov: Array

    def __post_init__(self):
        object.__setattr__(self, "cov", _psd("teacher.cov", self.cov))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` rows, `(n, k_star)`."""
        return rng.standard_normal((n, len(self.cov))) @ root(self.cov).T


@dataclass(frozen=True)
class SparseTeacher:
    """A row is `N(0, cov / density)` with probability `density`, else zero; `cov` is its second moment."""

    density: float
    cov: Array

    def __post_init__(self):
        density = _number("teacher.density", self.density)
        if not 0 < density <= 1:
            raise refuse("teacher.density", "lie in (0, 1]", self.density, "the fraction of non-zero teacher rows")
        object.__setattr__(self, "density", density)
        object.__setattr__(self, "cov", _psd("teacher.cov", self.cov))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        rows = rng.standard_normal((n, len(self.cov))) @ root(self.cov / self.density).T
        return rows * (rng.random((n, 1)) < self.density)


@dataclass(frozen=True)
class EmpiricalTeacher:
    """Teacher rows drawn from the given ones, `rows (m, k_star)`; `cov` is their second moment."""

    rows: Array
    cov: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        rows = _array("teacher.rows", self.rows)
        if rows.ndim != 2 or 0 in rows.shape:
            raise refuse("teacher.rows", "have shape (m, k_star)", rows.shape, "one row per feature; use rows[:, None] for one direction")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "cov", _psd("teacher.rows", rows.T @ rows / len(rows)))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return self.rows[rng.integers(len(self.rows), size=n)]


Teacher = GaussianTeacher | SparseTeacher | EmpiricalTeacher


@dataclass(frozen=True)
class Init:
    """Start `theta_0 = overlap theta* + N(0, cov)`: `overlap (k, k_star)`, `cov (k, k)`."""

    overlap: Array
    cov: Array

    def __post_init__(self):
        overlap = _array("init.overlap", self.overlap)
        if overlap.ndim != 2:
            raise refuse("init.overlap", "be a matrix (k, k_star)", overlap.shape, "[[0.0]] is a start without knowledge of the teacher")
        object.__setattr__(self, "overlap", overlap)
        object.__setattr__(self, "cov", _psd("init.cov", self.cov))
        if len(self.cov) != len(overlap):
            raise refuse(
                "init.cov",
                f"be ({len(overlap)}, {len(overlap)}) like the {len(overlap)} rows of `init.overlap`",
                self.cov.shape,
                "k student directions in both",
            )


@dataclass(frozen=True)
class Ridge:
    """Penalty `strength |theta|^2 / 2` on every row."""

    strength: float

    def __post_init__(self):
        strength = _number("penalty.strength", self.strength)
        if strength < 0:
            raise refuse("penalty.strength", "not be negative", self.strength, "0 is no penalty")
        object.__setattr__(self, "strength", strength)


@dataclass(frozen=True)
class SmoothPenalty:
    """Penalty `fn(theta)` on every row `theta (k,)`, twice differentiable in JAX."""

    fn: Callable[[Array], Array]

    def __post_init__(self):
        if not callable(self.fn):
            raise refuse("penalty.fn", "be a function of a row theta (k,)", self.fn)


Penalty = Ridge | SmoothPenalty | None


@dataclass(frozen=True)
class Problem:
    """A multi-index learning problem in the high-dimensional limit (Fan and Wang, arXiv 2601.21093, section 2).

    Arguments:
        loss: `loss(r, y) -> scalar`, `r (k,)`, `y` as `label` returns it. JAX differentiates it twice in `r`.
        label: `label(r_star, z) -> y`, `r_star (k_star,)`, `z` one noise draw. Never differentiated: `sign` is fine.
        noise: law of `z`.
        sample_ratio: `n / d`.
        teacher: law of the teacher's rows.
        init: start of the student's rows.
        penalty: `Ridge`, `SmoothPenalty` or None.
        spectrum: `Spectrum` of data that are not isotropic, or None. Teacher, start and penalty are of the weights in the basis of its
            eigenvectors; pre-activations and their overlaps weigh each feature by its eigenvalue.

    Raises:
        InputError (a ValueError): names the field, what it must be, and what it was. A loss with kinks is no error:
            `kinks` tells.
    """

    loss: Callable[[Array, Array], Array]
    label: Callable[[Array, Array], Array]
    noise: NoiseLaw
    sample_ratio: float
    teacher: Teacher
    init: Init
    penalty: Penalty = None
    spectrum: Spectrum | None = None

    def __post_init__(self):
        for name in ("loss", "label"):
            if not callable(getattr(self, name)):
                raise refuse(name, "be a function of two arguments", getattr(self, name), "loss(r, y) and label(r_star, z)")
        if isinstance(self.noise, type) or not isinstance(self.noise, NoiseLaw):
            raise refuse("noise", "be a noise law such as sl.Normal()", self.noise, "or any object with `shape` and `ppf`")
        object.__setattr__(
            self, "sample_ratio", _positive("sample_ratio", self.sample_ratio, "it is n/d; 1.5 means 1500 samples for 1000 features")
        )
        if not isinstance(self.teacher, Teacher):
            raise refuse("teacher", "be GaussianTeacher, SparseTeacher or EmpiricalTeacher", self.teacher)
        if not isinstance(self.init, Init):
            raise refuse("init", "be sl.Init(overlap=..., cov=...)", self.init)
        if not (self.penalty is None or isinstance(self.penalty, (Ridge, SmoothPenalty))):
            raise refuse("penalty", "be Ridge, SmoothPenalty or None", self.penalty, "sl.Ridge(0.05)")
        if self.init.overlap.shape[1] != self.k_star:
            raise refuse(
                "init.overlap", f"have {self.k_star} columns, one per teacher direction", self.init.overlap.shape, "shape (k, k_star)"
            )
        if not (self.spectrum is None or isinstance(self.spectrum, Spectrum)):
            raise refuse("spectrum", "be sl.Spectrum(eigenvalues, weights, teacher) or None", self.spectrum)
        if self.spectrum is not None and np.ndim(self.spectrum.teacher) == 3 and self.spectrum.teacher.shape[1] != self.k_star:
            must = f"have matrices ({self.k_star}, {self.k_star}), as there are teacher directions"
            raise refuse("spectrum.teacher", must, Words(f"of shape {self.spectrum.teacher.shape}"))
        _check_functions(self)

    @property
    def k(self) -> int:
        """Number of student directions."""
        return len(self.init.cov)

    @property
    def k_star(self) -> int:
        """Number of teacher directions."""
        return len(self.teacher.cov)

    @property
    def ridge(self) -> float:
        """Strength of the ridge; zero without a penalty or with a smooth one."""
        return self.penalty.strength if isinstance(self.penalty, Ridge) else 0.0

    @cached_property
    def kinks(self) -> bool:
        """Whether the gradient of `loss` jumps somewhere (hinge, absolute value, relu). `solve` then takes SGD, OnlineSGD and MiniBatchGD,
        with responses that see the jumps; `simulate` takes all but SME."""
        from .kinks import gradient_jumps

        return gradient_jumps(self)

    @property
    def anisotropic(self) -> Spectrum | None:
        """The spectrum where a sample can tell it from isotropic data."""
        return None if self.spectrum is None or self.spectrum.isotropic else self.spectrum

    @cached_property
    def rho(self) -> np.ndarray:
        """`E[r* r*^T] (k_star, k_star)`: the teacher's `cov`, unless a spectrum gives it a strength for each eigenvalue."""
        if self.spectrum is None or self.spectrum.teacher is None:
            return self.teacher.cov
        share = self.spectrum.weights * self.spectrum.eigenvalues
        return np.einsum("m,mij->ij", share, self.spectrum.teacher_moments(self.teacher.cov))

    @property
    def self_overlap_start(self) -> np.ndarray:
        """`E[w_0 w_0^T] (k, k)`."""
        overlap = self.init.overlap
        return overlap @ self.rho @ overlap.T + self.init.cov

    @property
    def overlap_start(self) -> np.ndarray:
        """`E[w_0 r*^T] (k, k_star)`."""
        return self.init.overlap @ self.rho

    def gradient(self, r, y):
        """`l(r, y) = grad_r L (k,)` for one sample."""
        return jax.grad(self.loss)(r, y)

    def noise_from_uniform(self, u: np.ndarray) -> np.ndarray:
        """Turn uniform numbers `(n, size of one draw)` into noise draws `(n, *shape)`."""
        return draws_of(self.noise, u)

    @property
    def noise_size(self) -> int:
        """How many uniform numbers one noise draw takes."""
        return 0 if isinstance(self.noise, NoNoise) else math.prod(self.noise.shape)


# --- checks ------------------------------------------------------------------------------------------------------------


DRAWS = 256  # enough to see most of what a label or an index does seldom, and no dearer than a few


def _check_functions(p: Problem) -> None:
    """Try label and loss once on shapes and once on numbers, so that their mistakes get words here and not a traceback later."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        u = rng.random((DRAWS, max(p.noise_size, 1)))[:, : p.noise_size] if p.noise_size else np.zeros((DRAWS, math.prod(p.noise.shape)))
        try:
            z = p.noise_from_uniform(u)
        except Exception as e:
            must = "map an array of numbers in (0, 1) to an array of the same shape"
            raise InputError(f"`noise.ppf` must {must}, but failed: {_first_line(e)}") from None
        if not np.isfinite(z).all():
            raise refuse("noise.ppf", "be finite on (0, 1)", z[~np.isfinite(z)][:3])
        r_star = rng.standard_normal((DRAWS, p.k_star)) @ root(p.rho).T
        r = rng.standard_normal((DRAWS, p.k)) @ root(p.self_overlap_start).T
        # A row of weights has its own law: with a sparse teacher and a start that copies it, some are exactly zero.
        rows = p.teacher.draw(rng, DRAWS) @ p.init.overlap.T + rng.standard_normal((DRAWS, p.k)) @ root(p.init.cov)
        penalty = p.penalty.fn if isinstance(p.penalty, SmoothPenalty) else None
        known = all(isinstance(f, Hashable) for f in (p.loss, p.label, penalty))
        trial = _trial if known else _trial.__wrapped__
        program, missing = trial(p.loss, p.label, penalty, p.k, p.k_star, tuple(p.noise.shape))
        for name, sizes, told in missing:
            if asked := told(r, r_star, z, rows):
                fix = f"{sizes}; entries count from 0, and JAX would take another one without a word"
                raise InputError(f"`{name}` must ask for entries that there are, but asks for {asked} ({fix})")
        got = program(r, r_star, z, rows)
    stable = "jnp.logaddexp and jax.nn.log_softmax are the stable forms"
    rounded = "sqrt(theta**2 + 0.01) rather than abs"
    for what, values, fix in zip(
        (
            "`label` must be finite, but gives",
            "`loss` must be finite, but its value is",
            "`loss` must be finite, but its gradient is",
            "`loss` must be finite, but its second derivative is",
            "`penalty.fn` must have a finite gradient, but it is",
            "`penalty.fn` must have a finite second derivative, but it is",
        ),
        got,
        ("a log or square root of a negative number?", stable, stable, stable, rounded, rounded),
        strict=False,
    ):
        if not all(np.isfinite(np.asarray(leaf, dtype=float)).all() for leaf in jax.tree.leaves(values)):
            raise InputError(f"{what} NaN or infinite on draws from the starting law ({fix})")


@lru_cache(maxsize=32)
def _trial(
    loss: Callable, label: Callable, penalty: Callable | None, k: int, k_star: int, noise_shape: tuple[int, ...]
) -> tuple[Callable, list[tuple[str, str, Callable[..., str]]]]:
    """Once the functions' shapes are in order: what must be finite, as one compiled program, and for each function that has indices its
    name, sizes and what tells whether they are in bounds, see `missing_entry`. All problems with these functions share it: building
    another one costs little."""
    r, r_star, z = (jax.ShapeDtypeStruct(shape, float) for shape in ((k,), (k_star,), noise_shape))
    y = _shapes(
        "label",
        f"map r_star ({k_star},) and z {noise_shape} to an array of fixed shape with JAX operations",
        "use jnp.where instead of if, and no shape that depends on values",
        label,
        r_star,
        z,
    )
    value = _shapes(
        "loss",
        f"map r ({k},) and what `label` returns to a number with JAX operations",
        "r has one entry per row of `init.cov`",
        loss,
        r,
        y,
    )
    if jnp.shape(value) != ():
        raise refuse("loss", "return a scalar", Words(f"an array of shape {jnp.shape(value)}"), "r[0] rather than r, or jnp.sum(...)")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise refuse("loss", "return a real number", Words(f"{value.dtype}"))
    _shapes("loss", "be differentiable twice by JAX", "", jax.hessian(loss), r, y)
    if penalty is not None:
        size = _shapes("penalty.fn", f"map a row theta ({k},) to a number with JAX operations", "", penalty, r)
        if jnp.shape(size) != ():
            raise refuse("penalty.fn", "return a scalar", Words(f"an array of shape {jnp.shape(size)}"), "jnp.sum(...) over the row")
    parts = [lambda r, r_star, z, row: label(r_star, z)]
    parts += [lambda r, r_star, z, row, f=f: f(r, label(r_star, z)) for f in (loss, jax.grad(loss), jax.hessian(loss))]
    if penalty is not None:
        parts += [lambda r, r_star, z, row, f=f: f(row) for f in (jax.grad(penalty), jax.hessian(penalty))]
    asking = [("label", f"r_star has k_star = {k_star} and z is of shape {noise_shape}", parts[0]), ("loss", f"r has k = {k}", parts[1])]
    if penalty is not None:
        asking.append(("penalty.fn", f"a row theta has k = {k}", lambda r, r_star, z, row: penalty(row)))
    tellers = [(name, sizes, missing_entry(fn, (r, r_star, z, r))) for name, sizes, fn in asking]
    missing = [(name, sizes, told) for name, sizes, told in tellers if told is not None]
    return jax.jit(jax.vmap(lambda *drawn: [part(*drawn) for part in parts])), missing


def _shapes(name: str, must: str, fix: str, fn: Callable, *args):
    try:
        return jax.eval_shape(fn, *args)
    except Exception as e:
        raise InputError(f"`{name}` must {must}, but failed: {_first_line(e)}" + (f" ({fix})" if fix else "")) from None


def _first_line(e: Exception) -> str:
    return f"{type(e).__name__}: {str(e).strip().splitlines()[0][:200] if str(e).strip() else ''}"


def _shape(value: Any) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in value)
    except TypeError:
        raise refuse("noise.shape", "be a tuple of sizes", value, "() for one number, (3,) for three") from None
    if any(n <= 0 for n in shape):
        raise refuse("noise.shape", "have positive sizes", value)
    return shape
