"""What changed runs came to, beside the run without the change: tokens, text, the answer's logit, features downstream.

The run without the change is made again beside the others, in the same mode; a null intervention is that run. Batches
round otherwise from row to row, so a feature counts as moved only if more than half of its digits say so. Letters used
in shapes: B runs, T positions, F latents of a layer, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.domain.evidence import Mode
from atlas.ids import FeatureId
from ingest.interventions.case import Case
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import Outcome, intervene
from ingest.interventions.generate import generate_changed
from ingest.interventions.record import Answer
from ingest.model.precision import precision_of


@dataclass(frozen=True)
class Token:
    """One token at the answer's position."""

    id: int
    """Vocabulary id."""
    text: str
    """Its text."""
    before: float
    """Its probability without the change."""
    after: float
    """Its probability with the change."""


@dataclass(frozen=True)
class Moved:
    """A feature whose activation became another one."""

    feature: FeatureId
    """The feature."""
    position: int
    """Where."""
    before: float
    """Its activation without the change, by the set's rule: 0 where it does not fire."""
    after: float
    """Its activation with the change."""


@dataclass(frozen=True)
class Report:
    """One changed run beside the run without the change."""

    tokens: tuple[Token, ...]
    """The most probable ones before or after, those most probable before first."""
    answer: Token
    """The most probable token before."""
    runner_up: Token
    """The next one before."""
    answer_after: Token
    """The most probable token after."""
    difference_before: float
    """Logit of the answer minus logit of the runner-up, without the change."""
    difference_after: float
    """The same two tokens, with it."""
    lead_after: float
    """Logit of the answer minus the largest of all others, with the change: below 0 another token leads."""
    logit_before: float | None
    """What the graph explains, its answer's demeaned logit or a difference, without the change; None without a graph,
    and for a target that logits do not give."""
    logit_after: float | None
    """The same with it."""
    moved: tuple[Moved, ...]
    """Features that changed most, the changed ones themselves left out."""
    text_before: str | None
    """What the model writes without the change; None if nothing was to be written."""
    text_after: str | None
    """What it writes with it."""

    @property
    def said_before(self) -> str:
        """What the model said: its text, or its most probable token."""
        return self.answer.text.strip() if self.text_before is None else self.text_before

    @property
    def said_after(self) -> str:
        """What it says with the change."""
        return self.answer_after.text.strip() if self.text_after is None else self.text_after

    @property
    def flipped(self) -> bool:
        """Whether it says something else."""
        return self.said_before != self.said_after

    @property
    def observed(self) -> float | None:
        """Change of what the graph explains."""
        if self.logit_before is None or self.logit_after is None:
            return None
        return self.logit_after - self.logit_before


def measure(
    case: Case,
    interventions: Sequence[Intervention],
    mode: Mode,
    *,
    answer: Answer | None = None,
    top: int = 5,
    moved: int = 10,
    generate: int = 0,
    alike: bool = False,
    batch_size: int | None = None,
) -> list[Report]:
    """A report for every intervention.

    `top` tokens before and after are told, `moved` features, and `generate` tokens are written at most; no text in
    frozen mode, which knows the prompt only, nor where the answer stands before the prompt's end. With `alike` every
    report tells the same tokens: the top ones of any run.
    Raises InputError for a change that is more than numbers can hold.
    """
    runs = [Intervention(), *(item for item in interventions if not item.is_null)]
    outcome = intervene(case, runs, mode, keep_reads=moved > 0, batch_size=batch_size)
    logits = outcome.logits[:, 0].double().cpu()
    texts: list[str] | None = None
    if generate and mode != "frozen" and case.answer_position == case.n_positions - 1:
        texts = generate_changed(case, runs, most=generate, mode=mode)
    features = _moved(case, outcome, runs, moved) if moved else [()] * len(runs)
    values = None if answer is None else answer.value(logits).tolist()
    probabilities = logits.softmax(dim=-1)
    first, second = logits[0].topk(2).indices.tolist()
    rows = iter(range(1, len(runs)))
    places = [0 if item.is_null else next(rows) for item in interventions]
    differences = (logits[:, first] - logits[:, second]).tolist()
    others = logits.clone()
    others[:, first] = -torch.inf
    leads = (logits[:, first] - others.amax(dim=-1)).tolist()

    def token(number: int, row: int) -> Token:
        text = str(case.model.tokenizer.decode([number]))
        return Token(number, text, float(probabilities[0, number]), float(probabilities[row, number]))

    return [
        Report(
            tokens=tuple(token(number, row) for number in _top_of_any(logits if alike else logits[[0, row]], top)),
            answer=token(first, row),
            runner_up=token(second, row),
            answer_after=token(int(logits[row].argmax()), row),
            difference_before=differences[0],
            difference_after=differences[row],
            lead_after=leads[row],
            logit_before=None if values is None else values[0],
            logit_after=None if values is None else values[row],
            moved=features[row],
            text_before=None if texts is None else texts[0],
            text_after=None if texts is None else texts[row],
        )
        for row in places
    ]


def _top_of_any(logits: Tensor, top: int) -> list[int]:
    """Tokens that are among the top ones of any row [n, V], those of the first row in front."""
    best = logits.topk(min(top, logits.shape[1]), dim=-1).indices
    return list(dict.fromkeys(best.flatten().tolist()))


def _moved(case: Case, outcome: Outcome, runs: Sequence[Intervention], most: int) -> list[tuple[Moved, ...]]:
    """Per run the features whose activation differs most from run 0's, the largest difference first."""
    assert outcome.reads is not None
    found: list[list[Moved]] = [[] for _ in runs]
    with torch.no_grad(), precision_of(case.model):
        for layer, reads in enumerate(outcome.reads):
            different = (reads != reads[0]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
            if not different:
                continue
            before = case.bank.activations(layer, reads[0])
            for row in different:
                after = case.bank.activations(layer, reads[row])
                found[row] += _largest(layer, before, after, runs[row].edits, most)
    return [tuple(sorted(rows, key=lambda m: -abs(m.after - m.before))[:most]) for rows in found]


def _largest(layer: int, before: Tensor, after: Tensor, edits: Edits, most: int) -> list[Moved]:
    """Of one layer [T, F] the entries that differ most, those that were changed by hand left out."""
    gap = (after - before).abs()
    gap[gap < torch.finfo(gap.dtype).eps ** 0.5 * torch.maximum(before, after)] = 0
    own = (edits.layers == layer) & (edits.positions >= 0)
    gap[edits.positions[own].to(gap.device), edits.indices[own].to(gap.device)] = 0
    best = gap.flatten().topk(min(most, gap.numel()))
    places = best.indices[best.values > 0]
    rows, columns = places // gap.shape[1], places % gap.shape[1]
    numbers = zip(
        rows.tolist(), columns.tolist(), before[rows, columns].tolist(), after[rows, columns].tolist(), strict=True
    )
    return [Moved(FeatureId(layer, column), row, was, is_now) for row, column, was, is_now in numbers]
