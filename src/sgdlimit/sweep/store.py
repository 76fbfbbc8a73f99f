"""The Zarr store of a sweep: all its arrays are there from the start, and every point fills its own chunks, its status last.

So any reader may open the store while it grows, and a point is in it whole or not at all. The metadata and the empty arrays are
written by the zarr library; chunks, one file each, are written here as version 2 of the Zarr format has them, since a call of the
library costs ten times as much, and one process writes the points of many workers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numcodecs import Zstd

from ..errors import InputError
from ..files import replacing
from ..results import CURVES, LONG_NAMES
from ..results.derived import DERIVED
from ..results.schema import ALONG
from ..version import __version__
from .plan import Kind, Plan, Unit
from .work import LONGEST, Outcome

PREFIX: dict[Kind, str] = {"theory": "", "simulation": "runs_"}
CODEC = Zstd(level=1)
MEASURED = ("seconds", "cpu_seconds")  # what two runs of the same sweep do not share
CODES = ("done", "inaccurate", "diverged", "failed")
CLOCKS = {"time": "time t", "epoch": "epochs", "fraction": "fraction of the horizon"}


class Store:
    """The store at `path` of the sweep `plan`; made if it is not there, and locked against a second writer while it is open.

    Raises:
        InputError: the path cannot be written, is in use, or holds something else or another sweep.
    """

    def __init__(self, path: str | os.PathLike[str], plan: Plan):
        self.path, self.plan = Path(path), plan
        self._lock: IO[bytes] | None = None
        try:
            if not self.path.exists():
                self._create()
            self._check()
            self._lock = _locked(self.path)
            self._probe()
        except OSError as e:
            self.close()
            raise InputError(
                f"`--out` must be a directory that can be written, but `{self.path}` cannot: {e.strerror or e} (choose another place)"
            ) from None
        self._clean()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def finished(self) -> set[Unit]:
        """The computations that are in the store whole."""
        found = set()
        for kind in self.plan.kinds:
            with os.scandir(self.path / f"{PREFIX[kind]}status_code") as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        part, *index = map(int, entry.name.split(".")) if self._parts else (0, *map(int, entry.name.split(".")))
                        found.add(Unit(kind, part, tuple(index)))
        return found

    def write(self, unit: Unit, outcome: Outcome) -> None:
        """Put one computation into the store. Its status code, which tells that it is whole, goes last.

        Raises:
            OSError: the disk is full, or the store cannot be written any more.
        """
        prefix = PREFIX[unit.kind]
        for name, values in outcome.curves.items():
            self._put(prefix + name, unit, values)
        if self.plan.shared.clock != "time":
            self._put(f"{prefix}horizon", unit, outcome.horizon)
        self._put(f"{prefix}seconds", unit, outcome.seconds)
        self._put(f"{prefix}cpu_seconds", unit, outcome.cpu_seconds)
        self._put(f"{prefix}status", unit, outcome.message)
        self._put(f"{prefix}status_code", unit, outcome.code)

    # --- the layout -------------------------------------------------------------------------------------------------------

    @property
    def _parts(self) -> bool:
        """Whether the dynamics are a dimension: where there are several."""
        return len(self.plan.parts) > 1

    def _put(self, name: str, unit: Unit, values: Any) -> None:
        index = (unit.part, *unit.index) if self._parts else unit.index
        array = np.asarray(values, dtype=f"<U{_width(name)}" if isinstance(values, str) else "<f8")
        key = ".".join(map(str, (*index, *(0 for _ in array.shape))))
        with replacing(self.path / name / key) as temporary:
            temporary.write_bytes(CODEC.encode(np.ascontiguousarray(array)))

    def _create(self) -> None:
        """Build the empty store beside its place, and move it there whole."""
        import zarr

        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        plan, design = self.plan, self.plan.design
        attributes = {
            "title": plan.title,
            "sgdlimit": __version__,
            "fingerprint": plan.fingerprint,
            "settings": json.dumps(plan.described, default=str),
            "axes": json.dumps({axis.name: {"field": axis.field, "scale": axis.scale} for axis in design.axes}),
            "design": design.kind,
        }
        if not design.grid:
            attributes["coordinates"] = " ".join(axis.name for axis in design.axes)
        group = zarr.create_group(str(new), zarr_format=2, attributes=attributes)
        for name, (dims, values, about) in self._coordinates().items():
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                fill_value=None,
                compressors=CODEC,
                attributes={"_ARRAY_DIMENSIONS": dims, **about},
            )
            array[...] = values
        outer = ([len(plan.parts)] if self._parts else []) + list(design.shape)
        dims = (["dynamics"] if self._parts else []) + list(design.dims)
        for name, (inner, sizes, dtype, about) in self._variables().items():
            group.create_array(
                name,
                shape=(*outer, *sizes),
                chunks=(*(1 for _ in outer), *sizes),
                dtype=dtype,
                fill_value=np.nan if dtype == "<f8" else None,
                compressors=CODEC,
                attributes={"_ARRAY_DIMENSIONS": dims + inner, **about},
            )
        zarr.consolidate_metadata(str(new), zarr_format=2)
        os.rename(new, self.path)

    def _coordinates(self) -> dict[str, tuple[list[str], np.ndarray, dict[str, str]]]:
        plan, design = self.plan, self.plan.design
        found: dict[str, tuple[list[str], np.ndarray, dict[str, str]]] = {
            plan.shared.clock: ([plan.shared.clock], plan.shared.grid, {"long_name": CLOCKS[plan.shared.clock]}),
            "student": (["student"], np.arange(plan.sizes[0]), {}),
            "student_": (["student_"], np.arange(plan.sizes[0]), {}),
            "teacher": (["teacher"], np.arange(plan.sizes[1]), {}),
        }
        if plan.sizes[2]:
            found["parameter"] = (["parameter"], np.arange(plan.sizes[2]), {})
        for axis in design.axes:
            dims = [axis.name] if design.grid else ["point"]
            found[axis.name] = (dims, np.array(axis.values), {"long_name": axis.field, "scale": axis.scale})
        if not design.grid:
            found["point"] = (["point"], np.arange(design.size), {})
        if self._parts:
            found["dynamics"] = (["dynamics"], np.array(plan.parts, dtype=f"<U{max(map(len, plan.parts))}"), {})
        return found

    def _variables(self) -> dict[str, tuple[list[str], tuple[int, ...], str, dict[str, str]]]:
        """Inner dimensions, their sizes, type and attributes of everything a point has."""
        k, k_star, p = self.plan.sizes
        size = {self.plan.shared.clock: len(self.plan.shared.grid), "student": k, "student_": k, "teacher": k_star, "parameter": p}
        curves, found = CURVES | (ALONG if p else {}) | DERIVED, {}
        for kind in self.plan.kinds:
            prefix, of = PREFIX[kind], {"theory": "", "simulation": " of real runs"}[kind]
            for name, dims in curves.items():
                if name == "distance_to_teacher" and k != k_star:
                    continue
                inner = [self.plan.shared.clock if dim == "time" else dim for dim in dims]
                for full, spoken in ((name, LONG_NAMES[name]), (f"{name}_se", f"standard error of the {name.replace('_', ' ')}")):
                    found[prefix + full] = (inner, tuple(size[dim] for dim in inner), "<f8", {"long_name": spoken + of})
            found[f"{prefix}seconds"] = ([], (), "<f8", {"long_name": "seconds it took, wall clock"})
            found[f"{prefix}cpu_seconds"] = ([], (), "<f8", {"long_name": "seconds it took, CPU"})
            if self.plan.shared.clock != "time":
                found[f"{prefix}horizon"] = ([], (), "<f8", {"long_name": "time t at the end"})
            found[f"{prefix}status"] = ([], (), f"<U{_width('status')}", {"long_name": "how it ended, in words"})
            found[f"{prefix}status_code"] = (
                [], (), f"<U{_width('status_code')}", {"long_name": "how it ended: " + ", ".join(CODES) + "; empty before it is computed"},
            )  # fmt: skip
        return found

    # --- refusals ---------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        fix = "choose another --out, or delete it"
        try:
            found = json.loads((self.path / ".zattrs").read_text(encoding="utf-8"))
            fingerprint, settings = found["fingerprint"], json.loads(found["settings"])
        except (NotADirectoryError, FileNotFoundError, ValueError, KeyError, TypeError):
            raise InputError(f"`--out` must be free or the store of this sweep, but `{self.path}` is something else ({fix})") from None
        if fingerprint != self.plan.fingerprint:
            changed = _changed(settings, json.loads(json.dumps(self.plan.described, default=str)))
            raise InputError(f"`--out` must be free or of the same sweep, but `{self.path}` holds another one: {changed} ({fix})")

    def _probe(self) -> None:
        """Before any work: that a chunk can be written."""
        for name in self._variables():
            probe = self.path / name / ".probe"
            probe.write_bytes(b"")
            probe.unlink()

    def _clean(self) -> None:
        """Remove what a kill left of chunks on their way."""
        for name in self._variables():
            with os.scandir(self.path / name) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and entry.name not in (".zarray", ".zattrs"):
                        with suppress(OSError):
                            os.unlink(entry.path)


def _width(name: str) -> int:
    return max(map(len, CODES)) if name.endswith("status_code") else LONGEST


def _locked(path: Path) -> IO[bytes] | None:
    """Hold the store: two writers would only do the same work twice, but one would remove what the other is writing."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    handle = open(path / ".zgroup", "rb")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise InputError(
            f"`--out` must not be in use, but another command is filling `{path}` (wait for it, or choose another --out)"
        ) from None
    except OSError:  # a file system without locks
        pass
    return handle


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting that differs, in words."""
    if before.get("plugin") != now.get("plugin"):
        return "the plugin has changed"
    old, new = (dict(_leaves(one)) for one in (before, now))
    for key in {**new, **old}:
        if old.get(key) != new.get(key):
            was, now_is = (_brief(one.get(key, "not given")) for one in (old, new))
            return f"`{key.removeprefix('settings.')}` was {was}, is {now_is}"
    return "its settings differ"


def _leaves(settings: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that is no table, by its dotted name."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _leaves(value, f"{above}.{key}" if above else key)
    elif isinstance(settings, list) and any(isinstance(value, Mapping) for value in settings):
        for i, value in enumerate(settings):
            yield from _leaves(value, f"{above}[{i}]")
    else:
        yield above, settings


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
