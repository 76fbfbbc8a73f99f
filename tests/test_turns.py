"""The response read backwards from a node is the one that every direction, followed forwards, has there."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sgdlimit.theory.samples import turns
from sgdlimit.theory.samples.turns import ENDS, EVEN, HELD, SPREAD


def _cells(rng, nodes, k, parts, paths):
    """Random turns of all cells, what the next nodes make of the past, and what each cell's directions do."""
    small = lambda *shape: 0.3 * rng.standard_normal(shape)
    layer = SimpleNamespace(gain=small(2, k, k), clock=np.array([0.0, 0.7]), begins=1.0) if parts in (HELD, SPREAD) else None
    cells = []
    for node in range(nodes - 1):
        known = small(nodes, k, k) * (np.arange(nodes) <= node)[:, None, None]
        start, end, arrived = small(3, k, nodes, k) * (np.arange(nodes) <= node + 1)[:, None]
        start[:, node + 1] = 0.0  # that direction begins, or rises, in the cell
        cells.append(SimpleNamespace(response=known, start=start, end=end, arrived=arrived, layer=layer, first=0))
    return cells, small(nodes - 1, parts[0], k, parts[1], k, paths), small(k, k, paths)


def _forwards(cells, each, second, parts):
    """`E[H chi]` of every direction at the end of the last cell, path by path and from cell to cell."""
    k, paths = second.shape[0], second.shape[-1]
    nodes, layer = len(cells) + 1, cells[0].layer
    own = np.eye(k) if layer is None else layer.gain[1]
    found = np.zeros((nodes, k, k))
    for x in range(nodes):
        pushes, memory, held = np.zeros((nodes, k, k, paths)), np.zeros((k, k, paths)), np.zeros((k, k, paths))
        for c, (cell, turn) in enumerate(zip(cells, each, strict=True)):
            later = np.einsum("aij,ajmp->imp", cell.response, pushes)
            ends = cell.start[:, x, :, None] - memory, cell.end[:, x, :, None] - later
            if parts in (EVEN, SPREAD):  # all of a cell's push comes in its middle
                seen = 0.5 * (ends[0] + ends[1])
                if parts == SPREAD:
                    mean = -np.expm1(-0.7) / 0.7
                    seen = seen + np.einsum("ij,jmp->imp", layer.gain.mean(0) * mean, held)
                    held = np.einsum("ijp,jmp->imp", turn[1, :, 0], seen) + np.exp(-0.7) * held
                push = np.einsum("ijp,jmp->imp", turn[0, :, 0], seen)
                early, late = 0.5 * push, 0.5 * push
            else:
                early, late, *left = np.einsum("oixjp,xjmp->oimp", turn, np.stack([*ends, held][: parts[1]]))
                held = left[0] if left else held
            pushes[c] += early
            pushes[c + 1] = late
            memory = later + np.einsum("ij,jmp->imp", cell.response[c], early) + np.einsum("ij,jmp->imp", own, late)
            if layer is not None and c + 1 == x:
                held = held - layer.begins * np.eye(k)[..., None]
        chi = cells[-1].arrived[:, x, :, None] - memory + (np.einsum("ij,jmp->imp", own, held) if layer is not None else 0.0)
        found[x] = np.einsum("ijp,jmp->im", second, chi) / paths
    return found


@pytest.mark.parametrize("parts", [EVEN, ENDS, HELD, SPREAD])
@pytest.mark.parametrize(("nodes", "k", "paths"), [(6, 2, 3), (13, 1, 512), (30, 2, 4), (75, 1, 3)])
def test_backwards_is_forwards(nodes, k, paths, parts):
    # One strip, several strips, several blocks of a product; 512 paths are two chunks.
    rng = np.random.default_rng([7, nodes, *parts])
    cells, each, second = _cells(rng, nodes, k, parts, paths)
    with jax.enable_x64(True):
        past = turns.blank(k, nodes, paths, parts)
        for node, (cell, turn) in enumerate(zip(cells[:-1], each[:-1], strict=True)):
            past = turns.settle(past, turn, cell, node)
        last = np.asarray(nodes - 2)
        h, h_chi = jax.jit(lambda past: turns.slopes(past, each[-1], cells[-1], second, last))(past)
        np.testing.assert_allclose(h, second.mean(-1), atol=1e-12)
        ours = _forwards(cells, each, second, parts)
        np.testing.assert_allclose(h_chi, ours, atol=1e-9 * np.abs(ours).max())


def test_what_is_forgotten_leaves_the_rest():
    # Directions that begin after what is forgotten have no push before it.
    rng, back = np.random.default_rng(8), 9
    cells, each, second = _cells(rng, 30, 1, ENDS, 4)
    for cell in cells:
        cell.response[:back] = 0.0
        for moves in (cell.start, cell.end, cell.arrived):
            moves[:, : back + 1] = 0.0
    whole = _forwards(cells, each, second, ENDS)
    later = lambda cell: SimpleNamespace(
        **vars(cell)
        | {name: getattr(cell, name)[:, back:] for name in ("start", "end", "arrived")}
        | {"response": cell.response[back:], "first": back}
    )
    with jax.enable_x64(True):
        past = turns.blank(1, 30, 4, ENDS)
        for node in range(28):
            past = turns.settle(past, each[node], cells[node], node)
        past = turns.look(past, back, 30 - back)
        _, h_chi = turns.slopes(past, each[-1], later(cells[-1]), second, np.asarray(28 - back))
    np.testing.assert_allclose(h_chi[1:], whole[back + 1 :], atol=1e-12)
