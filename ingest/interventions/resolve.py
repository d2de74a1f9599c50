"""From a plan, which is data, to edits of one run: every name is looked up and checked before the model runs."""

from collections.abc import Sequence

import torch

import atlas
from atlas.artefact.notes import read_notes
from atlas.config import Home
from atlas.domain.plan import At, Cells, Change, Plan, Question, Region, Slot, What
from atlas.errors import InputError, NotFoundError
from atlas.ids import FeatureId
from ingest.interventions.align import align
from ingest.interventions.case import Case, Laboratory
from ingest.interventions.edits import GENERATED, Edits
from ingest.model.inputs import Position

Places = list[int]


def resolve(plan: Plan, case: Case, laboratory: Laboratory | None = None) -> Edits:
    """What a plan comes to on one run. Supernodes, questions and runs to copy from are those of the laboratory's atlas.

    Raises InputError for a feature or position that does not exist, and for one that is changed twice; NotFoundError
    for a supernode or graph that is not there; QuestionError for a question that cannot be asked.
    """
    edits = Edits.joined([_resolve(change, case, laboratory) for change in plan.changes])
    _check_once(edits)
    return edits


def features_of(what: What, case: Case, home: Home | None) -> tuple[FeatureId, ...]:
    """The features that are meant, all of them in the case's set; one at least. Raises as `resolve`."""
    if isinstance(what, Question):
        found = _answered(what, _known_home(home))
    elif isinstance(what, str):
        found = _members(what, case, _known_home(home))
    else:
        found = what
    for feature in found:
        _check_feature(feature, case)
    return found


def places_of(at: At, case: Case) -> Places:
    """The positions that are meant, GENERATED among them; one at least. Raises InputError."""
    if isinstance(at, Slot):
        return slot_positions(at.name, case)
    if isinstance(at, Cells):
        return _cells(at, case.inputs.positions)
    if isinstance(at, tuple):
        return [_index(place, case.n_positions) for place in at]
    return _region(at, case)


def slot_positions(name: str, case: Case) -> Places:
    """The positions of a slot's text in the prompt. Raises InputError for one that is not there exactly once."""
    if name not in case.slots:
        known = ", ".join(sorted(case.slots)) or "none"
        raise InputError(
            f"the slot {name!r}; this prompt's slots are: {known}",
            "a slot of the prompt",
            'Give the prompt line "slots": {"' + name + '": TEXT}, and ingest it again',
        )
    pieces = ["".join(place.text.split()) for place in case.inputs.positions[: case.prompt_length]]
    wanted = "".join(case.slots[name].split())
    found = [span for start in range(len(pieces)) if (span := _span(pieces, start, wanted))]
    if len(found) != 1:
        raise InputError(
            f"the text {case.slots[name]!r} of slot {name!r} stands {len(found)} times in the prompt's tokens",
            "whole tokens that stand there once",
        )
    return found[0]


def _resolve(change: Change, case: Case, laboratory: Laboratory | None) -> Edits:
    home = None if laboratory is None else laboratory.home
    features, places = features_of(change.what, case, home), places_of(change.at, case)
    layers = [feature.layer for feature in features for _ in places]
    indices = [feature.index for feature in features for _ in places]
    edits = Edits.of(layers, indices, places * len(features), *_rule(change))
    return edits if change.run is None else _copied(edits, change, case, laboratory)


def _rule(change: Change) -> tuple[float, float]:
    """(factor, offset): the new activation is factor * current + offset."""
    value = change.value or 0.0
    return {"scale": (value, 0.0), "set": (0.0, value), "add": (1.0, value)}.get(change.action, (0.0, 0.0))


def _copied(edits: Edits, change: Change, case: Case, laboratory: Laboratory | None) -> Edits:
    """Edits that set activations to those of another run, at the positions that stand for each other."""
    assert change.run is not None
    if laboratory is None:
        raise InputError(f"a copy from {change.run}", "a plan without copies, where no atlas is at hand")
    donor = laboratory.case(change.run)
    if donor.bank.identity.key != case.bank.identity.key:
        raise InputError(f"run {change.run} is of another transcoder set", "a run of the same set")
    partner = align(donor.inputs.positions, case.inputs.positions)
    if isinstance(change.at, tuple | Slot | Cells) or change.at == "last":
        alone = [place for place in edits.positions.tolist() if partner[place] is None]
        if alone:
            raise InputError(
                f"position {alone[0]} has no counterpart in run {change.run}", "positions that both prompts have"
            )
    if change.at == "generated":
        raise InputError("a copy at generated positions", "positions of the prompt: another run's text is another")
    there = [place != GENERATED and partner[place] is not None for place in edits.positions.tolist()]
    kept = edits[torch.tensor(there)]
    return Edits.of(kept.layers, kept.indices, kept.positions, 0.0, _values(kept, donor, partner))


def _values(edits: Edits, donor: Case, partner: Sequence[int | None]) -> torch.Tensor:
    """[n] the donor's activations of the features edited."""
    places = torch.tensor([partner[place] or 0 for place in edits.positions.tolist()], dtype=torch.int64)
    found = torch.zeros(len(edits), dtype=torch.float64)
    for layer in torch.unique(edits.layers).tolist():
        chosen = edits.layers == layer
        device = donor.model.device
        values = donor.activations(layer, edits.indices[chosen].to(device), places[chosen].to(device))
        found[chosen] = values.double().cpu()
    return found


def _check_once(edits: Edits) -> None:
    keys = torch.stack([edits.layers, edits.indices, edits.positions], dim=1)
    unique, counts = torch.unique(keys, dim=0, return_counts=True)
    if len(unique) < len(keys):
        layer, index, position = unique[counts > 1][0].tolist()
        where = "generated positions" if position == GENERATED else f"position {position}"
        raise InputError(
            f"feature {layer}/{index} is changed twice at {where}", "one change for a feature at a position"
        )


def _check_feature(feature: FeatureId, case: Case) -> None:
    n_layers = case.bank.n_layers
    if feature.layer >= n_layers:
        raise InputError(
            f"feature {feature}; {case.bank.name} has {n_layers} layers", f"a layer from 0 to {n_layers - 1}"
        )
    width = case.bank.widths[feature.layer]
    if feature.index >= width:
        raise InputError(
            f"feature {feature}; layer {feature.layer} of {case.bank.name} has {width} features",
            f"an index from 0 to {width - 1}",
        )


def _known_home(home: Home | None) -> Home:
    if home is None:
        raise InputError("a supernode or question", "a plan that names features, where no atlas is at hand")
    return home


def _members(name: str, case: Case, home: Home) -> tuple[FeatureId, ...]:
    key = case.bank.identity.key
    known = {node.name: node.features for node in read_notes(home).supernodes() if node.transcoders == key}
    if name not in known:
        names = ", ".join(repr(known_name) for known_name in sorted(known)[:8]) or "none"
        raise NotFoundError(
            f"no supernode of this set is named {name!r} and has features; there are: {names}",
            "the name of a supernode",
            "See `atlas supernode list`, or make it with `atlas supernode add`",
        )
    return known[name]


def _answered(question: Question, home: Home) -> tuple[FeatureId, ...]:
    rows = atlas.open(home.root).ask(question.name, **question.parameters)
    if question.column not in rows.column_names:
        raise InputError(
            f"the question {question.name} has no column {question.column!r}",
            f"one of {', '.join(rows.column_names)}",
        )
    texts = [value for value in rows.column(question.column).to_pylist() if value is not None]
    found = tuple(dict.fromkeys(FeatureId.parse(str(text)) for text in texts))
    if not found:
        raise NotFoundError(
            f"the question {question.name} answers with no feature", "a question with an answer here", "Ask it first"
        )
    return found


def _region(at: Region, case: Case) -> Places:
    whole, prompt = list(range(case.n_positions)), list(range(case.prompt_length))
    regions = {
        "all": [*whole, GENERATED],
        "prompt": prompt,
        "last": [case.answer_position],
        "generated": [*whole[case.prompt_length :], GENERATED],
    }
    if at in regions:
        return regions[at]
    found = [place for place in prompt if case.inputs.positions[place].modality == at]
    if not found:
        raise InputError(f"{at} positions of a prompt that has none", "a prompt with pictures, or other positions")
    return found


def _cells(at: Cells, positions: Sequence[Position]) -> Places:
    wanted = {name: value for name, value in vars(at).items() if value is not None}
    found = [
        place.index
        for place in positions
        if place.modality == "image" and all(getattr(place, name) == value for name, value in wanted.items())
    ]
    if not found:
        said = ", ".join(f"{name} {value}" for name, value in wanted.items()) or "any"
        raise InputError(f"cells of a picture ({said}) that this prompt does not have", "cells that are there")
    return found


def _index(place: int, length: int) -> int:
    if not -length <= place < length:
        raise InputError(f"position {place} of a prompt of {length} positions", f"a position from 0 to {length - 1}")
    return place % length


def _span(pieces: Sequence[str], start: int, wanted: str) -> Places:
    """The tokens from `start` on that spell a text, blanks aside; none if they do not."""
    spelt, places = "", Places()
    for place in range(start, len(pieces)):
        spelt, places = spelt + pieces[place], [*places, place]
        if not pieces[start] or not wanted.startswith(spelt):
            return []
        if spelt == wanted:
            return places
    return []
