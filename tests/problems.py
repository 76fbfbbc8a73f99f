"""The four reference problems (tests/data/reference) and random problems whose answer is known, shared by tests and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy import special

import sgdlimit as sl
from sgdlimit import models
from sgdlimit.theory import closed_forms

REFERENCE = Path(__file__).parent / "data" / "reference"
CURVES = ("self_overlap", "overlap", "train_risk", "test_risk")
_STORED = {"self_overlap": "q", "overlap": "m", "train_risk": "train", "test_risk": "test"}


@dataclass(frozen=True)
class Case:
    """A problem with the step and horizon of its stored simulations."""

    build: Callable[[], sl.Problem]
    step: float
    horizon: float


# Functions have names: programs are shared by problems with the same ones.
def _tanh_loss(r, y):
    return 0.5 * (jnp.tanh(r[0]) - y) ** 2


def _tanh_label(r_star, z):
    return jnp.tanh(r_star[0]) + 0.3 * z


def tanh_regression() -> sl.Problem:
    return sl.Problem(
        loss=_tanh_loss,
        label=_tanh_label,
        noise=sl.Normal(),
        sample_ratio=1.5,
        teacher=sl.GaussianTeacher(cov=[[2.25]]),
        init=sl.Init(overlap=[[0.0]], cov=[[1.0]]),
        penalty=sl.Ridge(0.05),
    )


def ridge_regression() -> sl.Problem:
    return linear(sample_ratio=2.0, ridge=0.1, noise_variance=0.25, start_variance=0.5, teacher_variance=1.0)


def _logistic_loss(r, y):
    return jnp.logaddexp(0.0, -y * r[0])


def _logistic_label(r_star, z):
    return jnp.where(z < 1.0 / (1.0 + jnp.exp(-r_star[0])), 1.0, -1.0)


def logistic() -> sl.Problem:
    """Label +1 with probability `1/(1 + exp(-r*))`, else -1, from one uniform draw."""
    return sl.Problem(
        loss=_logistic_loss,
        label=_logistic_label,
        noise=sl.Uniform(),
        sample_ratio=3.0,
        teacher=sl.GaussianTeacher(cov=[[4.0]]),
        init=sl.Init(overlap=[[0.0]], cov=[[0.25]]),
        penalty=sl.Ridge(0.01),
    )


def _committee_loss(r, y):
    return 0.5 * (jnp.tanh(r[0]) - 0.5 * jnp.tanh(r[1]) - y) ** 2


def _committee_label(r_star, z):
    return jnp.tanh(r_star[0]) - 0.5 * jnp.tanh(r_star[1]) + 0.2 * z


def committee() -> sl.Problem:
    return sl.Problem(
        loss=_committee_loss,
        label=_committee_label,
        noise=sl.Normal(),
        sample_ratio=2.0,
        teacher=sl.GaussianTeacher(cov=[[1.5, 0.3], [0.3, 1.0]]),
        init=sl.Init(overlap=[[0.2, 0.0], [0.0, 0.1]], cov=[[0.6, 0.0], [0.0, 0.6]]),
        penalty=sl.Ridge(0.02),
    )


def hinge() -> sl.Problem:
    """A classifier with the hinge loss: its gradient jumps at the margin."""
    m = models.hinge(noise=0.5)
    teacher, init = sl.GaussianTeacher(cov=[[1.0]]), sl.Init(overlap=[[0.0]], cov=[[0.5]])
    return sl.Problem(m.loss, m.label, m.noise, sample_ratio=2.0, teacher=teacher, init=init, penalty=sl.Ridge(0.05))


def relu_committee() -> sl.Problem:
    """Two units with a kink at zero each."""
    m = models.committee(weights=[1.0, -0.5], noise=0.2, activation="relu")
    like = committee()
    return sl.Problem(m.loss, m.label, m.noise, sample_ratio=2.0, teacher=like.teacher, init=like.init, penalty=like.penalty)


KINKED = {"hinge": Case(hinge, 1.0, 4.0), "relu_committee": Case(relu_committee, 1.0, 4.0)}  # stored for SGD only
CASES = {
    "tanh_regression": Case(tanh_regression, 1.5, 4.0),
    "ridge_regression": Case(ridge_regression, 0.8, 4.0),
    "logistic": Case(logistic, 4.0, 12.0),
    "committee": Case(committee, 1.0, 8.0),
}
DYNAMICS = ("sgd", "sme", "gf")


def dynamics(name: str, step: float) -> sl.SGD | sl.SME | sl.GradientFlow:
    """`name` is one of `DYNAMICS`."""
    return {"sgd": lambda: sl.SGD(step), "sme": lambda: sl.SME(step), "gf": sl.GradientFlow}[name]()


@dataclass(frozen=True)
class Reference:
    """Stored simulations: `mean[name]` and `se[name]` with the shapes of the dataset's curves, time first."""

    times: np.ndarray
    mean: dict[str, np.ndarray]
    se: dict[str, np.ndarray]
    n_features: int


def reference(problem: str, dynamics: str) -> Reference:
    """The stored runs of `problem` under `dynamics` (a name of `DYNAMICS`, or a variant such as "sgd-batch8")."""
    stored = json.loads((REFERENCE / f"{problem}-{dynamics}.json").read_text())
    return Reference(
        times=np.array(stored["times"]),
        mean={name: np.array(stored[key]["mean"]) for name, key in _STORED.items()},
        se={name: np.array(stored[key]["se"]) for name, key in _STORED.items()},
        n_features=stored["d"],
    )


# --- problems whose answer is known ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScaledNormal:
    """Normal noise of a given standard deviation, as a user would write a law of their own."""

    scale: float
    shape: tuple[int, ...] = ()

    def ppf(self, u: np.ndarray) -> np.ndarray:
        return self.scale * special.ndtri(u)


def _square(r, y):
    return 0.5 * (r[0] - y) ** 2


def _teacher_plus_noise(r_star, z):
    return r_star[0] + z


def linear(
    sample_ratio: float, ridge: float, noise_variance: float, start_variance: float, teacher_variance: float, start_overlap: float = 0.0
) -> sl.Problem:
    """The linear model of `closed_forms.linear_model`. All share one loss and one label, so that they can share compiled programs."""
    return sl.Problem(
        loss=_square,
        label=_teacher_plus_noise,
        noise=ScaledNormal(float(np.sqrt(noise_variance))),
        sample_ratio=sample_ratio,
        teacher=sl.GaussianTeacher(cov=[[teacher_variance]]),
        init=sl.Init(overlap=[[start_overlap]], cov=[[start_variance]]),
        penalty=sl.Ridge(ridge) if ridge else None,
    )


@dataclass(frozen=True)
class Known:
    """A problem with its answer: `truth(times)[name]` is `(T,)`."""

    title: str
    problem: sl.Problem
    dynamics: sl.SGD | sl.SME | sl.GradientFlow
    horizon: float
    rtol: float
    truth: Callable[[np.ndarray], dict[str, np.ndarray]]


def random_linear(index: int, rtol_range: tuple[float, float] = (0.003, 0.05), momentum: bool = False) -> Known:
    """The `index`-th random linear problem: SGD, SME and flow in turn, each index its own random stream.

    `sample_ratio` is log-uniform in [0.4, 5], the step a fraction 0.1 to 0.8 of the stability limit, `rtol` log-uniform in its range;
    every third problem has no ridge and every second a start that knows something of the teacher. Up to 6 units of time. With `momentum` a
    memory log-uniform in [0.02, 3].
    """
    rng = np.random.default_rng([2601, index])
    kind = DYNAMICS[index % 3]
    ratio = float(np.exp(rng.uniform(np.log(0.4), np.log(5.0))))
    ridge = 0.0 if index // 3 % 3 == 2 else float(rng.uniform(0.01, 0.3))
    step = float(rng.uniform(0.1, 0.8)) * closed_forms.stability_limit(ratio, ridge)
    parameters = {
        "sample_ratio": ratio,
        "ridge": ridge,
        "noise_variance": float(rng.uniform(0.0, 1.0)),
        "start_variance": float(rng.uniform(0.1, 2.0)),
        "teacher_variance": float(rng.uniform(0.5, 3.0)),
        "start_overlap": float(rng.uniform(-0.5, 0.8)) if index // 3 % 2 else 0.0,
    }
    horizon = float(rng.uniform(1.0, 6.0))
    rtol = float(np.exp(rng.uniform(*np.log(rtol_range))))
    optimizer = sl.Momentum(float(np.exp(rng.uniform(*np.log([0.02, 3.0]))))) if momentum else None
    told = f"rtol {rtol:.2g}" + (f", memory {optimizer.memory:.2g}" if optimizer else "")
    return Known(
        title=f"linear {index}: {kind}, delta {ratio:.3g}, step {step:.3g}, ridge {ridge:.3g}, horizon {horizon:.3g}, {told}",
        problem=linear(**parameters),
        dynamics=replace(dynamics(kind, step), optimizer=optimizer),
        horizon=horizon,
        rtol=rtol,
        truth=lambda times: closed_forms.linear_model(step=0.0 if kind == "gf" else step, times=times, optimizer=optimizer, **parameters),
    )


@dataclass(frozen=True)
class Hard:
    """A problem without a closed form."""

    title: str
    problem: sl.Problem
    dynamics: sl.SGD | sl.SME
    horizon: float
    rtol: float


def random_adam(index: int) -> Hard:
    """The `index`-th random problem trained by Adam: SGD, SME and SGD reshuffled in turn (a flow has no noise to divide by), and in turn
    four losses (squares, tanh, logistic, committee), each index its own random stream.

    `sample_ratio` is log-uniform in [0.6, 4], Adam's step in [0.1, 0.6], its memory in [0.02, 2] (none every fifth time), the second one in
    [0.1, 5]; every third problem decays. Up to 3 units of time, `rtol` log-uniform in [0.015, 0.05].
    """
    rng = np.random.default_rng([2602, index])
    between = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))
    kind = ("sgd", "sme", "reshuffled")[index % 3]
    name = ("ridge_regression", "tanh_regression", "logistic", "committee")[index // 3 % 4]
    ratio, step, horizon, rtol = between(0.6, 4.0), between(0.1, 0.6), float(rng.uniform(0.8, 3.0)), between(0.015, 0.05)
    memory, second = between(0.02, 2.0), between(0.1, 5.0)
    decay = float(rng.uniform(0.02, 0.3))
    optimizer = sl.Adam(0.0 if index % 5 == 4 else memory, second, decay=decay if index // 3 % 3 == 2 else 0.0)
    if kind == "sme":
        drive = sl.SME(step, optimizer=optimizer)
    else:
        drive = sl.SGD(step, sampling="reshuffle" if kind == "reshuffled" else "replacement", optimizer=optimizer)
    told = f"delta {ratio:.3g}, step {step:.3g}, horizon {horizon:.3g}, rtol {rtol:.2g}"
    return Hard(
        title=f"{name} {index}: {kind}, {told}, memories {optimizer.memory:.2g} and {second:.2g}, decay {optimizer.decay:.2g}",
        problem=replace(CASES[name].build(), sample_ratio=ratio),
        dynamics=drive,
        horizon=horizon,
        rtol=rtol,
    )


def deviations(known: Known, solution: sl.Solution) -> np.ndarray:
    """`(solution - truth) / reported standard error` at all points of the four curves that have an error, in one row."""
    data = solution.dataset
    truth = known.truth(data.time.values)
    z = []
    for name in CURVES:
        se = data[name + "_se"].values.reshape(-1)
        gap = data[name].values.reshape(-1) - truth[name]
        z.append(gap[se > 0] / se[se > 0])
        # Where no error is reported the value is claimed exact.
        np.testing.assert_allclose(gap[se == 0], 0.0, atol=1e-9, err_msg=f"{known.title}: {name}")
    return np.concatenate(z)
