"""What a patch is held against: as many other features, random directions as strong as what the patch writes, and the
embeddings that a picture enters by."""

import torch
from torch import Tensor

from ingest.interventions.case import Case
from ingest.interventions.edits import Edits, Intervention, Vectors
from ingest.interventions.pair import Occurrences, Pair, active_in_either


def random_features(chosen: Occurrences, pool: Occurrences, seed: int) -> Occurrences:
    """As many features of the pool, none of them chosen: in the same layers and at the same positions.

    Where too few are left there, the rest is taken from other positions of the layer, and then from other layers; the
    result is shorter than `chosen` only if the whole pool is. Equal seeds choose alike.
    """
    rest = (~torch.isin(pool.keys, chosen.keys)).nonzero()[:, 0]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
    taken = torch.zeros(len(rest), dtype=torch.bool)
    wanted = len(chosen)
    for coarse in (32, 54, 63):  # by layer and position, by layer, anywhere
        have, need = pool.keys[rest] >> coarse, chosen.keys >> coarse
        open_places, counts = torch.unique(need, return_counts=True)
        for place, count in zip(open_places.tolist(), counts.tolist(), strict=True):
            here = have == place
            missing = min(count - int((here & taken).sum()), wanted - int(taken.sum()))
            taken[(here & ~taken).nonzero()[: max(0, missing), 0]] = True
    return pool[rest[taken].sort().values]


def random_directions(written: Vectors, seed: int) -> Vectors:
    """At every place a random direction with the norm of what is written there. Equal seeds give equal directions."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(written.vectors.shape, generator=generator, dtype=torch.float64).to(written.vectors)
    norms = written.vectors.norm(dim=-1, keepdim=True)
    return Vectors(written.layers, written.positions, drawn / drawn.norm(dim=-1, keepdim=True) * norms)


def written_by(case: Case, copied: Occurrences, current: Tensor) -> Vectors:
    """What copying adds to the run, at each layer written to and position, at the site that the set's decoders
    reconstruct; `current` [n] are the activations that the run itself came to there."""
    bank, device = case.bank, case.model.device
    change = (copied.donated.to(device) - current.to(device)).to(case.model.dtype)
    sums: dict[int, Tensor] = {}
    for source in torch.unique(copied.layers).tolist():
        own = (copied.layers == source).nonzero()[:, 0]
        features, row = torch.unique(copied.indices[own], return_inverse=True)
        places = copied.positions[own].to(device)
        for layer in bank.writes_to(source):
            rows = bank.decoder_rows(source, features, layer).to(change)[row.to(device)]
            total = sums.setdefault(layer, change.new_zeros(case.n_positions, case.model.facts.width))
            total.index_add_(0, places, rows * change[own.to(device), None])
    parts = [(layer, total, total.any(dim=1).nonzero()[:, 0]) for layer, total in sorted(sums.items())]
    if not parts:
        nowhere = torch.zeros(0, dtype=torch.int64)
        return Vectors(nowhere, nowhere, change.new_zeros(0, case.model.facts.width))
    return Vectors(
        torch.cat([torch.full_like(places, layer) for layer, _, places in parts]).cpu(),
        torch.cat([places for *_, places in parts]).cpu(),
        torch.cat([total[places] for _, total, places in parts]),
    )


def embeddings_alone(pair: Pair) -> Intervention:
    """The donor's pictures enter the language model, but features and errors of their positions stay the recipient's.

    What this turns, features of those positions need not carry. Raises TranscoderError in a cross-layer set, when run.
    """
    own, layers = pair.recipient, pair.recipient.bank.n_layers
    soft = torch.tensor([place.index for place in own.inputs.positions if place.modality == "image"], dtype=torch.int64)
    found = active_in_either(pair, positions=soft.tolist())
    errors = torch.cat([layer.error[soft.to(layer.error.device)] for layer in own.encoded.layers])
    donated = pair.donor.run.embeddings[pair.partner[soft].to(own.model.device)]
    return Intervention(
        Edits.of(found.layers, found.indices, found.positions, 0.0, found.before),
        errors=Vectors(torch.arange(layers).repeat_interleave(len(soft)), soft.repeat(layers), errors),
        embeddings=Vectors(torch.zeros_like(soft), soft, donated),
    )
