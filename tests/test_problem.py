"""Laws have the moments they say, starts are the second moments they say, and a problem is what it was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgdlimit as sl
from sgdlimit.checks import root
from sgdlimit.learning.dynamics import step_at
from sgdlimit.learning.problem import values_at
from sgdlimit.learning.slopes import as_trained

COV = np.array([[1.5, 0.3], [0.3, 1.0]])
ROWS = 40_000


def problem(**changed):
    given = {
        "loss": lambda r, y: 0.5 * (jnp.sum(r) - y) ** 2,
        "label": lambda r_star, z: r_star[0] + z,
        "noise": sl.Normal(),
        "sample_ratio": 2.0,
        "teacher": sl.GaussianTeacher(COV),
        "init": sl.Init(overlap=[[0.2, 0.0], [0.1, 0.3]], cov=0.6 * np.eye(2)),
    }
    return sl.Problem(**{**given, **changed})


@pytest.mark.parametrize(
    "teacher",
    [sl.GaussianTeacher(COV), sl.SparseTeacher(0.2, COV), sl.EmpiricalTeacher(np.random.default_rng(5).laplace(size=(300, 2)))],
    ids=["gaussian", "sparse", "empirical"],
)
def test_cov_is_the_second_moment_of_the_rows(teacher):
    # Law: mean of 40,000 products, seed 1; three entries at 4.5 standard errors each: level about 2e-5.
    rows = teacher.draw(np.random.default_rng(1), ROWS)
    products = rows[:, [0, 0, 1]] * rows[:, [0, 1, 1]]
    error = products.std(axis=0) / np.sqrt(ROWS)
    assert (np.abs(products.mean(axis=0) - teacher.cov[[0, 0, 1], [0, 1, 1]]) < 4.5 * error).all()


def test_a_sparse_teacher_is_as_sparse_as_it_says():
    rows = sl.SparseTeacher(0.2, COV).draw(np.random.default_rng(2), ROWS)
    filled = int((rows != 0).any(axis=1).sum())
    assert stats.binomtest(filled, ROWS, 0.2).pvalue > 1e-5  # seed 2


@pytest.mark.parametrize(
    ("law", "frozen"),
    [(sl.Normal(), stats.norm()), (sl.Uniform(), stats.uniform()), (sl.Gumbel(), stats.gumbel_r()), (sl.StudentT(3), stats.t(3))],
)
def test_noise_laws_are_scipys(law, frozen):
    u = np.linspace(0.001, 0.999, 101)
    np.testing.assert_allclose(law.ppf(u), frozen.ppf(u), rtol=1e-9, atol=1e-12)


def test_starting_moments():
    p = problem()
    m = p.init.overlap
    np.testing.assert_allclose(p.overlap_start, m @ COV)
    np.testing.assert_allclose(p.self_overlap_start, m @ COV @ m.T + 0.6 * np.eye(2))
    assert (p.k, p.k_star, p.ridge) == (2, 2, 0.0)


def test_gradient_is_the_losss():
    r, y = jnp.array([0.3, 0.4]), 0.2
    np.testing.assert_allclose(problem().gradient(r, y), [0.5, 0.5], rtol=1e-6)


def test_noise_draws_have_the_shape_of_one_draw():
    p = problem(noise=sl.Gumbel(shape=(2, 3)), label=lambda r_star, z: r_star[0] + jnp.sum(z))
    assert p.noise_size == 6
    assert p.noise_from_uniform(np.full((5, 6), 0.5)).shape == (5, 2, 3)


def test_the_root_of_a_singular_covariance():
    cov = np.ones((2, 2))
    np.testing.assert_allclose(root(cov) @ root(cov).T, cov, atol=1e-12)


def test_building_a_problem_changes_neither_the_input_nor_jaxs_settings():
    cov = COV.copy()
    before = jax.config.jax_enable_x64
    p = problem(teacher=sl.GaussianTeacher(cov))
    cov[0, 0] = 9.0
    assert p.teacher.cov[0, 0] == 1.5
    assert not p.teacher.cov.flags.writeable
    assert jax.config.jax_enable_x64 == before


def test_learning_rates_and_steps():
    dynamics = sl.SGD.from_learning_rate(0.02, 10, 500, feature_variance=2.0)
    assert dynamics.step == pytest.approx(2.0)
    assert dynamics.learning_rate(10, 500, 2.0) == pytest.approx(0.02)
    np.testing.assert_array_equal(step_at(sl.GradientFlow(), np.arange(3)), 0.0)
    np.testing.assert_allclose(step_at(sl.SME(lambda t: 3 / (1 + t)), np.array([0.0, 2.0])), [3.0, 1.0])


def test_an_update_stands_for_the_gradient():
    """Everywhere a problem is asked: its slopes, the values that witnesses take, kinks; and clipping is one, the same for the same clip."""
    double = lambda r, y: 2.0 * (r - y)
    case = problem(label=lambda r_star, z: r_star[0], update=double)
    r, y = np.ones((4, 2)), np.arange(4.0)
    np.testing.assert_allclose(case.gradient(jnp.ones(2), 3.0), [-4.0, -4.0])
    _, pushed, turned = values_at(case, r, np.stack([y, y], 1), np.zeros((4, *case.noise.shape)))
    np.testing.assert_allclose(pushed, 2.0 * (r - y[:, None]))
    np.testing.assert_allclose(turned, np.broadcast_to(2.0 * np.eye(2), (4, 2, 2)))
    short = as_trained(case, sl.SGD(1.0, clip=0.5))
    np.testing.assert_allclose(short.gradient(jnp.ones(2), 3.0), -0.5 / np.sqrt(2.0) * np.ones(2), rtol=1e-6)
    np.testing.assert_allclose(short.gradient(jnp.ones(2), 1.1), double(jnp.ones(2), 1.1), rtol=1e-6)
    assert as_trained(case, sl.SME(2.0, clip=0.5)).slopes is short.slopes
    assert as_trained(case, sl.SGD(1.0)) is case


def test_public_names_do_not_depend_on_what_was_imported_first():

    assert all(callable(f) for f in (sl.compare, sl.simulate, sl.solve))
    assert set(sl.__all__) <= set(dir(sl))
    with pytest.raises(AttributeError, match="has no attribute 'solv'"):
        sl.solv  # noqa: B018
