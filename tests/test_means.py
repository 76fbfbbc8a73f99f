"""Whether averages over a fresh sample exist: exponents of tails and poles against what is known of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdlimit as sl
from sgdlimit.learning.means import check_finite, moments, why_infinite


def squared(r, y):
    return 0.5 * (r[0] - y) ** 2


def plain(r_star, z):
    return r_star[0] + z


class Pareto:
    """`P(z > x) = x^-df`, whose heavy tail is at the end where uniform numbers are rounded."""

    shape = ()

    def __init__(self, df):
        self.df = df

    def ppf(self, u):
        return (1.0 - np.asarray(u)) ** (-1.0 / self.df)


class Signs:
    shape = ()

    def ppf(self, u):
        return np.where(np.asarray(u) < 0.5, -1.0, 1.0)


def problem(loss=squared, label=plain, noise=None, cov=0.0, k=1):
    return sl.Problem(
        loss=loss,
        label=label,
        noise=sl.Normal() if noise is None else noise,
        sample_ratio=1.5,
        teacher=sl.GaussianTeacher(cov=np.eye(1)),
        init=sl.Init(overlap=np.zeros((k, 1)), cov=cov * np.eye(k)),
    )


def quartic(r, y):
    return (r[0] - y) ** 4


def absolute(r, y):
    return jnp.sqrt(1.0 + (r[0] - y) ** 2)


def exponential(r, y):
    return jnp.exp((r[0] - y) ** 2 / 10)


def of_all(r, y):  # in one direction out of four: E exp(.8 cov g^2)
    return jnp.exp(0.2 * r.sum() ** 2)


LAWS = {
    "t 1.5": (problem(noise=sl.StudentT(1.5)), "the loss"),
    "t 2": (problem(noise=sl.StudentT(2.0)), "the loss"),
    "t 2.05": (problem(noise=sl.StudentT(2.05)), None),
    "t 3": (problem(noise=sl.StudentT(3.0)), None),
    "t 1.5, grows linearly": (problem(absolute, noise=sl.StudentT(1.5)), None),
    "three t 1.9": (problem(label=lambda r_star, z: r_star[0] + z.sum(), noise=sl.StudentT(1.9, (3,))), "the loss"),
    "product of two t 3": (problem(label=lambda r_star, z: z[0] * z[1], noise=sl.StudentT(3.0, (2,))), None),
    "fourth power, t 3.5": (problem(quartic, noise=sl.StudentT(3.5)), "the loss"),
    "fourth power, t 5": (problem(quartic, noise=sl.StudentT(5.0)), "the squared gradient"),
    "fourth power, t 6.5": (problem(quartic, noise=sl.StudentT(6.5)), None),
    "Pareto 1.9": (problem(noise=Pareto(1.9)), "the loss"),
    "Pareto 2.1": (problem(noise=Pareto(2.1)), None),
    "signs": (problem(noise=Signs()), None),
    "exponential of Gumbel": (problem(label=lambda r_star, z: jnp.exp(z), noise=sl.Gumbel()), "the loss"),
    "its square root": (problem(label=lambda r_star, z: jnp.exp(0.45 * z), noise=sl.Gumbel()), None),
    "tangent": (problem(label=lambda r_star, z: jnp.tan(jnp.pi * (z - 0.5)), noise=sl.Uniform()), "the loss"),
    "Gauss, exponent 0.2": (problem(exponential, cov=0.1), None),
    "Gauss, exponent 0.3": (problem(exponential, cov=1.0), "the squared gradient"),
    "Gauss, exponent 0.6": (problem(exponential, cov=4.0), "the loss"),
    "one direction of four, 0.16": (problem(of_all, cov=0.2, k=4), None),
    "one direction of four, 0.8": (problem(of_all, cov=1.0, k=4), "the loss"),
    "pole of the teacher": (problem(label=lambda r_star, z: 1.0 / r_star[0]), "the loss"),
    "pole of the noise": (problem(label=lambda r_star, z: 1.0 / z), "the loss"),
    "root of a pole": (problem(label=lambda r_star, z: jnp.abs(r_star[0]) ** -0.45), None),
    "logarithm": (problem(label=lambda r_star, z: jnp.log(jnp.abs(r_star[0]))), None),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_mean_that_is_infinite_is_told_from_one_that_exists(name):
    case, infinite = LAWS[name]
    words = why_infinite(case, moments(case.slopes), case.self_overlap_start, case.overlap_start)
    assert (words is None) if infinite is None else words.startswith(f"the mean of {infinite}")


def test_what_is_not_finite_on_few_samples_is_named():
    of = lambda **given: check_finite(problem(**given), moments(problem(**given).slopes))
    of(cov=1.0)
    with pytest.raises(sl.InputError, match=r"`label` .* NaN or infinite on \S+ of fresh"):
        of(label=lambda r_star, z: jnp.sqrt(r_star[0] + 3.5))
    with pytest.raises(sl.InputError, match="`loss` must be finite, but the loss is NaN"):
        of(loss=lambda r, y: jax.nn.relu(r[0]) - jnp.log(r[0] + 3.5), cov=1.0)
    with pytest.raises(sl.InputError, match="`loss` must be finite, but the gradient of the loss is NaN"):
        of(loss=lambda r, y: jnp.sqrt(jnp.maximum(r[0] + 3.5, 0.0)), cov=1.0)
