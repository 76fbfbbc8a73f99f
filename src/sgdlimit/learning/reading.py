"""The dynamics of a training script, read from its optimiser: PyTorch's, or optax's where its numbers can be seen. Imports neither."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import Words, refuse
from .adam import Adam
from .dynamics import SGD
from .optimisers import all_positive
from .weights import Penalty, Ridge

KNOWN = ("SGD", "AdamW", "Adam", "RMSprop")
# Settings that change what a step is and have no counterpart here; with the value that does not.
WITHOUT = {"maximize": False, "amsgrad": False, "centered": False, "eps_root": 0.0, "initial_scale": 0.0}
READABLE = "torch.optim's SGD, Adam, AdamW or RMSprop, or optax's sgd, adam, adamw or rmsprop in optax.inject_hyperparams"


def dynamics_of(
    optimizer: Any,
    batch_size: int,
    n_features: int,
    feature_variance: float = 1.0,
    sampling: str = "replacement",
    penalty: Penalty = None,
    kind: str | None = None,
) -> SGD:
    """The dynamics of a loop that steps `optimizer` on the mean loss over batches of `batch_size`.

    Arguments:
        optimizer: `torch.optim`'s `SGD` (momentum, dampening, Nesterov), `Adam`, `AdamW` or `RMSprop`, of one parameter group or several
            alike; or optax's `sgd`, `adam`, `adamw` or `rmsprop` wrapped by `optax.inject_hyperparams`, or the state of such a one.
        feature_variance: of the features the script trains on.
        sampling: "replacement" or "reshuffle", as data loaders do.
        penalty: that of the problem, `problem.penalty`. A weight decay that is a part of the gradient (all but AdamW's) belongs there, and
            is checked against it.
        kind: "sgd", "adam", "adamw" or "rmsprop", where an optax state does not tell.

    The learning rate is the one of the moment; a schedule is a function of time for `SGD(step=...)`. RMSprop's mean is not corrected for
    its start, `Adam(..., corrected=False)`, which is for real runs alone so far; `corrected=True` is optax's `bias_correction`.

    Raises:
        InputError: an optimiser or a setting that has no limit here, or a weight decay that is not the problem's penalty.
    """
    all_positive(batch_size=batch_size, n_features=n_features, feature_variance=feature_variance)
    kind, read = _read(optimizer, kind)
    for name, harmless in WITHOUT.items():
        if read.get(name, harmless) != harmless:
            raise refuse(f"optimizer.{name}", f"be {harmless} to have a limit here", read[name])
    units = {"batch_size": batch_size, "n_features": n_features, "feature_variance": feature_variance, "sampling": sampling}
    lr, decay = _number(read, "lr"), _number(read, "weight_decay", 0.0)
    decoupled = kind == "AdamW" or bool(read.get("decoupled_weight_decay"))
    _check_decay(0.0 if decoupled else decay / feature_variance, penalty)
    if kind == "SGD":
        momentum, dampening = _number(read, "momentum", 0.0), _number(read, "dampening", 0.0)
        return SGD.from_learning_rate(lr, **units, momentum=momentum, nesterov=bool(read.get("nesterov")), dampening=dampening)
    if kind == "RMSprop":
        if _number(read, "momentum", 0.0):
            fix = "its momentum is of steps, after the gain, where Adam's is of gradients"
            raise refuse("optimizer.momentum", "be 0 for RMSprop to have a limit here", read["momentum"], fix)
        betas = (0.0, _number(read, "alpha"))
    else:
        betas = (float(read["betas"][0]), float(read["betas"][1]))
    found = Adam.from_learning_rate(lr, **units, betas=betas, weight_decay=decay if decoupled else 0.0, eps=_number(read, "eps"))
    if kind == "RMSprop" and betas[1]:
        assert isinstance(found.optimizer, Adam)
        return replace(found, optimizer=replace(found.optimizer, corrected=False))
    return found


def _read(optimizer: Any, kind: str | None) -> tuple[str, dict[str, Any]]:
    """Which of `KNOWN` it is, and its settings under PyTorch's names."""
    groups = getattr(optimizer, "param_groups", None)
    if groups:
        known = next((cls.__name__ for cls in type(optimizer).__mro__ if cls.__name__ in KNOWN), None)
        if known is None:
            raise refuse("optimizer", f"be {READABLE}", Words(type(optimizer).__name__))
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        for other in settings[1:]:
            for name, value in settings[0].items():
                if other.get(name) != value:
                    fix = "the weights of the limit are all alike"
                    raise refuse(f"optimizer.{name}", "be the same in all groups", Words(f"{value} and {other.get(name)}"), fix)
        return known, settings[0]
    state = optimizer if hasattr(optimizer, "hyperparams") else _state(optimizer)
    if not isinstance(getattr(state, "hyperparams", None), Mapping):
        fix = "optax.inject_hyperparams(optax.adam)(learning_rate=0.001) shows its numbers, optax.adam(0.001) hides them"
        raise refuse("optimizer", f"be {READABLE}", optimizer, fix)
    return _from_optax(kind or _factory(optimizer), state)


def _state(optimizer: Any) -> Any:
    """An optax optimiser's state, of no parameters."""
    return optimizer.init({}) if callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)) else None


def _factory(optimizer: Any) -> str | None:
    """The name of what `optax.inject_hyperparams` was given; states and numbers alone do not tell Adam from AMSGrad."""
    try:
        return inspect.getclosurevars(optimizer.update).nonlocals["inner_factory"].__name__
    except (AttributeError, KeyError, TypeError):
        return None


def _from_optax(kind: str | None, state: Any) -> tuple[str, dict[str, Any]]:
    """Optax's numbers under PyTorch's names."""
    known: dict[str, str] = {name.lower(): name for name in KNOWN}
    if kind is None or kind not in known:
        raise refuse("kind", f"be one of {', '.join(known)}", kind, "which optimiser of optax it is")
    if "ScaleByRStdDevState" in repr(state):
        raise refuse("optimizer.centered", "be False to have a limit here", True)
    given = {str(name): _decimal(value) for name, value in state.hyperparams.items()}
    names = {"learning_rate": "lr", "decay": "alpha"}
    read: dict[str, Any] = {names.get(name, name): value for name, value in given.items()}
    betas = (read.get("b1", 0.9), read.get("b2", 0.999))
    return known[kind], {**read, "betas": betas}


def _decimal(value: Any) -> Any:
    """A number in single precision as the decimal that it was given as: 1 - 0.9 is not to be 0.10000002."""
    return float(str(np.float32(value))) if getattr(value, "dtype", None) == np.float32 and np.ndim(value) == 0 else value


def _number(read: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = read.get(name, default)
    if value is None and default is not None:
        value = default
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        raise refuse(f"optimizer.{name}", "be a number", value) from None


def _check_decay(strength: float, penalty: Penalty) -> None:
    """Refuse a weight decay within the gradient that is not the problem's ridge."""
    ridge = penalty.strength if isinstance(penalty, Ridge) else 0.0
    if abs(strength - ridge) > 1e-6 * max(strength, ridge):
        if penalty is None:
            fix = f"sl.Problem(penalty=sl.Ridge({strength:g})), and dynamics_of(..., penalty=problem.penalty) to say so"
        else:
            fix = f"of weight_decay / feature_variance: sl.Ridge({strength:g})"
        raise refuse("optimizer.weight_decay", f"be the problem's penalty sl.Ridge({strength:g})", penalty, fix)
