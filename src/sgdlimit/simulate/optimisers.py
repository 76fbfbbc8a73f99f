"""What an optimiser makes of the force in discrete steps, in the arithmetic of `torch.optim` (OPTIMISERS section 1).

A step of `batch` samples lasts `dt = eta batch / d`. In units of this time the force is `f = -(d / batch) sum_i x_i l_i - h(theta)`, the
velocity `V = beta V + (1 - beta) f` with `beta = 1 - dt / memory`, and the step `theta += dt V`: PyTorch's numbers at the learning rate
that `SGD.from_learning_rate` takes, whatever batch, features and their variance. All that is carried from step to step is in `State`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import refuse
from ..learning.averages import Average
from ..learning.dynamics import SGD, Dynamics, MiniBatchGD, OnlineSGD
from .along import Along, flat, row
from .averaging import accumulate, rate_of


class Rule(NamedTuple):
    """How steps are made, as far as programs differ by it; `Numbers` has the rest.

    `gain`: None, "feature" (of each parameter's own squared gradient, as PyTorch's) or "row" (of its mean over the features).
    `transform`: an optax optimiser that takes everything over, or None.
    """

    filtered: bool = False
    gain: str | None = None
    corrected: bool = True
    nesterov: bool = False
    noisy: bool = False
    averaged: bool = False
    transform: Any = None

    @property
    def plain(self) -> bool:
        return self == Rule()


class Numbers(NamedTuple):
    """What programs take as arguments, so that one serves all memories."""

    memory: float = 0.0
    second_memory: float = 0.0
    decay: float = 0.0
    eps: float = 0.0
    temperature: float = 0.0
    average: float = 0.0


class Extras(NamedTuple):
    """What a run may have besides problem and dynamics: an average of its weights, an optax optimiser; of a diffusion, internal steps that
    are so much of the usual ones."""

    average: Average | None = None
    transform: Any = None
    step: float = 1.0


PLAIN = Extras()


class State(NamedTuple):
    """`theta (k, d)`; velocity and mean squared gradient, summed with weights that forget, and the sums of these weights `(2,)`; the key
    of the noise; the integral of the weights (`averaging`); optax's own state; and `along` the same of numbers `(p,)` that are trained
    along. What a rule does not use is None."""

    theta: Any
    velocity: Any = None
    square: Any = None
    weights: Any = None
    key: Any = None
    integral: Any = None
    own: Any = None
    along: Any = None

    @property
    def numbers(self) -> Any:
        """`a (p,)`, or None."""
        return None if self.along is None else self.along.theta

    def shown(self) -> np.ndarray:
        """What a path yields, see `along.flat`: a row, with that of the integrals below where there is an average."""
        return np.stack([flat(*part) for part in self._parts()], -2)

    def rows(self) -> Any:
        """`shown` of one run, in a program."""
        return jnp.stack([row(*part) for part in self._parts()])

    def _parts(self) -> list[tuple[Any, Any]]:
        """Weights and what is trained along, and the same of their integrals."""
        parts = [(self.theta, self.numbers)]
        if self.integral is not None:
            parts.append((self.integral, None if self.along is None else self.along.integral))
        return parts


def check_transform(dynamics: Dynamics, optimizer: Any) -> None:
    """Refuse an optimiser that cannot take the place of the dynamics' own."""
    if optimizer is None:
        return
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        fix = "sl.Momentum and sl.Adam go into the dynamics, and sl.dynamics_of reads PyTorch's optimisers"
        raise refuse("optimizer", "be an optax optimiser such as optax.adagrad(0.01)", optimizer, fix)
    if not isinstance(dynamics, SGD | OnlineSGD | MiniBatchGD):
        raise refuse("dynamics", "be SGD, OnlineSGD or MiniBatchGD for an optax optimiser", dynamics, "it takes whole steps")
    if dynamics.optimizer is not None:
        raise refuse("dynamics.optimizer", "be None where an optax optimiser trains", dynamics.optimizer, "optax.chain composes")


def rule_of(dynamics: Dynamics, extras: Extras, gain: str = "feature") -> Rule:
    """The rule of a dynamics, with a gain of that kind if it has one."""
    optimiser = dynamics.optimizer
    gains = optimiser is not None and optimiser.gains
    return Rule(
        filtered=has_memory(dynamics),
        gain=gain if gains else None,
        corrected=bool(getattr(optimiser, "corrected", True)),
        nesterov=bool(getattr(optimiser, "nesterov", False)),
        noisy=dynamics.temperature > 0,
        averaged=extras.average is not None,
        transform=extras.transform,
    )


def has_memory(dynamics: Dynamics) -> bool:
    """Whether its optimiser is more than the plain gradient: a memory of zero without a gain is none."""
    return dynamics.optimizer is not None and (dynamics.optimizer.gains or dynamics.optimizer.memory > 0)


def numbers_of(dynamics: Dynamics, extras: Extras) -> Numbers:
    named = {name: float(getattr(dynamics.optimizer, name, 0.0)) for name in ("memory", "second_memory", "decay", "eps")}
    return Numbers(**named, temperature=dynamics.temperature, average=rate_of(extras.average))


def begin(rule: Rule, start: np.ndarray, rng: np.random.Generator, along: Any = None) -> State:
    """The state at the start, at rest; `along (p,)` are numbers that are trained along."""
    theta = jnp.asarray(start)
    return _at_rest(rule, theta)._replace(
        key=jax.random.key(int(rng.integers(2**31)), impl="rbg") if rule.noisy else None,
        own=None if rule.transform is None else rule.transform.init(_parameters(theta, along)),
        along=None if along is None else _at_rest(_each_its_own(rule), along),
    )


def begin_each(rule: Rule, starts: np.ndarray, along: Any = None) -> State:
    """The same for several runs `(runs, k, d)`, which have no noise and no maker of their own; `along (p,)` is that of all of them."""
    at_rest = lambda rule, thetas: jax.vmap(partial(_at_rest, rule))(thetas)
    many = None if along is None else at_rest(_each_its_own(rule), jnp.broadcast_to(along, (len(starts), *along.shape)))
    return at_rest(rule, jnp.asarray(starts))._replace(along=many)


def _at_rest(rule: Rule, theta: Any) -> State:
    zeros = jnp.zeros_like(theta)
    return State(
        theta,
        velocity=None if rule.plain else zeros,
        square=None if rule.gain is None else zeros if rule.gain == "feature" else zeros[:, :1],
        weights=jnp.zeros(2, theta.dtype) if rule.gain else None,
        integral=zeros if rule.averaged else None,
    )


def _each_its_own(rule: Rule) -> Rule:
    """The rule of numbers that are trained along: each has a gain of its own."""
    return rule._replace(gain="feature") if rule.gain else rule


def move(
    rule: Rule, numbers: Numbers, state: State, pull: Any, dt: Any, batch: Any, along: Along | None = None, pull_along: Any = None
) -> State:
    """One step, by the `pull (k, d)` of `batch` samples and their share of the penalty: `sum_i x_i l_i + batch / d h(theta)`; and of what
    is trained `along` by `sum_i grad_a L_i + batch h_a(a)`."""
    d = state.theta.shape[1]
    force = pull * (-d / batch)
    if rule.noisy:  # as a script does that adds noise to the gradient: a gain measures both, 2 T / eta more than E[l^2]
        key, here = jax.random.split(state.key)
        noise = jax.random.normal(here, force.shape, jnp.float32).astype(force.dtype)
        force, state = force + jnp.sqrt(2.0 * numbers.temperature / dt) * noise, state._replace(key=key)
    force_along = None if along is None else -pull_along / batch
    if rule.transform is not None:
        moved = _transformed(rule, state, force, along, force_along)
    else:
        moved = _by_filter(rule, numbers, state, force, dt, dt, batch / d)
        if along is not None:
            after = _by_filter(_each_its_own(rule), numbers, state.along, force_along, dt, along.rate * dt, batch)
            moved = moved._replace(along=after)
    if not rule.averaged:
        return moved
    averaged = lambda before, after: accumulate(before.integral, before.theta, after.theta, dt, numbers.average)
    if along is not None:
        moved = moved._replace(along=moved.along._replace(integral=averaged(state.along, moved.along)))
    return moved._replace(integral=averaged(state, moved))


def kept_after(dt: Any, memory: Any) -> Any:
    """`beta` of a step: what is kept of a mean with this memory, nothing where the step is longer."""
    return jnp.where(memory > dt, 1.0 - dt / jnp.where(memory > dt, memory, 1.0), 0.0)


def _by_filter(rule: Rule, numbers: Numbers, state: State, force: Any, dt: Any, length: Any, scale: Any) -> State:
    """One step of an optimiser of this package. It lasts `dt` and is a velocity times `length`; `scale` makes of a squared force what its
    gain is the root of."""
    if rule.gain:
        return _adaptive(rule, numbers, state, force, dt, length, scale)
    return _heavy_ball(rule, numbers, state, force, dt, length)


def _heavy_ball(rule: Rule, numbers: Numbers, state: State, force: Any, dt: Any, length: Any) -> State:
    """`torch.optim.SGD`: the step is `length` times the velocity, or looks ahead by another filter."""
    beta = kept_after(dt, numbers.memory)
    velocity = beta * state.velocity + (1.0 - beta) * force
    ahead = beta * velocity + (1.0 - beta) * force if rule.nesterov else velocity
    return state._replace(theta=state.theta + length * ahead, velocity=velocity)


def _adaptive(rule: Rule, numbers: Numbers, state: State, force: Any, dt: Any, length: Any, scale: Any) -> State:
    """`torch.optim.AdamW`. Means are sums with weights that forget over the sums of the weights, which is its bias correction; without one,
    over what these sums come to. The squared gradient of a parameter is `E[l^2]` in these units where it is all noise of the batch.

    A number that is trained along has the force `-g`, `g` the mean gradient over the batch, and moves by `rate dt m / (sqrt(batch s) +
    eps)`, where `m` and `s` are the means of `g` and `g^2`, whatever the size of `g`: with `dt = lr sqrt(v batch)` PyTorch's `lr m /
    (sqrt(s) + ...)` where `rate = 1 / sqrt(v)`. In the limit `batch s` is `Var(grad_a L) + batch F^2` with `F` the mean pull of all
    samples and the penalty. A decay lasts `rate` as long as that of the weights: for standardised features it is the script's own,
    `lr_a weight_decay` a step."""
    squared = force**2 * scale
    if rule.gain == "row":
        squared = squared.mean(1, keepdims=True)
    first, second = kept_after(dt, numbers.memory), kept_after(dt, numbers.second_memory)
    velocity, square = first * state.velocity + dt * force, second * state.square + dt * squared
    weights = jnp.stack([first, second]) * state.weights + dt
    size = jnp.sqrt(square / (weights[1] if rule.corrected else jnp.maximum(dt, numbers.second_memory))) + numbers.eps
    step = jnp.where(size > 0, velocity / weights[0] / jnp.where(size > 0, size, 1.0), 0.0)
    theta = (1.0 - length * numbers.decay) * state.theta + length * step
    return state._replace(theta=theta, velocity=velocity, square=square, weights=weights)


def _parameters(theta: Any, along: Any) -> Any:
    """Those of an optax optimiser: weights for features of variance one, `theta / sqrt(d)`, and one more leaf for what is trained along."""
    scaled = theta / np.sqrt(theta.shape[1])
    return scaled if along is None else (scaled, along)


def _transformed(rule: Rule, state: State, force: Any, along: Along | None, force_along: Any) -> State:
    """An optax step. Numbers that are trained along have its learning rate times their own rate; those whose rate is zero show it no
    gradient."""
    scale = np.sqrt(state.theta.shape[1])
    gradient = -force / scale
    if along is not None:
        gradient = (gradient, jnp.where(along.rate > 0, -force_along, 0.0))
    updates, own = rule.transform.update(gradient, state.own, _parameters(state.theta, state.numbers))
    if along is not None:
        updates, other = updates
        state = state._replace(along=state.along._replace(theta=state.numbers + along.rate * other))
    return state._replace(theta=state.theta + scale * updates, own=own)
