"""The model of the response along a run: when eigenvectors are found, and how long they serve."""

from __future__ import annotations

import numpy as np

from . import response
from .record import Record
from .scales import Fit, fit_scales

GROWTH = 1.2  # eigenvectors are found again when there are so many times as many uses: where they change, so does the estimate a little;
GROWTH_ALIKE = 2.2  # later where what is left of the rows beside few of them differs by its own curvature alone, which is followed
ALIKE = 0.1  # in relative deviations of mean eigenvalues
WORSE = 1.3  # or when samples left out exactly scatter so many times as much around them as when they were found,
TOLERATED = 0.02  # and by more than this


class Model:
    """What the response's model says of leaving out each sample, scaled to samples left out exactly."""

    def __init__(self, rows: np.ndarray, norms: np.ndarray):
        self.rows, self.norms = rows, norms
        self.basis: response.Basis | None = None
        self.scatter = 0.0  # when it was found
        self.quick = True  # few eigenvectors do, as long as nothing asks for more

    def refine(self) -> bool:
        """Find all eigenvectors from now on; false where that has been done."""
        refined = self.basis is not None and self.basis.spectra is not None
        if refined:
            self.quick, self.basis = False, None
        return refined

    def fitted(self, record: Record, decay: float, gains: np.ndarray | None, who: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, Fit]:
        """Shifts `(2, n, k)` of all samples, and how they are scaled to the exact ones `(q, k)` of some. The eigenvectors of before serve
        until there is much more to know, or the exact ones scatter more around them. `gains (d,)`: of features, where they have some."""
        uses, metric = len(record.uses.sample), record.metric()
        if not uses:
            modelled = np.zeros((2, len(self.rows), record.k))
            return modelled, fit_scales(modelled[:, who], exact, metric)
        if self.basis is not None and uses < self._serves() * self.basis.uses:
            curved = response.curvature(record, self.basis.norms)
            self.basis = response.renewed(self.basis, curved)
            modelled = response.shift(record, self.basis, curved, decay)
            fit = fit_scales(modelled[:, who], exact, metric)
            if fit.scatter < max(WORSE * self.scatter, TOLERATED) or uses == self.basis.uses:
                return modelled, fit
        try:
            rows, norms = self._features(gains)
            curved = response.curvature(record, norms)
            self.basis = response.find_basis(record, curved, rows, norms, self.quick)
            modelled = response.shift(record, self.basis, curved, decay)
        except np.linalg.LinAlgError:  # not finite
            modelled = np.full((2, len(self.rows), record.k), np.nan)
        fit = fit_scales(modelled[:, who], exact, metric)
        self.scatter = fit.scatter
        return modelled, fit

    def _serves(self) -> float:
        assert self.basis is not None
        spectra = self.basis.spectra
        return GROWTH_ALIKE if spectra is not None and spectra.beyond[0].std() < ALIKE else GROWTH

    def _features(self, gains: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their squared lengths as the optimiser sees them: with features in units in which their gain is the same."""
        if gains is None:
            return self.rows, self.norms
        rows = self.rows * np.sqrt(gains).astype(np.float32)
        return rows, np.einsum("nd,nd->n", rows, rows).astype(float)
