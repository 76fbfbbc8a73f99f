"""What an optimiser's filter holds back of a sample's kicks, within a cell; see `weights.filters`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..averages import Layer, times
from .kicks import Functions

Array = Any
Pair = tuple[Array, Array]  # of the paths `(k, P)`, and of their response `(k, X, k, Q)`, see `sample.cross_cell`


def triangle(late: Array, layer: Layer | None) -> Callable[[Array, Array, Array], Array]:
    """What the kicks of a cell so far do within it: `R`, or behind a filter its smooth part, times `s0 = sum G` and `s1 = sum place G`,
    linear in both times between its values on the diagonal and `late`, at the cell's end of a kick at its start."""
    if layer is None:
        slope = late - jnp.eye(len(late))
        return lambda x, s0, s1: s0 + times(slope, x * s0 - s1)
    first, last = layer.gain
    return lambda x, s0, s1: times(first, s0) + times(late - first, x * s0) + times(last - late, s1)


def spread_evenly(rate: Array) -> Array:
    """What is left at the end of a cell, so many memories long, of kicks spread evenly over it: the mean of `E`."""
    small = rate < 1e-6
    return jnp.where(small, 1.0 - 0.5 * rate, -jnp.expm1(-rate) / jnp.where(small, 1.0, rate))


class Held(NamedTuple):
    """The kicks `int E dG` that the filter holds back, over one cell. Those of jumps are followed from jump to jump (`jumps`); smooth
    ones come all over the cell, and what of them is left at its end is known.

    `begun` is what was held at the cell's start, `few` takes the first Q of all paths.
    """

    layer: Layer
    begun: Pair
    few: Callable[[Any], Any]
    jumps: bool

    @property
    def rate(self) -> Array:
        """The cell's length in units of the memory."""
        return self.layer.clock[1] - self.layer.clock[0]

    def start(self) -> Pair:
        """What events carry along: for smooth kicks only what the cell adds besides their mean effect."""
        return self.begun if self.jumps else (jnp.zeros_like(self.begun[0]), jnp.zeros_like(self.begun[1]))

    def until(self, pair: Pair, place: Array, x: Array) -> Pair:
        """What was carried at `place` at `x` after it."""
        return self._later(pair, place, x) if self.jumps else pair

    def seen(self, r: Array, chi: Array, pair: Pair, x: Array) -> Pair:
        """`r` and its response at `x`, if nothing were held back, less what is. Smooth kicks come all over the cell, so that they meet the
        mean of what was held at its start: a kick that begins there would else miss its first memory."""
        held, tangent = pair if self.jumps else (self._spread * self.begun[0], self._spread * self.begun[1])
        return r + self._unmoved(x, held), chi + self._unmoved(self.few(x), tangent)

    def shaken(self, r: Array, chi: Array, x: Array, noise: Array, functions: Functions, y: Any) -> tuple[Array, Array, Pair]:
        """`r` and its response with what the `noise (2, P)` of a diffusion's cell does to them besides its mean effect, and what of it is
        held back at the end."""
        shake, y_few = noise * self.layer.apart[:, None], self.few_labels(y)
        slope = lambda r: functions.hessian(self.few(r), y_few)
        turned = self.few(shake[0]) * times(slope(r), chi)
        r = r + self._unmoved(x, shake[0] * functions.gradient(r, y))
        chi = chi + self._unmoved(self.few(x), turned)
        return r, chi, (shake[1] * functions.gradient(r, y), self.few(shake[1]) * times(slope(r), chi))

    def few_labels(self, y: Any) -> Any:
        """Labels of the first Q paths."""
        q = self.begun[1].shape[-1]
        return jax.tree.map(lambda leaf: leaf[:q], y)

    def added(self, pair: Pair, size: Array, push: Array) -> Pair:
        return (pair[0] + size, pair[1] + push) if self.jumps else pair

    def ended(self, pair: Pair, place: Array, kicks: Array, pushes: Array) -> Pair:
        """At the cell's end, after all its `kicks` and what they did to the response."""
        one = jnp.ones_like(place)
        if self.jumps:
            return self._later(pair, place, one)
        old = self._later(self.begun, jnp.zeros_like(one), one)
        return pair[0] + old[0] + self._spread * kicks, pair[1] + old[1] + self._spread * pushes

    def at_end(self, r: Array, held: Array) -> Array:
        """`r` as `seen` at the cell's end."""
        return r + self._unmoved(jnp.ones(()), held)

    def _later(self, pair: Pair, place: Array, x: Array) -> Pair:
        decay = jnp.exp(-self.rate * (x - place))
        return pair[0] * decay, pair[1] * self.few(decay)

    def _unmoved(self, x: Array, held: Array) -> Array:
        first, last = (times(gain, held) for gain in self.layer.gain)
        return (1.0 - x) * first + x * last

    @property
    def _spread(self) -> Array:
        return spread_evenly(self.rate)
