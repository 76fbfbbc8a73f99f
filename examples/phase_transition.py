"""A saturating phase retrieval: the sign of the teacher's direction cannot be told, and a gradient that dies out for large arguments keeps
training stable at a large step."""

import jax.numpy as jnp

import sgdlimit as sl


def loss(r, y):
    return 0.5 * (jnp.tanh(0.5 * r[0] ** 2) - y) ** 2


def label(r_star, z):
    return jnp.tanh(0.5 * r_star[0] ** 2) + 0.1 * z


def saturating_phase():
    return loss, label, sl.Normal()
