"""The linear model's exact curves under their public name; `closed` computes them."""

from __future__ import annotations

from .closed.linear import linear_descent, linear_kernels, linear_model, marchenko_pastur, online_linear, stability_limit
from .closed.linear_spectrum import linear_spectrum

__all__ = ["linear_descent", "linear_kernels", "linear_model", "linear_spectrum", "marchenko_pastur", "online_linear", "stability_limit"]
