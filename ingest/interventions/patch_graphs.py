"""A patch between two graphs of an atlas: what to copy, as typed; what came of it, as rows; and what is evidence."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from atlas.artefact.read import read_description
from atlas.config import Home
from atlas.domain.evidence import Evidence, Mode
from atlas.domain.plan import At, Change, Plan, parse_at
from atlas.errors import InputError
from atlas.ids import FeatureId
from ingest.interventions.case import Laboratory
from ingest.interventions.downstream import Shift
from ingest.interventions.edits import GENERATED, Edits
from ingest.interventions.pair import Occurrences, Pair, occurrences
from ingest.interventions.patch import CONTROL_KINDS, CONTROLS, FEATURES, Candidates, Control, Patched, best, patch
from ingest.interventions.record import Answer, Done, evidence_of, run_id
from ingest.interventions.resolve import places_of, resolve
from ingest.interventions.statistics import wilson


@dataclass(frozen=True)
class Wish:
    """What is to be copied, as typed."""

    names: tuple[str, ...] = ()
    """Features, layer/index or layer/index@position, and supernodes; none: those that score best."""
    at: str = "prompt"
    """Where, as atlas.domain.plan.parse_at reads it."""
    layers: tuple[int, int] | None = None
    """First and last layer of features that are looked for; None allows all."""
    features: int = FEATURES
    """How many of them."""


@dataclass(frozen=True)
class PatchedGraphs:
    """A patch between two graphs."""

    made: Patched
    """What came of it."""
    donor: str
    """Slug of the donor's graph."""
    recipient: str
    """Slug of the recipient's."""
    plan: Plan
    """What was copied, as a plan that can be run again."""
    run: str
    """Id of the run, as evidence has it."""
    evidence: tuple[Evidence, ...]
    """What of it is evidence."""


def parse_layers(text: str) -> tuple[int, int]:
    """One layer, or two parted by a hyphen. Raises InputError."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
    if first > last:
        raise InputError(f"layers {text!r}", "one layer, or the first and the last, as in 0-3")
    return first, last


def patch_graphs(
    home: Home,
    laboratory: Laboratory,
    donor: str,
    recipient: str,
    wish: Wish,
    mode: Mode = "free",
    *,
    controls: int = CONTROLS,
    seed: int = 0,
    generate: int = 8,
) -> PatchedGraphs:
    """Copy from the run of graph `donor` into that of graph `recipient`. Nothing is written.

    Raises AtlasError, before anything is changed, for graphs that cannot be run again or aligned, and for a wish that
    cannot be fulfilled.
    """
    place = parse_at(wish.at)
    given, changed = (laboratory.ready(name) for name in (donor, recipient))
    named = [_named(name, place, given) for name in wish.names]
    pair = Pair.of(laboratory.case(given), laboratory.case(changed))
    case = pair.recipient
    resolve(Plan(tuple(named)), case, laboratory)  # as a whole: nothing is copied twice
    candidates = Candidates.of(pair)
    plan = Plan(tuple(named)) if named else _plan(_searched(pair, candidates, place, wish), given)
    done = [Done(change, resolve(Plan((change,)), case, laboratory)) for change in plan.changes]
    chosen = _chosen(pair, candidates, Edits.joined([one.edits for one in done]))
    answer = Answer.of(home, case)
    made = patch(pair, chosen, candidates, mode, controls=controls, seed=seed, answer=answer, generate=generate)
    rows = list[Evidence]()
    if answer is not None and made.report.observed is not None:
        said = (made.report.said_before, made.report.said_after)
        rows = evidence_of(case, answer, plan, done, mode, made.report.observed, said)
    return PatchedGraphs(
        made=made,
        donor=read_description(home, given).slug,
        recipient=read_description(home, changed).slug,
        plan=plan,
        run=run_id(changed, plan, done, mode),
        evidence=tuple(rows),
    )


def record(patched: PatchedGraphs) -> dict[str, Any]:
    """The patch as one JSON object."""
    made = patched.made
    decode, pair, chosen = made.pair.recipient.model.tokenizer.decode, made.pair, made.chosen
    return {
        "donor": pair.donor.graph,
        "recipient": pair.recipient.graph,
        "donor_slug": patched.donor,
        "recipient_slug": patched.recipient,
        "mode": made.mode,
        "run": patched.run,
        "features": len(chosen),
        "candidates": made.candidates,
        "donor_answer": decode([pair.wanted]).strip(),
        "answer_before": made.report.answer.text.strip(),
        "answer_after": made.report.answer_after.text.strip(),
        "became_donors": made.became,
        "smallest": made.smallest,
        "lead_before": made.lead_before,
        "lead_after": made.lead_after,
        "lead_donor": made.lead_donor,
        "text_before": made.report.text_before,
        "text_after": made.report.text_after,
        "tokens": [
            {"id": token.id, "token": token.text, "before": token.before, "after": token.after}
            for token in made.report.tokens
        ],
        "controls": control_rows(made),
        "downstream": [_shift(shift) for shift in made.shifts],
        "downstream_controls": [
            {"control": kind} | _shift(shift) for kind in CONTROL_KINDS for shift in mean_shifts(made.control(kind))
        ],
        "curve": [{"features": size, "lead": lead} for size, lead in made.curve],
        "copied": [
            {"feature": f"{layer}/{index}", "position": position, "before": before, "donor": donated}
            for layer, index, position, before, donated in zip(
                *(c.tolist() for c in vars(chosen).values()), strict=True
            )
        ],
        "plan": patched.plan.to_json(),
        "evidence_rows": len(patched.evidence),
    }


def control_rows(made: Patched) -> list[dict[str, Any]]:
    """A row for each control: how often the answer became the donor's, with a 95 % interval."""
    rows = []
    for kind in CONTROL_KINDS:
        found = made.control(kind)
        if found:
            times = sum(control.became for control in found)
            low, high = wilson(times, len(found))
            row = {"control": kind, "runs": len(found), "became_donors": times, "low": low, "high": high}
            lead = sum(control.lead for control in found) / len(found)
            rows.append(row | {"lead": lead, "changed": min(control.changed for control in found)})
    return rows


def mean_shifts(controls: Sequence[Control]) -> list[Shift]:
    """What controls of one kind did to the features after the patch, on average."""
    groups = zip(*(control.shifts for control in controls), strict=True)
    return [
        Shift(
            group[0].where,
            group[0].features,
            *(
                sum(getattr(shift, name) for shift in group) / len(group)
                for name in ("moved", "moved_worth", "progress")
            ),
        )
        for group in groups
    ]


def _searched(pair: Pair, candidates: Candidates, at: At, wish: Wish) -> Occurrences:
    positions = [place for place in places_of(at, pair.recipient) if place != GENERATED]
    last = pair.recipient.bank.n_layers - 1
    if wish.layers is not None and wish.layers[1] > last:
        raise InputError(f"layer {wish.layers[1]}", f"a layer from 0 to {last}")
    layers = None if wish.layers is None else range(wish.layers[0], wish.layers[1] + 1)
    return best(pair, candidates, wish.features, positions, layers)


def _plan(chosen: Occurrences, run: str) -> Plan:
    """One change for each position."""
    at: dict[int, list[FeatureId]] = defaultdict(list)
    columns = (chosen.layers.tolist(), chosen.indices.tolist(), chosen.positions.tolist())
    for layer, index, position in zip(*columns, strict=True):
        at[position].append(FeatureId(layer, index))
    return Plan(tuple(Change(tuple(at[place]), (place,), "copy", run=run) for place in sorted(at)))


def _named(name: str, at: At, run: str) -> Change:
    feature, said, own = name.removeprefix("feature:").partition("@")
    if re.fullmatch(r"\d+/\d+", feature):
        return Change((FeatureId.parse(feature),), parse_at(own) if said else at, "copy", run=run)
    return Change(name.strip(), at, "copy", run=run)


def _chosen(pair: Pair, candidates: Candidates, edits: Edits) -> Occurrences:
    """What edits copy, where the two runs differ: the best scores first. Raises InputError if they differ nowhere."""
    found = occurrences(pair, edits.layers, edits.indices, edits.positions)
    found = found[found.donated != found.before]
    if not len(found):
        raise InputError(
            "the features named are the same in both runs there: copying them changes nothing",
            "features that fire in one of the runs",
            "`atlas compare A B` shows what only one of them has",
        )
    return found[torch.argsort(candidates.worth_of(found), descending=True, stable=True)]


def _shift(shift: Shift) -> dict[str, Any]:
    return {
        "where": shift.where,
        "features": shift.features,
        "moved": shift.moved,
        "moved_worth": shift.moved_worth,
        "progress": shift.progress,
    }
