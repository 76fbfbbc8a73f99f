"""What is learnt: the teacher, its labels and noise, the student's start, loss and penalty (THEORY section 1).

Shapes: `k` student and `k_star` teacher directions. A pre-activation `r` is `(k,)`, `r_star` is `(k_star,)`; every
matrix is a second moment per feature, so it does not depend on `d`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import positive as _positive
from ..checks import root
from ..compiling import jit
from ..errors import InputError, Words, refuse
from ..functions import key
from .indices import missing_entry
from .noise import NoiseLaw, NoNoise, draws_of
from .slopes import Slopes, slopes
from .spectrum import Spectrum
from .trained import Labelling, Trained, anywhere, told
from .weights import Init, Penalty, Ridge, SmoothPenalty, Teacher

Array = Any

TRIED = 1024  # samples on which a problem's functions are tried


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
        update: `update(r, y) -> (k,)` in the place of the gradient of `loss`, which is then only reported: the perceptron rule, gradients
            that are clipped or weighted, any rule that pushes a sample along its features. It may jump. None: the gradient.
        spectrum: `Spectrum` of data that are not isotropic, or None. Teacher, start and penalty are of the weights in the basis of its
            eigenvectors; pre-activations and their overlaps weigh each feature by its eigenvalue.
        trained: `Trained` numbers `a (p,)` that are trained along, or None. `loss(r, y, a)` then takes them, as does `update(r, y, a)`.

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
    update: Callable[[Array, Array], Array] | None = None
    trained: Trained | None = None

    def __post_init__(self):
        for name in ("loss", "label"):
            if not callable(getattr(self, name)):
                raise refuse(name, "be a function of two arguments", getattr(self, name), "loss(r, y) and label(r_star, z)")
        if not (self.update is None or callable(self.update)):
            raise refuse("update", "be a function of two arguments or None", self.update, "update(r, y) gives (k,), as the gradient would")
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
        if not (self.trained is None or isinstance(self.trained, Trained)):
            raise refuse("trained", "be sl.Trained(start, rate) or None", self.trained, "loss(r, y, a) takes the numbers then")
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
        """Whether the gradient of `loss`, or `update`, jumps somewhere (hinge, absolute value, relu). `solve` then takes SGD, OnlineSGD and
        MiniBatchGD, with responses that see the jumps; `simulate` takes all but SME."""
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

    @property
    def slopes(self) -> Slopes:
        """Loss, gradient and Hessian of one sample, with `update` in the place of the gradient; the same object for the same functions.
        They take what `labels` gives."""
        return slopes(self.loss, self.update, self.trained is not None)

    @property
    def labels(self) -> Callable[[Array, Any], Any]:
        """`label`; where numbers are trained along, these stand beside the label as they are at the start, see `trained.Labelled`."""
        return self.label if self.trained is None else Labelling(key(self.label), self.trained.start)

    def gradient(self, r, y):
        """`l(r, y) = grad_r L (k,)` for one sample, or its `update`; `y` as `labels` gives it."""
        return self.slopes.gradient(r, y)

    def noise_from_uniform(self, u: np.ndarray) -> np.ndarray:
        """Turn uniform numbers `(n, size of one draw)` into noise draws `(n, *shape)`."""
        return draws_of(self.noise, u)

    @property
    def noise_size(self) -> int:
        """How many uniform numbers one noise draw takes."""
        return 0 if isinstance(self.noise, NoNoise) else math.prod(self.noise.shape)


# --- checks ------------------------------------------------------------------------------------------------------------


def _check_functions(p: Problem) -> None:
    """Try label and loss once on shapes and once on numbers, so that their mistakes get words here and not a traceback later."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        u = rng.random((TRIED, p.noise_size)) if p.noise_size else np.zeros((TRIED, math.prod(p.noise.shape)))
        try:
            z = p.noise_from_uniform(u)
        except Exception as e:
            must = "map an array of numbers in (0, 1) to an array of the same shape"
            raise InputError(f"`noise.ppf` must {must}, but failed: {_first_line(e)}") from None
        if not np.isfinite(z).all():
            raise refuse("noise.ppf", "be finite on (0, 1)", z[~np.isfinite(z)][:3])
        r_star = rng.standard_normal((TRIED, p.k_star)) @ root(p.rho).T
        r = rng.standard_normal((TRIED, p.k)) @ root(p.self_overlap_start).T
        # A row of weights has its own law: with a sparse teacher and a start that copies it, some are exactly zero.
        rows = p.teacher.draw(rng, TRIED) @ p.init.overlap.T + rng.standard_normal((TRIED, p.k)) @ root(p.init.cov)
        program, missing = _program(p)
        a = np.broadcast_to(starting(p), (TRIED, len(starting(p))))
        for name, sizes, tell in missing:
            if asked := tell(r, r_star, z, rows, a):
                fix = f"{sizes}; entries count from 0, and JAX would take another one without a word"
                raise InputError(f"`{name}` must ask for entries that there are, but asks for {asked} ({fix})")
        got = program(r, r_star, z, rows, a)
    stable = "jnp.logaddexp and jax.nn.log_softmax are the stable forms"
    rounded = "sqrt(theta**2 + 0.01) rather than abs"
    own = p.update is None
    faults = [
        ("`label` must be finite, but gives", "a log or square root of a negative number?"),
        ("`loss` must be finite, but its value is", stable),
        ("`loss` must be finite, but its gradient is" if own else "`update` must be finite, but it is", stable),
        ("`loss` must be finite, but its second derivative is" if own else "`update` must have a finite derivative, but it is", stable),
    ]
    if isinstance(p.penalty, SmoothPenalty):
        faults.append(("`penalty.fn` must have a finite gradient, but it is", rounded))
        faults.append(("`penalty.fn` must have a finite second derivative, but it is", rounded))
    if p.trained is not None:
        faults.append(("`loss` must be finite, but its gradient in a is", "at `trained.start` already"))
    for (what, fix), values in zip(faults, got, strict=True):
        if not all(np.isfinite(np.asarray(leaf, dtype=float)).all() for leaf in jax.tree.leaves(values)):
            raise InputError(f"{what} NaN or infinite on draws from the starting law ({fix})")


def _program(p: Problem) -> tuple[Callable, list[tuple[str, str, Callable[..., str]]]]:
    """`_trial` of a problem."""
    penalty = p.penalty.fn if isinstance(p.penalty, SmoothPenalty) else None
    known = all(isinstance(f, Hashable) for f in (p.loss, p.update, p.label, penalty))
    return (_trial if known else _trial.__wrapped__)(
        p.slopes, p.update, anywhere(p.labels), penalty, p.k, p.k_star, tuple(p.noise.shape), 0 if p.trained is None else len(p.trained)
    )


def values_at(
    p: Problem, r: np.ndarray, r_star: np.ndarray, z: np.ndarray, a: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss `(n,)`, gradient (or update) `(n, k)` and its derivative `(n, k, k)` at `r (n, k)`, `r_star (n, k_star)` and noise `z (n, ...)`,
    with the trained numbers `a (p,)` or `(n, p)`, if there are any, those of the start unless given.

    By the small program that checked the problem: nothing is compiled, and no program of the theory is asked. That makes it a witness of
    theirs.
    """
    return labelled_values_at(p, r, r_star, z, a)[1:]


def labelled_values_at(
    p: Problem, r: np.ndarray, r_star: np.ndarray, z: np.ndarray, a: np.ndarray | None = None
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and then as `values_at`; a block of `TRIED` points at a time."""
    (values, _), parts = _program(p), []
    rows = np.zeros((TRIED, p.k))
    a = np.broadcast_to(starting(p) if a is None else a, (len(r), len(starting(p))))
    with jax.enable_x64(True):
        for first in range(0, len(r), TRIED):
            block = [np.asarray(array[first : first + TRIED]) for array in (r, r_star, z, a)]
            fill = TRIED - len(block[0])
            *padded, numbers = [np.concatenate([array, np.broadcast_to(array[:1], (fill, *array.shape[1:]))]) for array in block]
            parts.append(jax.device_get(values(*padded, rows, numbers)[:4]))
    y, loss, gradient, hessian = jax.tree.map(lambda *part: np.concatenate(part)[: len(r)], *parts)
    return y, loss, gradient, hessian


def starting(p: Problem) -> np.ndarray:
    """Numbers that are trained along, as they start, `(p,)`."""
    return np.zeros(0) if p.trained is None else np.array(p.trained.start)


@lru_cache(maxsize=32)
def _trial(
    slopes: Slopes,
    update: Callable | None,
    label: Callable,
    penalty: Callable | None,
    k: int,
    k_star: int,
    noise_shape: tuple[int, ...],
    along: int,
) -> tuple[Callable, list[tuple[str, str, Callable[..., str]]]]:
    """Once the functions' shapes are in order: what must be finite, as one compiled program, and for each function that has indices its
    name, sizes and what tells whether they are in bounds, see `missing_entry`. All problems with these functions share it: building
    another one costs little."""
    loss = slopes.loss
    r, r_star, z, a = (jax.ShapeDtypeStruct(shape, float) for shape in ((k,), (k_star,), noise_shape, (along,)))
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
        f"map r ({k},) and what `label` returns{f' and a ({along},)' if along else ''} to a number with JAX operations",
        "r has one entry per row of `init.cov`" + (", a those of `trained.start`" if along else ""),
        loss,
        r,
        y,
    )
    if jnp.shape(value) != ():
        raise refuse("loss", "return a scalar", Words(f"an array of shape {jnp.shape(value)}"), "r[0] rather than r, or jnp.sum(...)")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise refuse("loss", "return a real number", Words(f"{value.dtype}"))
    if update is None:
        _shapes("loss", "be differentiable twice by JAX", "", slopes.hessian, r, y)
    else:
        _check_update(slopes, r, y, along)
    if penalty is not None:
        size = _shapes("penalty.fn", f"map a row theta ({k},) to a number with JAX operations", "", penalty, r)
        if jnp.shape(size) != ():
            raise refuse("penalty.fn", "return a scalar", Words(f"an array of shape {jnp.shape(size)}"), "jnp.sum(...) over the row")
    seen = lambda r_star, z, a: told(label(r_star, z), a if along else None)
    parts = [lambda r, r_star, z, row, a: seen(r_star, z, a)]
    parts += [lambda r, r_star, z, row, a, f=f: f(r, seen(r_star, z, a)) for f in slopes[:3]]
    if penalty is not None:
        parts += [lambda r, r_star, z, row, a, f=f: f(row) for f in (jax.grad(penalty), jax.hessian(penalty))]
    if slopes.pull is not None:
        pull = slopes.pull
        _shapes("loss", "be differentiable in a by JAX", "", pull, r, y)
        parts.append(lambda r, r_star, z, row, a: pull(r, seen(r_star, z, a)))
    sizes = f"r has k = {k}" + (f" and a {along}" if along else "")
    asking = [
        ("label", f"r_star has k_star = {k_star} and z is of shape {noise_shape}", parts[0]),
        ("loss", sizes, parts[1]),
    ]
    if update is not None:
        asking.append(("update", f"r has k = {k}", parts[2]))
    if penalty is not None:
        asking.append(("penalty.fn", f"a row theta has k = {k}", lambda r, r_star, z, row, a: penalty(row)))
    tellers = [(name, sizes, missing_entry(fn, (r, r_star, z, r, a))) for name, sizes, fn in asking]
    missing = [(name, sizes, tell) for name, sizes, tell in tellers if tell is not None]
    return jit(jax.vmap(lambda *drawn: [part(*drawn) for part in parts])), missing


def _check_update(slopes: Slopes, r: Any, y: Any, along: int) -> None:
    """Refuse an update that is no rate of change of `r (k,)`."""
    must = f"map r {r.shape} and what `label` returns{f' and a ({along},)' if along else ''} to an array {r.shape} with JAX operations"
    pushed = _shapes("update", must, "it stands in the place of the gradient of the loss", slopes.gradient, r, y)
    if jnp.shape(pushed) != r.shape:
        fix = "jnp.array([...]) or jax.grad(loss)(r, y) times a number"
        raise refuse("update", f"return an array {r.shape}", Words(f"of shape {jnp.shape(pushed)}"), fix)
    if not jnp.issubdtype(pushed.dtype, jnp.floating):
        raise refuse("update", "return real numbers", Words(f"{pushed.dtype}"))
    _shapes("update", "be differentiable by JAX", "", slopes.hessian, r, y)


def _shapes(name: str, must: str, fix: str, fn: Callable, *args):
    try:
        return jax.eval_shape(fn, *args)
    except Exception as e:
        raise InputError(f"`{name}` must {must}, but failed: {_first_line(e)}" + (f" ({fix})" if fix else "")) from None


def _first_line(e: Exception) -> str:
    return f"{type(e).__name__}: {str(e).strip().splitlines()[0][:200] if str(e).strip() else ''}"
