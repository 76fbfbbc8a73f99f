"""How an event kicks a path's sample: by a jump, or by the map of a cell's drift and diffusion. Histories, which know only jumps, leave
their kicks in a table as they land: `events.land`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...learning.slopes import Slopes
from ..stages import midpoint, runge_kutta, with_jacobian

Array = Any


class Kick(NamedTuple):
    """What an event does to its own sample: `G (k,)` and `dG/dr (k, k)`."""

    size: Array
    slope: Array


class Functions(NamedTuple):
    """The loss and its derivatives over paths."""

    loss: Callable[[Array, Any], Array]
    gradient: Callable[[Array, Any], Array]
    hessian: Callable[[Array, Any], Array]
    kick: Callable[..., Kick]  # (r, y, drift, noise, step, recoil); the last None without a filter
    pull: Callable[[Array, Any], Array] | None = None  # gradient (p, P) in the numbers that are trained along

    def pulled(self, r: Array, y: Any, weight: Array | None = None) -> Array | None:
        """`Averages.pull` over paths, of this `weight (P,)` if they are not alike."""
        if self.pull is None:
            return None
        pull = self.pull(r, y)
        both = jnp.stack([pull, pull**2])
        return both.mean(-1) if weight is None else both @ weight


def path_functions(slopes: Slopes, drive: str) -> Functions:
    """A problem's loss and update over paths, with the `kick` of the drive "jump" (SGD), "diffusion" (SME) or "flow"."""
    over = lambda f: jax.vmap(f, in_axes=(-1, 0), out_axes=-1)
    gradient, hessian = over(slopes.gradient), over(slopes.hessian)

    def jump(r, y, drift, noise, step, recoil):
        return Kick(noise * gradient(r, y), noise * hessian(r, y))

    def smooth(r, y, drift, noise, step, recoil):
        mapped = jax.vmap(_cell_map(slopes.gradient, drive == "diffusion"), in_axes=(-1, 0, -1, -1, None, None), out_axes=(-1, -1))
        after, jacobian = mapped(r, y, drift, noise, step, recoil)
        size, slope = r - after, jnp.eye(r.shape[0])[:, :, None] - jacobian
        return Kick(size, slope) if recoil is None else Kick(size / recoil[:, None], slope / recoil[:, None, None])

    pull = None if slopes.pull is None else over(slopes.pull)
    return Functions(over(slopes.loss), gradient, hessian, jump if drive == "jump" else smooth, pull)


def _cell_map(gradient: Callable, diffusion: bool) -> Callable:
    """One sample's exact-to-second-order map over a cell's `dm`, with its Jacobian.

    In Stratonovich form the drift field is `-(l + eta/2 H l) / delta` and the noise field `-l`; half the drift, the
    noise, half the drift is of weak order two. Behind a filter a sample recoils from a kick by a part of it within the cell: both fields
    are times the `recoil`.
    """

    def move(r, y, drift, noise, step, recoil):
        descend = lambda q: -gradient(q, y) if recoil is None else -recoil * gradient(q, y)
        if not diffusion:
            return runge_kutta(descend, r, drift)

        def corrected(q):
            down, turn = jax.jvp(descend, (q,), (descend(q),))
            return down - 0.5 * step * turn

        r = midpoint(corrected, r, 0.5 * drift)
        r = runge_kutta(descend, r, noise)  # its errors meet odd powers of the noise: a low order here would show
        return midpoint(corrected, r, 0.5 * drift)

    def mapped(r, y, drift, noise, step, recoil):
        return with_jacobian(lambda q: move(q, y, drift, noise, step, recoil))(r)

    return mapped
