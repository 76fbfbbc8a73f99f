"""The house, from the ground up: a module imports from floors below its own room's and from its own room, lazily imported ones too.

`tests/test_house.py` reads all imports and holds them against this order; `docs/make_house.py` draws it. A room is a module or a folder
with all in it that is no room of its own; rooms of one floor do not know each other. `sgdlimit` are the public names.
"""

FLOORS: tuple[dict[str, str], ...] = (
    {"errors": "what a mistake is told in", "version": "the version", "files": "files that appear whole", "rooms": "this order"},
    {"checks": "numbers and arrays as users give them"},
    {
        "schedules": "step schedules",
        "show": "how arrays are drawn: colours, curves, bars, heat maps, pages",
        "spread": "errors from replicates",
    },
    {"learning": "what is learnt and how: problem, data, dynamics, time"},
    {"models": "problems with a name", "results": "what comes back and how it is compared; each draws itself"},
    {"plot": "figures of several results"},
    {
        "theory.averages": "between samples and weights",
        "theory.gaussian": "factors",
        "theory.grids": "nodes in time",
        "theory.shapes": "sizes of arrays",
    },
    {
        "theory.samples": "how a training sample is carried",
        "theory.weights": "the law of a weight",
        "theory.optimiser": "what is made of the force",
    },
    {"theory.march": "the loop through time"},
    {"theory.accuracy": "plans, replicates, errors, checkpoints"},
    {"theory.laws": "paths drawn from the limit"},
    {"theory.closed": "where equations close"},
    {"theory": "solve", "simulate": "real runs"},
    {"recommend": "from data to a step, a batch, an epoch", "settings": "TOML tables, one run, its folder"},
    {"sweep": "many problems at once"},
    {"sgdlimit": "the public names"},
    {"app": "the explorer", "gallery": "claims of the papers, checked"},
    {"terminal": "what a command shows while it computes"},
    {"cli": "the commands"},
    {"__main__": "python -m sgdlimit"},
)
