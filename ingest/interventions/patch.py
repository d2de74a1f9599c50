"""Copy features of one run into another, and see whether the answer follows, and what else does.

Which features: those named, or the ones that score best (patch_scores.py) among all that fire in either run. Beside the
patch run its controls (controls.py): as many other features of the same layers copied likewise, at the same positions
as far as enough of them differ there, and random directions as strong as what the patch writes, place by place. The
defaults were chosen on renderings of the demo world that no reported number uses (examples/studies/patching.py).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from atlas.domain.evidence import Mode
from atlas.errors import InputError
from ingest.interventions.controls import random_directions, random_features, written_by
from ingest.interventions.downstream import Shift, activations_after, downstream_of, shifts
from ingest.interventions.edits import Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.measure import Report, measure
from ingest.interventions.pair import Occurrences, Pair, active_in_either, differing
from ingest.interventions.patch_scores import scores
from ingest.interventions.record import Answer

FEATURES = 128
"""How many features are copied unless said."""
CONTROLS = 20
"""How many runs of each control."""
_READ_BYTES = 2**30  # of what encoders read, over the runs of one batch
_NARROWED = 8  # sizes tried at once between two that are known

ControlKind = Literal["features", "directions"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What could be copied: every feature that fires in either run and differs between them."""

    found: Occurrences
    """n occurrences, by layer, position and index."""
    worth: Tensor
    """[n] float64 score: what copying it does to logit(donor's answer) - logit(recipient's), to first order; 0 where
    the two answers are the same token."""

    @classmethod
    def of(cls, pair: Pair) -> "Candidates":
        """One forward and one backward pass of the recipient."""
        found = active_in_either(pair)
        found = found[differing(found)]
        same = pair.wanted == pair.given or not len(found)
        return cls(found, torch.zeros(len(found), dtype=torch.float64) if same else scores(pair, found))

    def best(
        self, count: int, positions: Collection[int] | None = None, layers: Collection[int] | None = None
    ) -> Occurrences:
        """The `count` with the highest scores above 0, the best first; fewer if there are no more."""
        fits = self.worth > 0
        if positions is not None:
            fits &= torch.isin(self.found.positions, torch.tensor(sorted(positions), dtype=torch.int64))
        if layers is not None:
            fits &= torch.isin(self.found.layers, torch.tensor(sorted(layers), dtype=torch.int64))
        ranked = torch.where(fits, self.worth, 0.0).argsort(descending=True, stable=True)
        return self.found[ranked[: min(count, int(fits.sum()))]]

    def worth_of(self, chosen: Occurrences) -> Tensor:
        """[m] float64 scores of occurrences; 0 for those that are no candidates."""
        known = dict(zip(self.found.keys.tolist(), self.worth.tolist(), strict=True))
        return torch.tensor([known.get(key, 0.0) for key in chosen.keys.tolist()], dtype=torch.float64)


@dataclass(frozen=True)
class Control:
    """One run that a patch is held against."""

    kind: ControlKind
    """Other features, or random directions."""
    became: bool
    """Whether its answer is the donor's."""
    lead: float
    """Its logit of the donor's answer minus that of the recipient's."""
    changed: int
    """Features copied, or places written to."""
    shifts: tuple[Shift, ...]
    """What it did to the features after the patch."""


@dataclass(frozen=True, eq=False)
class Patched:
    """One patch with its controls."""

    pair: Pair
    """Donor and recipient."""
    mode: Mode
    """What could follow."""
    chosen: Occurrences
    """What was copied."""
    candidates: int
    """Features there were to choose from."""
    report: Report
    """The recipient before and after."""
    became: bool
    """Whether the answer became the donor's: the most probable token at the answer's position."""
    lead_before: float
    """Logit of the donor's answer minus logit of the recipient's, in the recipient's clean run."""
    lead_after: float
    """The same with the patch."""
    lead_donor: float
    """The same in the donor's run."""
    curve: tuple[tuple[int, float], ...]
    """(features, lead) with the first 1, 2, 4, ... of the features, all of them last."""
    smallest: int | None
    """Fewest of the features, in their order, that were seen to do; found by doubling, then narrowing. None if not even
    all of them do."""
    shifts: tuple[Shift, ...]
    """What it did to the features after it."""
    controls: tuple[Control, ...]
    """The controls, other features first."""

    def control(self, kind: ControlKind) -> list[Control]:
        """The controls of one kind."""
        return [control for control in self.controls if control.kind == kind]


def best(
    pair: Pair,
    candidates: Candidates,
    count: int = FEATURES,
    positions: Collection[int] | None = None,
    layers: Collection[int] | None = None,
) -> Occurrences:
    """The features that score best. Raises InputError if the answers are the same, or nothing scores above 0."""
    if pair.wanted == pair.given:
        text = pair.recipient.model.tokenizer.decode([pair.wanted]).strip()
        raise InputError(
            f"both runs answer with {text!r}: there is no other answer to look for features of",
            "two runs whose answers begin with different tokens",
            "Name the features to copy",
        )
    found = candidates.best(count, positions, layers)
    if not len(found):
        raise InputError(
            "no feature there speaks for the other answer", "a place where the runs differ", "Allow other positions"
        )
    return found


def patch(
    pair: Pair,
    chosen: Occurrences,
    candidates: Candidates,
    mode: Mode = "free",
    *,
    controls: int = CONTROLS,
    seed: int = 0,
    answer: Answer | None = None,
    generate: int = 0,
) -> Patched:
    """Copy the features chosen into the recipient, with `controls` runs of each control beside it."""
    case = pair.recipient
    after = downstream_of(pair, chosen, candidates.found)
    found, worth = candidates.found[after], candidates.worth[after]
    own = _current(pair, chosen, mode)
    others = [random_features(chosen, candidates.found, seed + number) for number in range(controls)]
    written = written_by(case, chosen, own)
    directions = [random_directions(written, seed + number) for number in range(controls)]
    runs = [Intervention(chosen.edits), *(Intervention(other.edits) for other in others)]
    runs += [Intervention(writes=direction) for direction in directions]
    logits, activations = _run(pair, runs, mode, found)
    leads, says = _leads(pair, logits), logits.argmax(dim=-1) == pair.wanted
    told = [shifts(pair, found, worth, row) for row in activations]
    kinds = [kind for kind in CONTROL_KINDS for _ in range(controls)]
    changed = [*map(len, others), *map(len, directions)]
    curve, smallest = _sizes(pair, chosen, mode, (leads[0], bool(says[0])))
    return Patched(
        pair=pair,
        mode=mode,
        chosen=chosen,
        candidates=len(candidates.found),
        report=measure(case, runs[:1], mode, answer=answer, moved=0, generate=generate)[0],
        became=bool(says[0]),
        lead_before=_leads(pair, case.run.logits[case.answer_position][None])[0],
        lead_after=leads[0],
        lead_donor=_leads(pair, pair.donor.run.logits[pair.donor.answer_position][None])[0],
        curve=curve,
        smallest=smallest,
        shifts=told[0],
        controls=tuple(
            Control(kind, bool(says[row]), leads[row], changed[row - 1], told[row])
            for row, kind in enumerate(kinds, start=1)
        ),
    )


def _current(pair: Pair, chosen: Occurrences, mode: Mode) -> Tensor:
    """[n] what the features chosen come to in the patched run before they are replaced: what is written is what they
    lack. In frozen mode that is counted from the clean run."""
    if mode == "frozen":
        return chosen.before
    outcome = intervene(pair.recipient, [Intervention(chosen.edits)], mode, keep_reads=True)
    return activations_after(pair.recipient, outcome, chosen)[0]


def _run(pair: Pair, runs: Sequence[Intervention], mode: Mode, found: Occurrences) -> tuple[Tensor, Tensor]:
    """[B, V] logits at the answer's position and [B, n] activations of the features looked at, in batches that fit."""
    case = pair.recipient
    width = case.n_positions * case.model.facts.width * case.model.facts.n_layers
    size = max(1, _READ_BYTES // (width * case.run.embeddings.element_size()))
    logits, activations = [], []
    for start in range(0, len(runs), size):
        outcome = intervene(case, runs[start : start + size], mode, keep_reads=True)
        logits.append(outcome.logits[:, 0])
        activations.append(activations_after(case, outcome, found))
    return torch.cat(logits), torch.cat(activations)


def _sizes(
    pair: Pair, chosen: Occurrences, mode: Mode, whole: tuple[float, bool]
) -> tuple[tuple[tuple[int, float], ...], int | None]:
    """The curve over sizes, and the smallest size that does."""
    doubled = [2**power for power in range(len(chosen).bit_length()) if 2**power < len(chosen)]
    seen = {len(chosen): whole} | _tried(pair, chosen, mode, doubled)
    curve = tuple((size, lead) for size, (lead, _) in sorted(seen.items()))
    if not whole[1]:
        return curve, None
    does = min(size for size, (_, became) in seen.items() if became)
    fails = max((size for size in seen if size < does), default=0)
    while does - fails > 1:
        step = -(-(does - fails) // (_NARROWED + 1))
        tried = _tried(pair, chosen, mode, list(range(fails + step, does, step)))
        does = min([does, *(size for size, (_, became) in tried.items() if became)])
        fails = max([fails, *(size for size in tried if size < does)])
    return curve, does


def _tried(pair: Pair, chosen: Occurrences, mode: Mode, sizes: Sequence[int]) -> dict[int, tuple[float, bool]]:
    """Size -> (lead, whether the answer is the donor's) with the first so many of the features."""
    if not sizes:
        return {}
    logits = intervene(pair.recipient, [Intervention(chosen[:size].edits) for size in sizes], mode).logits[:, 0]
    says = (logits.argmax(dim=-1) == pair.wanted).tolist()
    return dict(zip(sizes, zip(_leads(pair, logits), says, strict=True), strict=True))


def _leads(pair: Pair, logits: Tensor) -> list[float]:
    """[B] logit of the donor's answer minus that of the recipient's."""
    found: list[float] = (logits[:, pair.wanted] - logits[:, pair.given]).double().tolist()
    return found
