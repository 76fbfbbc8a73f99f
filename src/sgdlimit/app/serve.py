"""The web server of the explorer: pages, downloads, and who may speak to it."""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, refuse
from .choices import Opened, toml
from .desk import Desk
from .worker import reading, without_dask

MOST_VISITS = 24
IDLE = 10_000  # milliseconds after which a page that was left gives back what it had
PNG_DPI = 200


def files(paths: Sequence[Path]) -> tuple[dict[str, Opened], dict[str, Any], dict[str, Path]]:
    """What the command was given: settings files, results with the settings beside them, and stores of sweeps.

    Raises:
        InputError: one is none of these, or cannot be read.
    """
    opened: dict[str, Opened] = {}
    results: dict[str, Any] = {}
    sweeps: dict[str, Path] = {}
    for path in paths:
        if path.suffix == ".toml":
            opened[_free(path.stem, opened)] = _settings(path)
        elif path.suffix == ".nc":
            from ..results import load

            name = _free(path.stem if path.parent.name in ("", ".") else f"{path.parent.name}/{path.stem}", results)
            results[name] = load(path)
            if (found := _beside(path, results[name])) is not None and not any(found.raw == one.raw for one in opened.values()):
                opened[_free(found.name, opened)] = found
        elif path.suffix == ".zarr":
            from ..sweep.reading import read

            read(path)
            sweeps[_free(path.stem, sweeps)] = path
        else:
            raise refuse("RESULT", "be a .nc result, a .toml settings file or the .zarr store of a sweep", str(path))
    return opened, results, sweeps


def _free(name: str, taken: Mapping[str, Any]) -> str:
    from .choices import PRESETS

    number, found = 2, name
    while found in taken or found in PRESETS:
        found, number = f"{name} {number}", number + 1
    return found


def _settings(path: Path) -> Opened:
    from ..settings import config

    job = config.read(path)
    return Opened(path.stem, job.settings.model_dump(exclude_none=True))


def _beside(path: Path, result: Any) -> Opened | None:
    """The settings of a result: in it, where the explorer wrote it, or in the folder of a run. None where a plugin is part of them."""
    import json
    import tomllib

    from ..settings import config

    text, folder = result.dataset.attrs.get("settings"), path.parent / "settings.json"
    try:
        raw = tomllib.loads(text) if isinstance(text, str) else json.loads(folder.read_text(encoding="utf-8"))["settings"]
        settings = config._settings(raw)
        config._problem(settings.problem, None)
        return Opened(settings.title or path.parent.name or path.stem, settings.model_dump(exclude_none=True))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def serve(
    paths: Sequence[Path] = (),
    port: int = 5006,
    address: str = "127.0.0.1",
    origins: Sequence[str] = (),
    show: bool = False,
    tell: Callable[[str], None] = print,
    desk: Desk | None = None,
) -> None:
    """Serve until interrupted.

    Arguments:
        paths: what to open, see `files`.
        port: 0 takes any that is free.
        address: whom to listen to; others than this machine need more than loopback.
        origins: `HOST:PORT` of further pages that may speak to this server.
        show: open a browser.
        tell: called with the page's address when it is there.
    """
    if not 0 <= port < 65536:
        raise refuse("--port", "lie between 0 and 65535", port)
    desk = desk or Desk()  # first of all: it starts while the libraries of the page are read
    try:
        if not any(path.suffix == ".zarr" for path in paths):
            without_dask()
        opened, results, sweeps = files(paths)
        _warm(desk, opened)
        _run(desk, opened, results, sweeps, port, address, origins, show, tell)
    finally:
        desk.close()


def _warm(desk: Desk, opened: Mapping[str, Opened]) -> None:
    """Ask for what a visit begins with before anybody comes, one after the other so that the first is there soonest."""
    from .choices import CHEAPEST, DEFAULT, Choices

    choices = Choices.of(next(iter(opened), DEFAULT), opened)
    kinds = [kind for kind in CHEAPEST if kind in choices.shown and not choices.refusal(kind)]

    def next_one(what: str = "answer", value: Any = None) -> None:
        if what in ("coarse", "answer", "failed") and kinds:
            kind = kinds.pop(0)
            settings = choices.settings(opened, (kind,))
            desk.ask({"kind": "theory", "settings": settings, "key": choices.key(kind, opened)}, next_one)

    next_one()


def _run(desk, opened, results, sweeps, port, address, origins, show, tell) -> None:
    import socket

    with reading():
        import panel as pn
        from tornado.web import HTTPError, RequestHandler

        from .page import HERE, Site, Visit

    site = Site(desk, opened, results, sweeps)
    template = (HERE / "page.html").read_text(encoding="utf-8")
    pn.extension(sizing_mode="stretch_width")

    def page() -> Any:
        made = pn.Template(template)
        query = {name: values[-1].decode("utf-8", "replace") for name, values in (pn.state.session_args or {}).items()}
        if len(site.visits) >= MOST_VISITS:
            words = f"<p>{MOST_VISITS} pages are open already, as many as this server takes. Close one, and load this again.</p>"
            made.add_panel("controls", pn.pane.HTML(words))
            made.add_panel("results", pn.Column())
            return made
        visit = Visit(site, query)
        pn.state.onload(visit.arrived)
        pn.state.on_session_destroyed(lambda context: visit.leave())
        made.add_panel("controls", visit.controls)
        made.add_panel("results", visit.results)
        return made

    class Download(RequestHandler):
        """What a page shows, as a file. The page's secret token is in the address."""

        async def get(self, token: str, name: str) -> None:
            visit = site.visits.get(token)
            if visit is None or name not in FILES:
                raise HTTPError(404, reason="This page is closed; load it again")
            make, kind = FILES[name]
            try:
                # In a thread: pictures take a second, and other visitors' sliders move on.
                body = await asyncio.get_running_loop().run_in_executor(None, make, visit)
            except InputError as e:
                self.set_status(409)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                self.finish(f"{e}.")
                return
            self.set_header("Content-Type", kind)
            self.set_header("Content-Disposition", f'attachment; filename="{name}"')
            self.set_header("X-Content-Type-Options", "nosniff")
            self.finish(body)

    try:
        if port == 0:
            with socket.socket() as probe:
                probe.bind((address, 0))
                port = probe.getsockname()[1]
        allowed = [f"{address}:{port}", f"localhost:{port}", f"127.0.0.1:{port}", *origins]
        server: Any = pn.serve(
            {"/": page}, port=port, address=address, websocket_origin=list(dict.fromkeys(allowed)), show=show, start=False, verbose=False,
            title="sgdlimit explorer", extra_patterns=[(r"/download/([\w-]+)/([\w.]+)", Download)], unused_session_lifetime=IDLE,
            check_unused_sessions=2000,
        )  # fmt: skip
    except OSError as e:
        raise refuse("--port", "be free on this address", port, f"{e.strerror or e}; another --port, or 0 for any") from None
    server.start()
    tell(f"http://{'localhost' if address in ('127.0.0.1', 'localhost') else address}:{port}/")
    try:
        server.io_loop.start()
    finally:
        server.stop()


# --- files -----------------------------------------------------------------------------------------------------------------------


def _toml(visit: Any) -> bytes:
    settings = visit.choices.settings(visit.site.opened)
    head = "# From the explorer.   sgdlimit run settings.toml\n\n"
    return (head + toml(settings)).encode()


def _netcdf(visit: Any) -> bytes:
    """All results shown, named as `sgdlimit run` names them, with the settings in each."""
    settings, buffer = toml(visit.choices.settings(visit.site.opened)), io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for title, pair in _drawn(visit).items():
            for kind, result in zip(("theory", "simulation"), pair, strict=True):
                if result is not None:
                    path = Path(folder) / f"{kind}-{title.lower().replace(' ', '-')}.nc"
                    told = type(result)(result.dataset.assign_attrs(settings=settings), result.status, result.diagnostics)
                    told.save(path)
                    archive.write(path, path.name)
        archive.writestr("settings.toml", settings)
    return buffer.getvalue()


def _png(visit: Any) -> bytes:
    """The curves, or the two-time kernels where these are shown, as for a paper."""
    from .. import plot

    drawn = _drawn(visit)
    if visit.choices.view == "two-times" and visit.law_of.value is not None:
        entry = visit.direction.value if isinstance(visit.direction.value, tuple) else (0, 0)
        figure = plot.two_time(visit.theory[visit.law_of.value].result, entry)
    else:
        figure = plot.curves(drawn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        plot.save(figure, path, PNG_DPI)
        return path.read_bytes()


def _drawn(visit: Any) -> dict[str, Any]:
    drawn = visit.drawn()
    if not drawn:
        raise InputError("`curves` must be there to be saved, but nothing is solved yet (wait for the first curves)")
    return drawn


FILES: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "settings.toml": (_toml, "application/toml; charset=utf-8"),
    "curves.zip": (_netcdf, "application/zip"),
    "curves.png": (_png, "image/png"),
}
