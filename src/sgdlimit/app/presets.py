"""The problems of the page: what their numbers are, where a visit begins, and what is allowed at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import refuse


@dataclass(frozen=True)
class Field:
    """A number: its name in the address and on the page, where its slider ends, and what is allowed at all."""

    name: str
    label: str
    start: float
    end: float
    step: float
    least: float
    most: float
    whole: bool = False
    optional: bool = False  # may be left empty
    parameter: str = ""  # of the model, where it is called otherwise there
    entries: Callable[[float, int], list[float]] | None = None  # where the model takes a list, for so many directions

    def read(self, text: str) -> float | int | None:
        """From an address. Raises InputError with the field's name."""
        if self.optional and text == "":
            return None
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            raise refuse(self.name, "be a whole number" if self.whole else "be a number", text) from None
        return self.check(value)

    def check(self, value: Any) -> float | int | None:
        if value is None and self.optional:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise refuse(self.name, "be a number", value)
        if not self.least <= value <= self.most:
            raise refuse(self.name, f"lie between {self.least:g} and {self.most:g} on this page", value, "a settings file takes any")
        return int(value) if self.whole else float(value)


TRAINING = (
    Field("step", "step η", 0.05, 6.0, 0.05, 1e-3, 50.0),
    Field("ratio", "samples n/d", 0.2, 8.0, 0.1, 0.02, 100.0),
    Field("ridge", "ridge penalty λ", 0.0, 0.5, 0.01, 0.0, 10.0),
    Field("horizon", "horizon t", 0.5, 20.0, 0.5, 0.05, 40.0),
)
MEMORY = Field("memory", "memory of the velocity τ", 0.0, 3.0, 0.05, 0.0, 40.0)
SECOND = Field("second_memory", "memory of the squared gradient", 0.0, 10.0, 0.1, 0.0, 1000.0)
OPTIMIZERS: dict[str, tuple[str, tuple[Field, ...]]] = {
    "plain": ("none: the gradient itself", ()),
    "momentum": ("momentum", (MEMORY,)),
    "adam": ("Adam", (MEMORY, SECOND)),
}
AVERAGE_MEMORY = Field("average_memory", "memory of the average", 0.1, 5.0, 0.1, 1e-3, 40.0)
AVERAGES: dict[str, tuple[str, tuple[Field, ...]]] = {
    "none": ("none: the last weights", ()),
    "tail": ("mean over the last half", ()),
    "exponential": ("exponential", (AVERAGE_MEMORY,)),
}
RATE = Field("rate", "rate of what is trained along", 0.0, 3.0, 0.05, 0.0, 100.0)
START = (
    Field("teacher", "teacher variance", 0.1, 5.0, 0.05, 1e-3, 25.0),
    Field("start", "start variance", 0.0, 3.0, 0.05, 0.0, 25.0),
    Field("overlap", "start along the teacher", -1.0, 1.0, 0.05, -5.0, 5.0),
)
FEATURES = Field("d", "features d", 100, 4000, 100, 50, 4000, whole=True)
NOISE = Field("noise", "label noise σ", 0.0, 2.0, 0.05, 0.0, 10.0)
DF = Field("df", "tails: degrees of freedom (empty: normal)", 1.5, 30.0, 0.5, 1.1, 1000.0, optional=True)


INTERCEPT = Field("teacher_intercept", "teacher's intercept b*", -3.0, 3.0, 0.1, -20.0, 20.0)
TRAINED_INTERCEPT = {"intercept": "intercept trained along"}


def _first(value: float, directions: int) -> list[float]:
    return [value] + [0.0] * (directions - 1)


def _every(value: float, directions: int) -> list[float]:
    return [value] * directions


@dataclass(frozen=True)
class Preset:
    """A named model: what its parameters are, and where a visit begins."""

    title: str
    fields: tuple[Field, ...]
    defaults: Mapping[str, Any]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # parameters that are no number: what they may be (empty: a list)
    begin: Mapping[str, float] = field(default_factory=dict)
    kinks: bool = False
    switches: Mapping[str, str] = field(default_factory=dict)  # parameters that are true or false, and what they are called
    along: int = 0  # numbers trained along for each direction, where all switches are on

    def directions(self, chosen: Mapping[str, Any]) -> int:
        """Of the student, and of the teacher."""
        weights = chosen.get("weights")
        return int(chosen.get("classes", 1)) if weights is None else len(weights)

    def trained(self, chosen: Mapping[str, Any]) -> int:
        """How many numbers are trained along."""
        return self.along * self.directions(chosen) if all(chosen[name] for name in self.switches) else 0

    def parameters(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As the model takes them."""
        found, fields = dict(chosen), {one.name: one for one in self.fields}
        for name, one in fields.items():
            value = found.pop(name)
            found[one.parameter or name] = value if one.entries is None else one.entries(value, self.directions(chosen))
        return found


BEGIN = {"step": 1.0, "ratio": 2.0, "ridge": 0.05, "horizon": 4.0, "teacher": 1.0, "start": 0.5, "overlap": 0.0}
BEGIN |= {"memory": 0.5, "second_memory": 4.0, "rate": 1.0, "average_memory": 1.0}
LOGISTIC = {"step": 3.0, "ratio": 3.0, "ridge": 0.01, "horizon": 10.0, "teacher": 4.0, "start": 0.25}
NETWORK = {"ridge": 0.02, "horizon": 8.0, "teacher": 1.5, "start": 0.6, "overlap": 0.2}
TEMPERATURE = Field("temperature", "temperature of labels", 0.0, 3.0, 0.05, 0.0, 50.0)
SMOOTH = ("tanh", "erf", "sigmoid", "softplus", "gelu", "silu", "relu", "leaky_relu", "abs")

PRESETS: dict[str, Preset] = {
    "tanh_regression": Preset(
        "Saturating unit: (tanh r − y)² / 2",
        (NOISE,),
        {"noise": 0.3},
        begin={"step": 1.5, "ratio": 1.5, "teacher": 2.25, "start": 1.0},
    ),
    "linear_regression": Preset("Linear regression: (r − y)² / 2", (NOISE,), {"noise": 0.5}, begin={"step": 0.5}),
    "logistic": Preset(
        "Logistic regression: log(1 + exp(−y r))",
        (TEMPERATURE, INTERCEPT),
        {"temperature": 1.0, "teacher_intercept": 0.0, "intercept": False},
        begin=LOGISTIC,
        switches=TRAINED_INTERCEPT,
        along=1,
    ),
    "calibrated": Preset(
        "Logistic regression that trains its temperature: log(1 + exp(−y r / T))",
        (TEMPERATURE, Field("student_temperature", "student's temperature T at first", 0.1, 5.0, 0.1, 0.01, 100.0, parameter="start")),
        {"temperature": 1.0, "student_temperature": 2.0},
        begin=LOGISTIC,
        along=1,
    ),
    "probit": Preset(
        "Probit regression: −log Φ(y r)",
        (NOISE, INTERCEPT),
        {"noise": 1.0, "teacher_intercept": 0.0, "intercept": False},
        begin={"teacher": 2.0},
        switches=TRAINED_INTERCEPT,
        along=1,
    ),
    "hinge": Preset(
        "Hinge loss (support vectors): max(0, 1 − y r)",
        (NOISE, INTERCEPT),
        {"noise": 0.5, "teacher_intercept": 0.0, "intercept": False},
        kinks=True,
        switches=TRAINED_INTERCEPT,
        along=1,
    ),
    "huber": Preset(
        "Robust regression: pseudo-Huber loss",
        (NOISE, DF, Field("width", "width of the loss", 0.1, 3.0, 0.05, 0.01, 50.0)),
        {"noise": 0.5, "df": 3.0, "width": 1.0},
    ),
    "quantile": Preset(
        "Quantile regression: smoothed pinball loss",
        (
            Field("level", "level of the quantile", 0.05, 0.95, 0.05, 0.001, 0.999),
            NOISE,
            DF,
            Field("width", "width of the kink", 0.0, 1.0, 0.05, 0.0, 20.0),
        ),
        {"level": 0.5, "noise": 0.5, "df": None, "width": 0.1},
    ),
    "absolute": Preset("Median regression: |r − y|", (NOISE, DF), {"noise": 0.5, "df": None}, kinks=True),
    "phase_retrieval": Preset(
        "Phase retrieval, intensities: (r² − y)² / 4",
        (NOISE,),
        {"noise": 0.1},
        begin={"step": 0.1, "ratio": 4.0, "ridge": 0.0, "horizon": 1.0, "overlap": 0.3},
    ),
    "amplitude_retrieval": Preset(
        "Phase retrieval, amplitudes: (|r| − y)² / 2",
        (NOISE, Field("width", "width of |r| at zero", 0.0, 1.0, 0.05, 0.0, 10.0)),
        {"noise": 0.1, "width": 0.1},
        begin={"step": 0.5, "ratio": 4.0, "ridge": 0.0, "overlap": 0.3},
    ),
    "poisson_regression": Preset(
        "Poisson regression: exp r − y r",
        (Field("most", "largest count", 10, 200, 10, 1, 500, whole=True),),
        {"most": 40},
        begin={"step": 0.2, "teacher": 0.4, "start": 0.1},
    ),
    "committee": Preset(
        "Two-layer committee",
        (NOISE,),
        {"weights": [1.0, -0.5], "noise": 0.2, "activation": "tanh", "trained_head": False},
        texts={"weights": (), "activation": SMOOTH},
        begin=NETWORK,
        switches={"trained_head": "second layer trained along"},
        along=1,
    ),
    "two_layer": Preset(
        "Two-layer network, biases and second layer trained",
        (
            NOISE,
            Field("teacher_bias", "bias of the teacher's units", -2.0, 2.0, 0.1, -10.0, 10.0, parameter="teacher_biases", entries=_every),
        ),
        {"weights": [1.0, -0.5], "noise": 0.2, "activation": "tanh", "teacher_bias": 0.5},
        texts={"weights": (), "activation": SMOOTH},
        begin=NETWORK,
        along=2,
    ),
    "softmax": Preset(
        "Softmax, several classes",
        (
            Field("classes", "classes", 2, 4, 1, 2, 4, whole=True),
            Field("temperature", "temperature of labels", 0.1, 3.0, 0.05, 0.01, 50.0),
            replace(INTERCEPT, label="teacher's intercept b* for the first class", entries=_first),
        ),
        {"classes": 3, "temperature": 1.0, "teacher_intercept": 0.0, "intercept": False},
        begin={"step": 2.0, "teacher": 3.0, "start": 0.2},
        switches={"intercept": "intercepts trained along"},
        along=1,
    ),
}
MOST_UNITS = 3
