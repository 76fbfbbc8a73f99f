"""The explorer: a page on this machine with sliders, on which curves follow.

`serve` runs it. The page (`page`) lives in a web server that never computes; one process of its own (`worker`) does, with warm programs,
and `desk` stands between them. `choices` is what a visitor may choose, with its bounds, its address and its settings file.
"""
