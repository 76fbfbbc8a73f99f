"""The web server of the explorer: pages, downloads, and who may speak to it."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, refuse
from ..starting import reading, without_dask
from .choices import Opened
from .desk import Desk

if TYPE_CHECKING:
    from .site import Site

MOST_VISITS = 24
CONNECTION = {  # events of the browser's side, and what it does: `page.html`
    "connection_lost": "lost('The connection to the explorer is lost: is it still running? Load the page again.')",
    "client_reconnected": "found()",
}
IDLE = 10_000  # milliseconds after which a page that was left gives back what it had


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
            loaded = load(path)
            results[name] = getattr(loaded, "solution", loaded)  # of what was tuned
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
    from .presets import PRESETS

    number, found = 2, name
    while found in taken or found in PRESETS:
        found, number = f"{name} {number}", number + 1
    return found


def _settings(path: Path) -> Opened:
    from ..settings import config

    job = config.read(path)
    return Opened(path.stem, _tables(job.settings))


def _tables(settings: Any) -> dict[str, Any]:
    """The tables of checked settings, with `step` and `optimizer` where the file has a script's learning rate: sliders know those."""
    from dataclasses import asdict

    raw = settings.model_dump(exclude_none=True)
    for i, spec in enumerate(settings.dynamics):
        if raw["dynamics"][i].get("learning_rate"):
            made, kept = spec.build(), ("kind", "name", "sampling", "temperature", "clip")
            optimizer = {} if made.optimizer is None else {"kind": type(made.optimizer).__name__.lower(), **asdict(made.optimizer)}
            raw["dynamics"][i] = {name: value for name, value in raw["dynamics"][i].items() if name in kept}
            raw["dynamics"][i] |= {"step": made.step} | ({"optimizer": optimizer} if optimizer else {})
    return raw


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
        return Opened(settings.title or path.parent.name or path.stem, _tables(settings))
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
    with reading():
        import panel as pn

        from .faults import catch_all
        from .site import Site

    site = Site(desk, opened, results, sweeps)
    pn.extension(sizing_mode="stretch_width")
    try:
        port = port or _any_port(address)
        allowed = [f"{address}:{port}", f"localhost:{port}", f"127.0.0.1:{port}", *origins]
        server: Any = pn.serve(
            {"/": lambda: _page(site)}, port=port, address=address, websocket_origin=list(dict.fromkeys(allowed)), show=show, start=False,
            verbose=False, title="sgdlimit explorer", extra_patterns=[(r"/download/([\w-]+)/([\w.]+)", _downloads(site))],
            unused_session_lifetime=IDLE, check_unused_sessions=2000,
        )  # fmt: skip
    except OSError as e:
        raise refuse("--port", "be free on this address", port, f"{e.strerror or e}; another --port, or 0 for any") from None
    server.start()
    tell(f"http://{'localhost' if address in ('127.0.0.1', 'localhost') else address}:{port}/")
    end = catch_all(site.fault)
    try:
        server.io_loop.start()
    finally:
        end()
        server.stop()


def _any_port(address: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def _page(site: Site) -> Any:
    """A page for whoever comes; one that cannot be made says so."""
    import panel as pn

    from . import faults
    from .layout import HERE
    from .page import Visit

    made = pn.Template((HERE / "page.html").read_text(encoding="utf-8"))
    query = {name: values[-1].decode("utf-8", "replace") for name, values in (pn.state.session_args or {}).items()}
    visit: Visit | None = None
    words = f"{MOST_VISITS} pages are open already, as many as this server takes. Close one, and load this again."
    if len(site.visits) < MOST_VISITS:
        try:
            visit = Visit(site, query)
        except Exception as e:
            words = faults.words(e)
    if visit is None:
        made.add_panel("controls", pn.Column())
        made.add_panel("results", pn.pane.HTML(f"<p role='alert'>{html.escape(words)}</p>"))
        return made
    from bokeh.models import CustomJS

    pn.state.onload(faults.guarded(visit.arrived, visit.fault))
    left = visit.leave
    pn.state.on_session_destroyed(lambda context: left())
    doc: Any = pn.state.curdoc
    for event, script in CONNECTION.items():
        doc.js_on_event(event, CustomJS(code=script))
    made.add_panel("controls", visit.controls.view)
    made.add_panel("results", visit.views.view)
    return made


def _downloads(site: Site) -> Any:
    from tornado.web import HTTPError, RequestHandler

    from . import faults
    from .downloads import FILES

    class Download(RequestHandler):
        """What a page shows, as a file. The page's secret token is in the address."""

        async def get(self, token: str, name: str) -> None:
            visit = site.visits.get(token)
            if visit is None or name not in FILES:
                raise HTTPError(404, reason="This page is closed; load it again")
            make, kind = FILES[name]
            try:
                # In a thread: pictures take a second, and other visitors' sliders move on.
                body = await asyncio.get_running_loop().run_in_executor(None, make, visit.shown())
            except Exception as e:
                refused = isinstance(e, InputError)
                words = f"{e}." if refused else f"No file could be made: {faults.where(e)}."
                self.set_status(409 if refused else 500)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                self.finish(words)
                visit.soon(visit.turn(visit.views.notice), [words])  # a browser says no more than that a download failed
                return
            self.set_header("Content-Type", kind)
            self.set_header("Content-Disposition", f'attachment; filename="{name}"')
            self.set_header("X-Content-Type-Options", "nosniff")
            self.finish(body)

    return Download
