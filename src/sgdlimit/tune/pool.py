"""Solves that do not need each other's answers, together on Dask's workers. Each is what it is here, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import SolveError
from ..sweep.plan import versions
from ..sweep.work import unpacked
from ..theory.paired import Common, solve_on
from ..theory.shapes import few_here, patient
from .trials import Measure, Trial, read

if TYPE_CHECKING:
    from distributed import Client

    from .space import Family


class Builder(Protocol):
    """From numbers to a problem and a dynamics, and the step with which a schedule is put in its place; travels to workers as it is."""

    def build(self, numbers: dict[str, float]) -> Any: ...


class Pool:
    """Workers of a client, to which `builder` goes once."""

    def __init__(self, client: Client, builder: Builder):
        import cloudpickle

        self.client, self.packed = client, cloudpickle.dumps(builder)

    def __call__(self, family: Family, numbers: Sequence[dict[str, float]], common: Common, measure: Measure) -> list[Trial]:
        """Solves of a family at these numbers."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        few, same = not patient(), (common, measure, family.name, self.packed, versions())
        schedules = [family.schedule(one) for one in numbers]
        ends = [family.setting(one)[2] for one in numbers]
        tasks = [(one, *rest, *same, few) for one, *rest in zip(numbers, schedules, ends, strict=True)]
        futures = self.client.map(solve, *zip(*tasks, strict=True), pure=False)
        try:
            return self.client.gather(futures)  # pyright: ignore[reportReturnType]
        except (KilledWorker, CancelledError, CommClosedError, TimeoutError):
            raise SolveError("The workers are gone: what was tried is kept, and the same command continues from it.") from None


def solve(
    numbers: dict[str, float],
    schedule: Any,
    horizon: float,
    common: Common,
    measure: Measure,
    form: str,
    packed: bytes,
    wanted: str,
    few: bool,
) -> Trial:
    """On a worker: one solve, of a schedule if there is one."""
    builder: Builder = unpacked(packed, wanted)
    if schedule is None:
        problem, dynamics = builder.build(numbers)
    else:
        problem, dynamics = builder.build({"step": 1.0})
        dynamics = replace(dynamics, step=schedule)
    with few_here() if few else nullcontext():
        found = solve_on(common, (problem, dynamics, horizon))
    return read(measure, found, form, numbers, horizon, common)
