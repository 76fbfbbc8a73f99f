"""The limit: kernels and sample paths marched through time, with error control."""

from .solve import solve

__all__ = ["solve"]
