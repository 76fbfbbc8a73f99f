"""`jit` stands in for `jax.jit` in all programs of this package, so that their numbers are right with every jaxlib allowed.

XLA's compiler for CPUs hands sums of products over to a library (YNNPACK), and some releases get wrong what they hand over, silently; see
"The compiler" in `docs/internals.md`. Which ones is not known ahead, so the first program that is to run on a CPU waits for a small
one with a known answer. Where that is wrong, all programs are compiled with an option that hands nothing over, and where that does not
help, none runs. Users' own settings are left alone, and their programs, but that they too are kept where ours are (`keep_programs`).
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cache, update_wrapper
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.compilation_cache import compilation_cache

from .errors import SolveError

CURE: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}  # the kinds of operations handed over: none
# A first answer takes a third less processor time, and what runs long up to a fifth more.
HURRIED: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
RIGHT = "0.10.1"  # a release without the fault
KEPT = 0.05  # seconds that a program takes to compile, at least, to be kept
# To compile what is run once: all of it, and where an option is not known, less.
QUICK: tuple[dict[str, Any], ...] = (
    {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
    {"xla_backend_optimization_level": 0},
    {},
)


class Beside:
    """Programs that will be asked for one after the other, compiled beside one another: compiling leaves Python to others. Once for every
    set of shapes."""

    def __init__(self) -> None:
        self.known: set[Any] = set()

    def __call__(self, like: Any, work: Callable[[], object]) -> None:
        """Do `work`, which compiles, in a thread of its own, if there was none before with a tree like this."""
        of = lambda leaf: (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf
        key = tuple(_options_here()), jax.tree.structure(like), tuple(of(leaf) for leaf in jax.tree.leaves(like))
        if key not in self.known:
            self.known.add(key)
            threading.Thread(target=copy_context().run, args=(_quietly, work)).start()


class Program:
    """What `jit` makes of a function."""

    def __init__(self, function: Callable[..., Any], how: dict[str, Any]):
        self.function, self.how = function, how
        self.made: dict[tuple[str, ...], Any] = {}
        self.beside = Beside()
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._for(args, kwargs)(*args, **kwargs)

    def shapes(self, *args: Any) -> Any:
        """Of what it returns; for arguments that may be shapes, too. It is traced once for that and all else."""
        return self._for(args, {}).eval_shape(*args)

    def compile(self, *args: Any) -> None:
        """For arguments, or shapes, like these: a call with such then finds it compiled, and one that comes before it is waits for it."""
        self._for(args, {}).lower(*args).compile()

    def _for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        keep_programs()
        options = _options_here()
        if options and not _is_outermost(args, kwargs):
            options = {}
        program = self.made.get(names := tuple(options))
        if program is None:
            program = self.made[names] = jax.jit(self.function, compiler_options=options or None, **self.how)
        return program


def jit(function: Callable[..., Any], **how: Any) -> Program:
    """`jax.jit(function, **how)`, right on faulty compilers as well. Like it, it starts no backend before the first call."""
    return Program(function, how)


def on_host(tree: Any) -> Any:
    """A tree of small arrays in NumPy: as `jax.device_get`, which spends ten times as long on asking for each copy ahead."""
    return jax.tree.map(np.asarray, tree)


def _quietly(work: Callable[[], object]) -> None:
    with suppress(Exception), jax.enable_x64(True):  # whoever calls the program will be told
        work()


@cache
def keep_programs() -> None:
    """Keep compiled programs for the next process, under the user's cache directory: not where JAX has been told another place, nor with
    `SGDLIMIT_CACHE=off`, nor where XLA's log is not quiet (`errors.quiet_compiler` says why); without a place to write to, do without."""
    told = jax.config.jax_compilation_cache_dir is not None  # pyright: ignore[reportAttributeAccessIssue]
    loud = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") < "3"
    if told or loud or os.environ.get("SGDLIMIT_CACHE", "").lower() == "off":
        return
    try:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgdlimit" / "jax"
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, RuntimeError):  # no place, or no home
        return
    compilation_cache.set_cache_dir(str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT)
    compilation_cache.reset_cache()  # JAX looks once, and the user may have compiled something before


_in_a_hurry = False
_here: ContextVar[bool] = ContextVar("hurried", default=False)


def hurry() -> None:
    """From now on this process spends less on compiling its programs, where the release knows how: for one in which somebody waits."""
    global _in_a_hurry
    _in_a_hurry = True


@contextmanager
def hurried(here: bool = True) -> Iterator[None]:
    """As `hurry`, or not, for what is done inside alone."""
    token = _here.set(here)
    try:
        yield
    finally:
        _here.reset(token)


def _options() -> dict[str, Any]:
    cure = CURE if needs_cure() else {}
    return cure | HURRIED if (_in_a_hurry or _here.get()) and may_hurry() else cure


def _options_here() -> dict[str, Any]:
    """Elsewhere than on a CPU there are none, and nothing is checked."""
    return _options() if _platform() == "cpu" else {}


@cache
def may_hurry() -> bool:
    """Whether programs are right with the option `HURRIED`, and it is known; found once in a process."""
    return is_right(HURRIED | (CURE if needs_cure() else {}))


def _platform() -> str:
    """Where a program runs if its arguments do not say otherwise."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return jax.default_backend() if device is None else getattr(device, "platform", device)


def _is_outermost(*arguments: Any) -> bool:
    """Whether no other program is being traced: one inside another is compiled as that is, and JAX takes options of that one only."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((arguments, _nothing())))


@jax.jit
def _nothing() -> int:
    return 0


@cache
def needs_cure() -> bool:
    """Whether programs for the CPU are to be compiled with the option `CURE`; found once in a process.

    Raises:
        SolveError: they are wrong with it, too.
    """
    if is_right({}):
        return False
    if is_right(CURE):
        return True
    raise SolveError(
        f"jaxlib must multiply and add correctly, but version {version('jaxlib')} does not on this CPU, with and without "
        f"{next(iter(CURE))} (version {RIGHT} does: pip install jax=={RIGHT} jaxlib=={RIGHT})"
    )


def is_right(options: dict[str, Any]) -> bool:
    """Whether the small program gives what it should on the CPU, compiled with these options; not where they are unknown."""
    arguments = _arguments()
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        program = jax.jit(_small).lower(*arguments)
        for more in QUICK:
            try:
                got = jax.device_get(program.compile(compiler_options=options | more)(*arguments))
                break
            except (RuntimeError, FloatingPointError):  # an option that this release does not know; NaN, where the user has JAX look for it
                continue
        else:
            return False
    return all(np.allclose(one, right, rtol=1e-9, atol=1e-9) for one, right in zip(got, _answers(*arguments), strict=True))


def _arguments() -> tuple[np.ndarray, ...]:
    """As small as shows the faults: more than one matrix of some 60 rows, and k^2 J paths beyond 65,536, where work is cut in pieces."""
    waves = lambda *shape: np.sin(np.arange(float(np.prod(shape)))).reshape(shape)
    return waves(2, 60, 60), np.array(0.37), waves(1, 3, 39), np.zeros((1, 3, 2, 8192))


def _small(matrices: Any, number: Any, normals: Any, items: Any) -> tuple[Any, Any]:
    """Both faults known: products with a constant matrix, and a product less a sum of products along another axis, as what is left of
    a variance after a regression (`theory.samples.events.average`)."""
    product = lambda a, b, axis: jax.lax.dot_general(a, b, (((2,), (axis,)), ((0,), (0,))))  # traced faster than einsum
    constant = (product(matrices, jnp.full_like(matrices, number), 1) * matrices).sum(-1)
    return constant, product(normals, normals, 2)[..., None] - (items[:, :, None] * items[:, None]).sum(3)


def _answers(matrices: np.ndarray, number: np.ndarray, normals: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `_small` should give; `items` are zero."""
    return number * matrices.sum(-1) ** 2, (normals @ normals.transpose(0, 2, 1))[..., None]
