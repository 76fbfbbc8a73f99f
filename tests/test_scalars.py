"""Functions with slopes of their own, against SciPy's values and what JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sgdlimit.models import scalars

X = np.concatenate([np.linspace(-60.0, 36.0, 9601), [scalars.FAR, np.nextafter(scalars.FAR, 0.0), 0.0]])


def hazard(x):
    return np.sqrt(2.0 / np.pi) / special.erfcx(-x / np.sqrt(2.0))


def test_log_normal_cdf_and_its_slopes_hold_from_end_to_end():
    with jax.enable_x64(True):
        value, slope, second = (np.asarray(jax.vmap(f)(X)) for f in derivatives(scalars.log_normal_cdf))
    np.testing.assert_allclose(value, special.log_ndtr(X), rtol=1e-12, atol=2e-16)
    np.testing.assert_allclose(slope, hazard(X), rtol=1e-12, atol=0)
    np.testing.assert_allclose(second, -hazard(X) * (hazard(X) + X), rtol=1e-9, atol=1e-10)  # the sum cancels far below zero


@pytest.mark.parametrize(
    ("ours", "plain"),
    [(scalars.softplus, lambda x: jnp.logaddexp(x, 0.0)), (scalars.erf, jax.scipy.special.erf)],
    ids=["softplus", "erf"],
)
def test_slopes_are_those_of_the_function(ours, plain):
    with jax.enable_x64(True):
        for mine, derived in zip(derivatives(ours), derivatives(plain), strict=True):
            np.testing.assert_allclose(jax.vmap(mine)(X), jax.vmap(derived)(X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("f", [scalars.softplus, scalars.log_normal_cdf, scalars.erf])
def test_single_precision_stays_single_and_finite(f):
    x = jnp.asarray(X, jnp.float32)
    for derivative in derivatives(f):
        found = jax.vmap(derivative)(x)
        assert found.dtype == jnp.float32
        assert np.isfinite(found).all()


def derivatives(f):
    """Value, slope and second derivative."""
    return f, jax.grad(f), jax.grad(jax.grad(f))
