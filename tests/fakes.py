"""Made-up results with known errors, for tests of what reads them."""

import numpy as np

from sgdlimit.results import Simulation, Solution, Status, build_dataset

TIMES = tuple(np.linspace(0, 4, 21))


def curves(times, k=1, k_star=1, speed=1.0, trained=0):
    times = np.asarray(times, dtype=float)
    grown = 1 - np.exp(-speed * times)
    ab = np.add.outer(np.arange(k), np.arange(k_star))
    aa = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    along = {"trained": grown[:, None] * np.ones(trained)} if trained else {}
    return along | {
        "self_overlap": np.eye(k) + grown[:, None, None] * 0.8**aa,
        "overlap": grown[:, None, None] * 0.7**ab,
        "train_risk": 0.5 - 0.4 * grown,
        "test_risk": 0.5 - 0.3 * grown,
    }


def theory(times=TIMES, k=1, k_star=1, se=0.002, speed=1.0, status=None, dynamics="SGD(step=1.5)", trained=0):
    values = curves(times, k, k_star, speed, trained)
    errors = {name: np.full_like(v, se) for name, v in values.items()}
    return Solution(build_dataset(times, values, errors, attrs={"dynamics": dynamics}), status or Status("done", "done"), {"seconds": 1.0})


def runs(times=TIMES, k=1, k_star=1, sigma=0.01, repeats=8, seed=0, speed=1.0, bias=0.0, n_features=2000, status=None):
    """Independent normal scatter `sigma` per repeat; `bias` is added to every curve. The start is exact."""
    rng = np.random.default_rng(seed)
    means, errors = {}, {}
    for name, value in curves(times, k, k_star, speed).items():
        scatter = sigma * (np.asarray(times) > 0).reshape(-1, *[1] * (value.ndim - 1))
        draws = value + bias + scatter * rng.standard_normal((repeats, *value.shape))
        if name == "self_overlap":
            draws = (draws + np.swapaxes(draws, -1, -2)) / 2
        means[name], errors[name] = draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(repeats)
    attrs = {"dynamics": "SGD(step=1.5)", "n_features": n_features, "repeats": repeats}
    return Simulation(build_dataset(times, means, errors, attrs=attrs), status or Status("done", "done"), {"wall_seconds": 1.0})
