"""The smallest circuit that keeps a share of an answer, found without looking at more than a few hundred runs.

    1. rank    every component by integrated gradients along the straight line from all gates closed to all open
               (Sundararajan et al. 2017): the scores add up to what there is to keep
    2. cut     the shortest beginning of that ranking that keeps enough, by bisection in batches
    3. prune   take away what is missed least, as long as enough is kept
    4. regrow  add what helps the circuit found most, by the gradient there, and prune again; as long as it shrinks

A ranking made with everything half open does not know what matters once nearly all is closed: step 4 does. Each step
only ever makes the circuit smaller, and what is reported was run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.interventions.faithfulness import Pair, differences

_ABREAST = 24  # circuits tried together
_ADDED = 16  # components that regrowing adds at once
_SINGLY = 256  # members up to which each is tried alone

Progress = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True)
class Search:
    """How a circuit is looked for."""

    keep: float = 0.8
    """Share of the answer that it must keep, above 0 and below 1."""
    steps: int = 10
    """Points between both runs at which gradients are taken."""
    rounds: int = 4
    """Most times that a circuit is grown and pruned again."""


@dataclass(frozen=True, eq=False)
class Found:
    """A circuit."""

    members: Tensor
    """[C] bool: the components that stay live."""
    kept: float
    """What they keep."""
    prefix: int
    """Size of the shortest beginning of the ranking that kept enough, before anything was pruned."""
    curve: list[tuple[int, float]]
    """(size, kept) of beginnings of the ranking, by size."""
    scores: Tensor
    """[C] the ranking: how much of what there is to keep comes from each component."""

    @property
    def size(self) -> int:
        """How many components it has."""
        return int(self.members.sum())


def find(pair: Pair, search: Search, progress: Progress = lambda _: None) -> Found:
    """The smallest circuit found that keeps `search.keep` of the answer."""
    progress("ranking")
    ranked = scores(pair, search.steps)
    order = ranked.argsort(descending=True, stable=True)
    progress("cutting")
    prefix, curve = shortest_prefix(pair, order, search.keep)
    progress("pruning")
    members = prune(pair, _beginning(order, prefix), search.keep)
    for number in range(search.rounds):
        progress(f"regrowing, round {number + 1}")
        regrown = prune(pair, members | _helpful(pair, members), search.keep)
        if int(regrown.sum()) >= int(members.sum()):
            break
        members = regrown
    return Found(members, float(kept_by(pair, members[None])[0]), prefix, curve, ranked)


def scores(pair: Pair, steps: int) -> Tensor:
    """[C] integrated gradients of the difference of logits in the gates, in logits."""
    n = len(pair.components)
    total = torch.zeros(n, dtype=torch.float64, device=pair.case.model.device)
    for step in range(steps):
        total += gradient(pair, torch.full((n,), (step + 0.5) / steps, device=total.device))
    return total / steps


def gradient(pair: Pair, gates: Tensor) -> Tensor:
    """[C] float64 derivative of the difference of logits in each gate, at gates [C]."""
    at = gates[None].to(pair.case.model.dtype).requires_grad_(True)
    return torch.autograd.grad(differences(pair, at).sum(), at)[0][0].double()


def kept_by(pair: Pair, members: Tensor) -> Tensor:
    """[B] what circuits [B, C] bool keep."""
    return pair.kept(differences(pair, members.to(pair.case.model.dtype)))


def shortest_prefix(pair: Pair, order: Tensor, keep: float) -> tuple[int, list[tuple[int, float]]]:
    """The shortest beginning of a ranking that keeps enough, of those tried, and all that were tried.

    What is kept need not rise with the size: of each set of sizes tried, the first that keeps enough is gone into.
    """
    tried: dict[int, float] = {0: 0.0}
    low, high = 0, len(order)
    while high - low > 1 or high not in tried:
        sizes = _between(low, high)
        tried |= zip(sizes, _prefixes(pair, order, sizes).tolist(), strict=True)
        high = next((size for size in sizes if tried[size] >= keep), high)
        low = max(size for size in tried if size < high)
    return high, sorted(tried.items())


def prune(pair: Pair, members: Tensor, keep: float) -> Tensor:
    """The circuit without what it can do without: no single member can go any more.

    What is missed least goes first. Of a large circuit gradients say what that is, until they are wrong; of a small one
    every member is taken away once.
    """
    by_gradient = True
    while True:
        inside = members.nonzero()[:, 0]
        by_gradient &= len(inside) > _SINGLY
        if by_gradient:
            missed = gradient(pair, members.to(pair.case.model.dtype))[inside]
        else:
            each = members.repeat(len(inside), 1)
            each[torch.arange(len(inside), device=inside.device), inside] = False
            missed = -kept_by(pair, each)
        fewer = _without(pair, members, inside[missed.argsort(stable=True)], keep)
        if fewer is None and not by_gradient:
            return members
        by_gradient &= fewer is not None
        members = members if fewer is None else fewer


def _without(pair: Pair, members: Tensor, order: Tensor, keep: float) -> Tensor | None:
    """The circuit without the longest beginning of `order` that it can do without, of those tried; None for none."""
    sizes = [size for size in _between(0, len(order)) if size < len(order)]
    if not sizes:
        return None
    tried = members.repeat(len(sizes), 1)
    for row, size in enumerate(sizes):
        tried[row, order[:size]] = False
    enough = (kept_by(pair, tried) >= keep).nonzero()[:, 0].tolist()
    return tried[enough[-1]] if enough else None


def _helpful(pair: Pair, members: Tensor) -> Tensor:
    """[C] bool: components outside that would add most to the circuit."""
    slope = gradient(pair, members.to(pair.case.model.dtype)).masked_fill(members, -torch.inf)
    best = slope.argsort(descending=True, stable=True)[:_ADDED]
    chosen = torch.zeros_like(members)
    chosen[best[slope[best] > 0]] = True
    return chosen


def _beginning(order: Tensor, size: int) -> Tensor:
    members = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    members[order[:size]] = True
    return members


def _prefixes(pair: Pair, order: Tensor, sizes: Sequence[int]) -> Tensor:
    return kept_by(pair, torch.stack([_beginning(order, size) for size in sizes]))


def _between(low: int, high: int) -> list[int]:
    """Sizes above `low` up to `high`, closer together at the low end; all of them if they are few."""
    width = high - low
    if width <= _ABREAST:
        return list(range(low + 1, high + 1))
    steps = {low + max(1, round(width ** (step / _ABREAST))) for step in range(1, _ABREAST + 1)}
    return sorted(steps | {high})
