"""Each claim of the theory as an experiment that can be run again: settings, numbers, figure, and a verdict that could have come out
otherwise.

claims.py      what a claim is: words, settings, checks, verdict; the list of all
statistics.py  fits and thresholds the verdicts rest on
measure.py     solving, simulating and following one problem at many sizes
batch.py, ...  one module per claim: `measure` computes numbers, `judge` and `draw` use nothing but these
folder.py      the directory of a gallery and its pages
settings/      one TOML file per claim
"""

from .claims import CLAIMS, Check, Claim, Verdict, find

__all__ = ["CLAIMS", "Check", "Claim", "Verdict", "find"]
