"""The controls of a page. What stands on them is what is chosen: they are read as a whole, and put as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import panel as pn

from .choices import DYNAMICS, REPEATS, Choices, Opened, read_text
from .layout import plain, styled
from .presets import AVERAGES, FEATURES, MOST_UNITS, OPTIMIZERS, PRESETS, RATE, START, TRAINING, Field

BESIDE = "beside it: the same with fixed numbers"
DOWNLOADS = {"settings.toml": "TOML", "curves.zip": "NetCDF", "curves.png": "PNG"}


class Controls:
    """Widgets for every part of `Choices`, the saved results, the button for real runs and the downloads.

    Arguments:
        choices: where they stand at first.
        opened: problems that were opened with the command.
        saved: names of the saved results.
        downloads: where files of this visit are.
        moved: called when a visitor has moved any of them; not while they are put.
        simulate, saved_changed: called for the button, and for the boxes of saved results.
    """

    def __init__(
        self,
        choices: Choices,
        opened: Mapping[str, Opened],
        saved: list[str],
        downloads: str,
        moved: Callable[[], None],
        simulate: Callable[[], None],
        saved_changed: Callable[[], None],
    ):
        self.opened, self.moved, self.css, self.silent = opened, moved, styled(), False
        self.fields: dict[str, Any] = {}
        problems = {preset.title: name for name, preset in PRESETS.items()} | {f"{name} (opened)": name for name in opened}
        self.model = self._watched(pn.widgets.Select(name="Problem", options=problems, value=choices.model, tags=["model"], **self.css))
        names = {title: kind for kind, (title, _) in DYNAMICS.items()}
        self.shown = self._watched(
            pn.widgets.CheckBoxGroup(name="Dynamics", options=names, value=list(choices.shown), tags=["show"], **self.css)
        )
        optimizers = {title: kind for kind, (title, _) in OPTIMIZERS.items()}
        self.optimizer = self._watched(
            pn.widgets.Select(name="Optimizer", options=optimizers, value=choices.optimizer, tags=["optimizer"], **self.css)
        )
        averages = {title: kind for kind, (title, _) in AVERAGES.items()}
        self.average = self._watched(
            pn.widgets.Select(name="Average of the weights", options=averages, value=choices.average, tags=["average"], **self.css)
        )
        self.d = self._watched(pn.widgets.IntSlider(
            name=FEATURES.label, start=int(FEATURES.start), end=int(FEATURES.end), step=int(FEATURES.step), value=choices.d, tags=["d"],
            **self.css,
        ))  # fmt: skip
        self.simulate = pn.widgets.Button(name=f"Simulate {REPEATS} real runs", button_type="primary", tags=["simulate"], **self.css)
        self.simulate.on_click(lambda event: simulate())
        self.saved = pn.widgets.CheckBoxGroup(name="Saved results", options=saved, value=saved, tags=["saved"], **self.css)
        self.saved.param.watch(lambda event: saved_changed(), "value")
        self.parameters, self.training, self.memories, self.averaging, self.start = (pn.Column(**plain()) for _ in range(5))
        self.address = pn.widgets.TextInput(visible=False)
        self.address.jscallback(value="if (source.value) window.history.replaceState({}, '', source.value)")
        self._fill(choices)
        self.view = self._laid_out(saved, downloads)

    def _laid_out(self, saved: list[str], downloads: str) -> Any:
        more = pn.Card(self.start, title="Teacher and start", collapsed=True, header_color="var(--ink)", header_background="transparent",
                       tags=["more"], **{**self.css, "margin": (8, 0)})  # fmt: skip
        group = lambda title: pn.pane.HTML(f"<h2>{title}</h2>", **{**self.css, "margin": (10, 0, 0, 0)})
        link = lambda name, text: f"<a class='button' download href='{downloads}/{name}'>{text}</a>"
        links = "".join(link(name, text) for name, text in DOWNLOADS.items())
        parts = [self.model, self.parameters, self.training, more]
        parts += [group("Dynamics"), self.shown, self.optimizer, self.memories, self.average, self.averaging]
        parts += [group("Saved results"), self.saved] if saved else []
        parts += [group("Real runs"), self.d, self.simulate, group("Download")]
        return pn.Column(*parts, pn.pane.HTML(f"<div class='links'>{links}</div>", **self.css), self.address, **plain())

    # --- what stands on them ---------------------------------------------------------------------------------------------------

    def read(self, before: Choices) -> Choices:
        """What is chosen now. Another problem than `before` begins where visits to it begin.

        Raises:
            InputError: a number or text is out of bounds.
        """
        if self.model.value != before.model:
            return Choices.of(self.model.value, self.opened, before)
        preset, parameters = PRESETS.get(before.model), dict(before.parameters)
        for name in parameters:
            known = preset.texts.get(name) if preset else None
            value = self.fields[name].value
            if preset and name in preset.switches:
                value = bool(value)
            parameters[name] = value if known is None else read_text(name, str(value), known)
        numbers = {name: float(self.fields[name].value) if name in self.fields else value for name, value in before.numbers.items()}
        chosen = replace(
            before, numbers=numbers, parameters=parameters, shown=tuple(kind for kind in DYNAMICS if kind in self.shown.value),
            optimizer=self.optimizer.value, average=self.average.value,
            beside=bool(self.fields["beside"].value) if "beside" in self.fields else before.beside,
            d=int(self.d.value),
        )  # fmt: skip
        chosen.check()
        return chosen

    def put(self, choices: Choices) -> None:
        """Let the controls stand at these choices, without a word to `moved`."""
        self.silent = True
        try:
            self.model.value, self.shown.value, self.d.value = choices.model, list(choices.shown), choices.d
            self.optimizer.value, self.average.value = choices.optimizer, choices.average
            self._fill(choices)
        finally:
            self.silent = False

    def _fill(self, choices: Choices) -> None:
        """The fields of this problem, made anew: one way to make them, whatever stood there before."""
        preset = PRESETS.get(choices.model)
        before, self.fields = self.fields, {}
        try:
            training = [self._field(one, choices.numbers[one.name]) for one in TRAINING]
            memories = [self._field(one, choices.numbers[one.name]) for one in OPTIMIZERS[choices.optimizer][1]]  # those that act
            averaging = [self._field(one, choices.numbers[one.name]) for one in AVERAGES[choices.average][1]]
            start = [self._field(one, choices.numbers[one.name]) for one in START]
            own = [self._field(one, choices.parameters[one.name]) for one in preset.fields] if preset else []
            own += [self._text(name, known, choices.parameters[name]) for name, known in preset.texts.items()] if preset else []
            own += [self._switch(name, label, choices.parameters[name]) for name, label in preset.switches.items()] if preset else []
            if choices.trained:
                own += [self._field(RATE, choices.numbers[RATE.name]), self._switch("beside", BESIDE, choices.beside)]
        except Exception:
            self.fields = before  # those are on the page still
            raise
        self.training.objects, self.start.objects, self.parameters.objects = training, start, own
        self.memories.objects, self.averaging.objects = memories, averaging

    def _watched(self, widget: Any) -> Any:
        widget.param.watch(lambda event: None if self.silent else self.moved(), "value")
        return widget

    def _field(self, one: Field, value: Any) -> Any:
        if one.optional:
            widget: Any = pn.widgets.FloatInput(
                name=one.label, value=value, start=one.least, end=one.most, step=one.step, tags=[one.name], **self.css
            )
        elif one.whole:
            end = int(max(one.end, value))
            widget = pn.widgets.IntSlider(
                name=one.label, start=int(one.start), end=end, step=int(one.step), value=value, tags=[one.name], **self.css
            )
        else:
            widget = pn.widgets.EditableFloatSlider(
                name=one.label, start=min(one.start, value), end=max(one.end, value), step=one.step, value=value,
                fixed_start=one.least, fixed_end=one.most, format="0.[0000]", **self.css,
            )  # fmt: skip
            for part in (widget._slider, widget._value_edit, widget._label):  # the parts of a composite have styles of their own
                part.param.update(stylesheets=self.css["stylesheets"], tags=[one.name])
        self.fields[one.name] = self._watched(widget)
        return widget

    def _switch(self, name: str, label: str, value: bool) -> Any:
        widget = pn.widgets.CheckBoxGroup(name=label, options=[label], value=[label] if value else [], tags=[name], **self.css)
        self.fields[name] = self._watched(widget)
        return widget

    def _text(self, name: str, known: tuple[str, ...], value: Any) -> Any:
        if known:
            widget: Any = pn.widgets.Select(name=name, options=list(known), value=value, tags=[name], **self.css)
        else:
            written = ", ".join(f"{x:g}" for x in value)
            widget = pn.widgets.TextInput(name=f"{name} (up to {MOST_UNITS})", value=written, tags=[name], **self.css)
        self.fields[name] = self._watched(widget)
        return widget
