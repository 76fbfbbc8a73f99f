"""The house, from the ground up: a module imports from floors below its own room's and from its own room, lazily imported ones too.

`tests/test_house.py` reads all imports and holds them against this order; `docs/make_house.py` draws it. A room is a folder or some
modules, with all in it that is no room of its own; rooms of one floor do not know each other. `sgdlimit` are the public names.
"""

FLOORS: tuple[dict[str, str], ...] = (
    {"errors checks files spread starting compiling functions version rooms": "mistakes in words, what users give, whole files"},
    {"schedules": "steps over time, under their public name", "show": "how arrays are drawn: colours, curves, bars, pages"},
    {
        "learning": "what is learnt and how: problem, data, dynamics, time",
        "theory.averages theory.gaussian theory.grids theory.shapes theory.stages": "what samples and weights share",
    },
    {
        "models": "problems by name",
        "results": "what comes back; each draws itself",
        "theory.samples": "how a sample is driven",
        "theory.weights": "the law of a weight",
        "one_run": "test risk from one run",
    },
    {"plot": "figures of several results, under their public name", "theory.march": "the loop"},
    {"theory.accuracy": "plans, replicates, errors, checkpoints"},
    {"theory.laws": "paths drawn from the limit"},
    {"theory.closed": "where equations close: linear model, one pass, discrete time", "simulate": "real runs"},
    {"theory": "solve: check, choose, search, report"},
    {"recommend": "from data to a step, a batch, an epoch", "settings": "TOML tables, one run, its folder"},
    {"sweep": "many problems at once"},
    {"tune": "the best numbers and schedules, derivatives"},
    {"sgdlimit": "the public names"},
    {"app": "the explorer", "gallery": "claims of the papers, checked"},
    {"cli terminal __main__": "the commands"},
)
