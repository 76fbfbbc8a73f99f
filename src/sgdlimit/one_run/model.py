"""The model of the response along a run: when eigenvectors are found, and how long they serve."""

from __future__ import annotations

import numpy as np

from . import response
from .record import Record
from .scales import Fit, fit_scales

GROWTH = 1.2  # eigenvectors are found again when there are so many times as many uses: where they change, so does the estimate a little,
WORSE = 1.3  # or when samples left out exactly scatter so many times as much around them as when they were found,
TOLERATED = 0.02  # and by more than this
GROWTH_ALIKE, TOLERATED_ALIKE = 2.2, 0.04  # the same where what is left of rows beside a few of them differs by its own curvature alone:
ALIKE = 0.1  # the rest, as a deviation of mean eigenvalues, is below this; what changes is followed, then


class Model:
    """What the response's model says of leaving out each sample, scaled to samples left out exactly."""

    def __init__(self, rows: np.ndarray, norms: np.ndarray):
        self.rows, self.norms = rows, norms
        self.basis: response.Basis | None = None
        self.scatter = 0.0  # when it was found
        self.stale = False  # whether there are more uses since
        self.quick = True  # few eigenvectors do, as long as nothing asks for more

    def refine(self) -> bool:
        """Take a closer look: at what has changed since, and then at all eigenvectors from now on; false where that has been done."""
        if self.basis is None or self.basis.spectra is None:
            return False
        self.quick, self.basis = self.stale, None
        return True

    def fitted(self, record: Record, decay: float, gains: np.ndarray | None, who: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, Fit]:
        """Shifts `(2, n, k)` of all samples, and how they are scaled to the exact ones `(q, k)` of some. The eigenvectors of before serve
        until there is much more to know, or the exact ones scatter more around them. `gains (d,)`: of features, where they have some."""
        uses, metric = len(record.uses.sample), record.metric()
        if not uses:
            modelled = np.zeros((2, len(self.rows), record.k))
            return modelled, fit_scales(modelled[:, who], exact, metric)
        growth, tolerated = (GROWTH_ALIKE, TOLERATED_ALIKE) if self._alike() else (GROWTH, TOLERATED)
        if self.basis is not None and uses < growth * self.basis.uses:
            curved = response.curvature(record, self.basis.norms)
            self.basis = response.renewed(self.basis, curved)
            modelled = response.shift(record, self.basis, curved, decay)
            fit = fit_scales(modelled[:, who], exact, metric)
            self.stale = uses > self.basis.uses
            if fit.scatter < max(WORSE * self.scatter, tolerated) or not self.stale:
                return modelled, fit
        try:
            rows, norms = self._features(gains)
            curved = response.curvature(record, norms)
            self.basis = response.find_basis(record, curved, rows, norms, self.quick)
            modelled = response.shift(record, self.basis, curved, decay)
        except np.linalg.LinAlgError:  # not finite
            modelled = np.full((2, len(self.rows), record.k), np.nan)
        fit = fit_scales(modelled[:, who], exact, metric)
        self.scatter, self.stale = fit.scatter, False
        return modelled, fit

    def _alike(self) -> bool:
        spectra = None if self.basis is None else self.basis.spectra
        return spectra is not None and bool(spectra.beyond[0].std() < ALIKE)

    def _features(self, gains: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their squared lengths as the optimiser sees them: with features in units in which their gain is the same."""
        if gains is None:
            return self.rows, self.norms
        rows = self.rows * np.sqrt(gains).astype(np.float32)
        return rows, np.einsum("nd,nd->n", rows, rows).astype(float)
