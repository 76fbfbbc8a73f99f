"""A model of one's own for `own_loss.toml`: one function whose arguments are the file's `parameters`.

A model for more directions also returns "k" and "k_star".
"""

import jax
import jax.numpy as jnp

import sgdlimit as sl


def softplus_regression(noise: float = 0.2):
    """A softplus unit: robust loss `log cosh(softplus(r) - y)`, label `softplus(r*) + noise z`, `z` Student t."""

    def loss(r, y):
        u = jax.nn.softplus(r[0]) - y
        return jnp.logaddexp(u, -u) - jnp.log(2.0)

    def label(r_star, z):
        return jax.nn.softplus(r_star[0]) + noise * z

    return {"loss": loss, "label": label, "noise": sl.StudentT(df=3)}
