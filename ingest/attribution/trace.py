"""One graph from one forward pass: the steps of attribution in their order.

1. freeze   patterns, norm scales and MLP outputs stand still; what is left is linear.
2. attribute   rows of edges for the targets and for the features that matter to them.
3. check    every row adds up to its target's pre-activation, or the graph is refused (exact convention).
4. prune    by influence on the targets.
5. collect  tables of nodes, edges and unpruned incoming edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ingest.attribution.features import Progress, attribute, check_closure
from ingest.attribution.frozen import DecoderRows, FoldedWeights, freeze
from ingest.attribution.prune import prune
from ingest.attribution.result import Attribution, collect
from ingest.attribution.settings import AttributionSettings, Precision
from ingest.attribution.targets import Targets
from ingest.model.records import Run
from ingest.transcoders.records import Encoded


@torch.no_grad()
def trace(
    run: Run,
    folded: FoldedWeights,
    bank: DecoderRows,
    encoded: Encoded,
    targets: Targets,
    image_positions: Tensor,
    texts: Sequence[str],
    settings: AttributionSettings,
    precision: Precision = "fp32",
    progress: Progress | None = None,
) -> Attribution:
    """The attribution graph of one run. Raises ClosureError if a row's sum does not close within the precision's limit.

    `folded` is `fold(weights)`, made once per model; `image_positions` [T] bool marks soft tokens; `texts` is the text
    of each position; `precision` is that of the matrix products.
    """
    frozen = freeze(run, folded, bank, encoded, settings.exact)
    rows = attribute(frozen, run.token_ids, bank, targets, settings, progress)
    if settings.exact:
        check_closure(rows, precision)
    pruned = prune(rows, settings)
    return collect(rows, pruned, image_positions, texts, settings.coverage)
