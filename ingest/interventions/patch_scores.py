"""How much each activation, copied from the donor, pushes the recipient's answer towards the donor's.

The score of an occurrence is (donor's activation - recipient's) times the derivative of

    logit(donor's answer) - logit(recipient's answer)

along what the feature writes: attribution patching (Nanda 2023). The derivative is taken half way, where every
activation lies between what it is in the two runs: in the recipient itself it misses what only shows once other copies
are in place. More points of the way, as in integrated gradients (Sundararajan et al., arXiv 1703.01365), chose no
better on the demo world. Points run as one batch of the engine with its own hooks, so that MLPs, norms and attention
are differentiated as they are.
"""

import torch
from torch import Tensor

from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import tiled
from ingest.interventions.hooks import changed
from ingest.interventions.pair import Occurrences, Pair
from ingest.model.precision import precision_of
from ingest.transcoders.records import OutputSite

POINTS = 1
"""Points of the way at which derivatives are taken, in the middles of as many equal parts."""


def scores(pair: Pair, found: Occurrences, points: int = POINTS) -> Tensor:
    """[n] float64 score of each occurrence, in logits. One forward and one backward pass of `points` runs."""
    slopes = _slopes(pair, found, points)
    bank, worth = pair.recipient.bank, torch.zeros(len(found), dtype=torch.float64)
    for source in torch.unique(found.layers).tolist():
        own = (found.layers == source).nonzero()[:, 0]
        features, row = torch.unique(found.indices[own], return_inverse=True)
        for layer in bank.writes_to(source):
            slope = slopes[layer]
            along = slope @ bank.decoder_rows(source, features, layer).to(slope).T
            worth[own] += along[found.positions[own].to(slope.device), row.to(slope.device)].double().cpu()
    return (found.donated - found.before) * worth


def _slopes(pair: Pair, found: Occurrences, points: int) -> list[Tensor]:
    """Per layer [T, d] derivative along what the set's decoders reconstruct, the mean over the points."""
    case, model = pair.recipient, pair.recipient.model
    sites = model.sites
    raw = case.bank.output_site is OutputSite.MLP_RAW or sites.mlp_post_norm is None
    site = sites.mlp if raw else sites.mlp_post_norm
    shape = (points, case.n_positions, model.facts.width)
    leaves = [torch.zeros(shape, dtype=model.dtype, device=model.device, requires_grad=True) for _ in model.layers]
    way = [Intervention(_part_of_the_way(found, (point + 0.5) / points)) for point in range(points)]
    places = torch.tensor([case.answer_position], device=model.device)
    handles = []
    with torch.enable_grad(), precision_of(model), changed(case, way, "free", keep_reads=False):
        try:
            for block, leaf in zip(model.layers, leaves, strict=True):
                module = block.get_submodule(str(site))
                handles.append(module.register_forward_hook(lambda _, __, output, leaf=leaf: output + leaf))
            logits = model.hf(**tiled(case, points), use_cache=False, return_dict=True, logits_to_keep=places).logits
            lead = (logits[:, 0, pair.wanted] - logits[:, 0, pair.given]).mean()
            return [slope.sum(dim=0) for slope in torch.autograd.grad(lead, leaves)]
        finally:
            for handle in handles:
                handle.remove()


def _part_of_the_way(found: Occurrences, share: float) -> Edits:
    values = found.before + share * (found.donated - found.before)
    return Edits.of(found.layers, found.indices, found.positions, 0.0, values)
