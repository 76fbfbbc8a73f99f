"""Real training runs at finite size: what the limit is held against (THEORY section 1).

data.py      one data set, teacher and start; memory
sgd.py, online.py, mini_batch.py, sme.py, flow.py     how each dynamics moves the weights; a new dynamics is one such class in `core.PATHS`
diffusion.py SME and flow whose velocity or gain has a memory
optimisers.py   what an optimiser, noise or optax makes of the force in a step; averaging.py   weights averaged over time
observe.py   overlaps and risks of the weights
core.py      `simulate`: checks, repeats, status
"""

from .core import simulate

__all__ = ["simulate"]
