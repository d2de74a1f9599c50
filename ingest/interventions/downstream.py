"""Whether what lies after a patch follows it: the published claim is that everything does, not only the answer.

Counted are features that the patch can reach and did not touch, and that differ between the two clean runs. One has
*moved* if it ends nearer to the donor's activation than to the recipient's; how far all of them came together is their
*progress*: 0 is where the recipient was, 1 where the donor is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.interventions.case import Case
from ingest.interventions.engine import Outcome
from ingest.interventions.pair import Occurrences, Pair
from ingest.model.precision import precision_of

NAN = float("nan")


@dataclass(frozen=True)
class Shift:
    """How features after a patch answered to one run; shares are NaN where there is none."""

    where: str
    """all; answer, the position where it is read; or a layer's number."""
    features: int
    """Occurrences counted."""
    moved: float
    """Share of them that moved."""
    moved_worth: float
    """The same, each counted by the size of its score: by what it could do to the answer."""
    progress: float
    """Sum of (after - recipient) (donor - recipient) over the sum of (donor - recipient)^2."""


def downstream_of(pair: Pair, chosen: Occurrences, pool: Occurrences) -> Tensor:
    """Bool [n], those of the pool that are not chosen and lie in later layers than something chosen, where that
    reaches: at its position or later, or in the same picture."""
    reach = _reach(pair.recipient)
    first = torch.full((pair.recipient.bank.n_layers + 1,), pair.recipient.n_positions)
    first.scatter_reduce_(0, chosen.layers + 1, chosen.positions, "amin")
    earliest = first.cummin(dim=0).values
    return (earliest[pool.layers] <= reach[pool.positions]) & ~torch.isin(pool.keys, chosen.keys)


def activations_after(case: Case, outcome: Outcome, found: Occurrences) -> Tensor:
    """[B, n] float64 activations in changed runs, by the set's own rule; the outcome must have kept its reads."""
    assert outcome.reads is not None, "ask for keep_reads"
    after = torch.zeros(len(outcome.logits), len(found), dtype=torch.float64)
    with torch.no_grad(), precision_of(case.model):
        for layer in torch.unique(found.layers).tolist():
            own = (found.layers == layer).nonzero()[:, 0]
            places, row = torch.unique(found.positions[own], return_inverse=True)
            device = outcome.reads[layer].device
            for number, read in enumerate(outcome.reads[layer]):
                values = case.bank.activations(layer, read[places.to(device)])
                after[number, own] = values[row.to(device), found.indices[own].to(device)].double().cpu()
    return after


def shifts(pair: Pair, found: Occurrences, worth: Tensor, after: Tensor) -> tuple[Shift, ...]:
    """For activations [n] of one run, scores [n] beside them: all features, those at the answer, then by layer."""
    everything = torch.ones(len(found), dtype=torch.bool)
    at_answer = found.positions == pair.recipient.answer_position
    groups = [("all", everything), ("answer", at_answer)]
    groups += [(str(layer), found.layers == layer) for layer in torch.unique(found.layers).tolist()]
    return tuple(_shift(where, found[own], worth[own].abs(), after[own]) for where, own in groups)


def _shift(where: str, found: Occurrences, worth: Tensor, after: Tensor) -> Shift:
    if not len(found):
        return Shift(where, 0, NAN, NAN, NAN)
    moved = ((after - found.donated).abs() < (after - found.before).abs()).double()
    way = found.donated - found.before
    weighted = float(moved @ worth / worth.sum()) if bool(worth.any()) else NAN
    progress = float((after - found.before) @ way / (way @ way))
    return Shift(where, len(found), float(moved.mean()), weighted, progress)


def _reach(case: Case) -> Tensor:
    """[T] int64 the last position that each can read from: its own, or, at a soft token, the end of its picture."""
    seen = torch.stack([(layer.pattern != 0).any(dim=0) for layer in case.run.layers]).any(dim=0).cpu()
    places = torch.arange(case.n_positions)
    return torch.maximum(torch.where(seen, places, 0).amax(dim=1), places)
