"""The test risk of a training from the training itself, without held-out data (OPTIMISERS section 7, docs/one_run.md).

run.py        `OneRun`: beside a loop, or beside `simulate`
record.py     the batches, and what the loss makes of them
model.py      when that is found anew along the run, and how closely
response.py   what leaving a sample out does to its prediction, by the eigenvectors of the curvature
spectra.py    the same of many features, by a few eigenvectors and moments
tangents.py   some samples left out exactly, to correct and to check that
replay.py     their steps, compiled
trust.py      what speaks against an estimate
estimate.py   what comes back
"""

from .estimate import Best, LeftOutRisk
from .run import OneRun

__all__ = ["Best", "LeftOutRisk", "OneRun"]
