"""Does a user's function ask for entries that do not exist?

JAX raises no error for an index beyond an array's end: it takes the nearest entry, fills in NaN, or drops what was to be written.
`r[3]` with one direction is then another problem than the one that was meant. `jax.experimental.checkify` finds such an index while
the function runs, wherever it is: in a branch, a loop, an inner function, constant or computed from the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify
from jax.extend import core

from ..compiling import jit

SILENT = ("dynamic_slice", "dynamic_update_slice")  # these move a start into bounds, always
FOUND = re.compile(r"index (-?\d+) is out of bounds for axis \d+ with size (\d+)")


def missing_entry(fn: Callable, args: Sequence[Any]) -> Callable[..., str] | None:
    """What tells whether a function asks for entries that its arrays do not have.

    Arguments:
        fn: a function that JAX can trace.
        args: trees of shapes, those of its arguments.

    Returns:
        A program that takes many draws of the arguments, draws first, and gives "entry 3 of 1", or "" if all that are asked for
        exist. None where the function has no index that could be wrong.
    """
    traced = jax.make_jaxpr(fn)(*args)
    if not any(map(_indexes, _equations(traced.jaxpr))):
        return None
    checked = checkify.checkify(core.jaxpr_as_fun(_without_intended(traced)), errors=checkify.index_checks)
    program = jit(jax.vmap(lambda *leaves: checked(*leaves)[0]))

    def told(*draws: Any) -> str:
        try:
            words = program(*jax.tree.leaves(draws)).get()
        except Exception:  # the function itself runs, but holds what checkify does not know (jax.checkpoint, callbacks)
            return ""
        if words is None:
            return ""
        found = FOUND.search(words)
        if not found:
            return "one out of bounds"
        index, size = map(int, found.groups())
        return f"entry {index if index >= 0 else index - size} of {size}"  # JAX has added the size to a negative index once

    return told


def _indexes(equation: Any) -> bool:
    return equation.primitive.name in SILENT or equation.primitive.name.startswith(("gather", "scatter"))


def _equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """All of them, those of inner functions too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
                    yield from _equations(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)


def _without_intended(traced: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """With zeros in place of what is told what to do out of bounds: only the function's own oversights are left to be found."""
    return traced.replace(jaxpr=_inside(traced.jaxpr))


def _inside(jaxpr: core.Jaxpr) -> core.Jaxpr:
    given, equations = {*jaxpr.invars}, []
    for equation in jaxpr.eqns:
        if _intended(equation, given):
            equations += _zeros(equation)
            continue
        if any(one in given for one in equation.invars if not isinstance(one, core.Literal)):
            given |= {*equation.outvars}
        equations.append(equation.replace(params={name: _inner(value) for name, value in equation.params.items()}))
    return jaxpr.replace(eqns=equations)


def _inner(value: Any) -> Any:
    if isinstance(value, core.ClosedJaxpr):
        return _without_intended(value)
    if isinstance(value, core.Jaxpr):
        return _inside(value)
    if isinstance(value, tuple | list):
        parts = map(_inner, value)
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _intended(equation: Any, given: set[Any]) -> bool:
    """Whether out of bounds is provided for: an index that `mode` clips or fills in, other than by default (with NaN, or the least
    integer); writing into a fresh array, as `nonzero` and histograms do, which drops what does not fit."""
    name, more = equation.primitive.name, equation.params
    if name.startswith("scatter"):
        return equation.invars[0] not in given
    if name != "gather" or "PROMISE_IN_BOUNDS" in str(more["mode"]):
        return False
    if "CLIP" in str(more["mode"]):
        return bool(more["dimension_numbers"].collapsed_slice_dims)  # else it is `r[i]` under `vmap`, where nobody said so
    fill, of = more["fill_value"], equation.outvars[0].aval.dtype
    return not (fill is None or fill != fill or (jnp.issubdtype(of, jnp.integer) and fill == jnp.iinfo(of).min))


def _zeros(equation: Any) -> list[Any]:
    """Equations that make zeros of the shape of another one's result."""
    (out,) = equation.outvars
    made = jax.make_jaxpr(lambda: jax.lax.optimization_barrier(jax.lax.full(out.aval.shape, 0, out.aval.dtype)))().jaxpr.eqns
    return [*made[:-1], made[-1].replace(outvars=[out])]
