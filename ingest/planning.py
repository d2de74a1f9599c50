"""What `atlas plan` asks for, and its answer as text or rows."""

from dataclasses import dataclass, replace
from typing import Any, Self, cast

import click
import torch

from atlas.domain.example import Example, read_prompts
from atlas.errors import InputError
from atlas.options import emit
from ingest.attribution.memory import STEPS
from ingest.attribution.settings import AttributionSettings
from ingest.demo.shipped import opened_place
from ingest.model.images import open_image
from ingest.model.model import Model, Precision
from ingest.model.precision import resolve_precision
from ingest.plan import GIB, Plan, free_bytes, in_gib, make_plan, ways_to_fit
from ingest.rollout.attention import RolloutSettings
from ingest.sizes import Described, SetSizes, describe_model, describe_set, join_sizes


@dataclass(frozen=True)
class Question:
    """One `atlas plan`."""

    model: str
    """Folder or repository of the model."""
    transcoders: str | None
    """Folder of the set; None where its sizes are said."""
    latents: int | None
    """Features of a layer, where they are said."""
    active: int | None
    """Active features per layer and position, where they are said."""
    examples: tuple[Example, ...]
    """Prompts; empty where tokens are said."""
    tokens: int | None
    """Length of the prompt, where it is said."""
    views: int
    """Its pictures then."""
    raw: bool
    """Whether prompts are used as they stand."""
    device: torch.device
    """Where graphs are to be made."""
    precision: Precision
    """fp32, fp64, tf32 or bf16."""
    free: int | None
    """Bytes there are."""
    encoder_bytes: int | None
    """Most that encoders may take, where it is said."""
    settings: AttributionSettings
    """How to attribute."""

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Read the options of the command line. Raises InputError for options that do not go together."""
        what_if = options["memory"]
        device = torch.device("cuda") if what_if else torch.device(options["device"])
        said = options["precision"]
        precision = (said or "tf32") if what_if else resolve_precision(said, device)
        given = {
            "max_features": options["max_nodes"],
            "batch_size": options["batch_size"],
            "convention": options["convention"],
            "row_bytes": None if options["row_memory"] is None else round(options["row_memory"] * GIB),
        }
        room = options["encoder_memory"]
        return cls(
            model=opened_place("model", options["model"]),
            transcoders=opened_place("transcoders", options["transcoders"]),
            latents=options["latents"],
            active=options["active"],
            examples=_examples(options),
            tokens=options["tokens"],
            views=options["views"],
            raw=options["raw"],
            device=device,
            precision=precision,
            free=round(what_if * GIB) if what_if else free_bytes(device),
            encoder_bytes=None if room is None else round(room * GIB),
            settings=replace(AttributionSettings(), **{name: v for name, v in given.items() if v is not None}),
        )


def answer(question: Question, form: str | None) -> int:
    """Print the plan; 0 if the graph fits or nobody knows, 1 if it does not."""
    model = describe_model(question.model)
    positions, views = _longest(question, model)
    sizes = join_sizes(
        model.config,
        model.facts,
        question.precision,
        model.weights[question.precision],
        _set_of(question, model),
        positions,
        views,
        RolloutSettings().on(cast(Model, model)),  # it asks for sizes only
    )
    plan = make_plan(sizes, question.settings, question.device, question.free, question.encoder_bytes)
    emit(_rows(plan, form), form, title=_title(question, plan))
    if form is None:
        for line in _lines(question, plan):
            click.echo(line)
    return 1 if plan.fits is False else 0


def _examples(options: dict[str, Any]) -> tuple[Example, ...]:
    ways = [options["prompts"] is not None, options["prompt"] is not None, options["tokens"] is not None]
    if sum(ways) != 1:
        raise InputError("nothing to plan for" if not any(ways) else "several things to plan for",
                         "one of PROMPTS.jsonl, --prompt TEXT and --tokens N")  # fmt: skip
    if options["images"] and options["prompt"] is None:
        raise InputError("--image without --prompt", "both")
    if options["prompt"] is not None:
        return (Example(options["prompt"], tuple(options["images"])),)
    if options["tokens"] is not None:
        return ()
    return tuple(line.example for line in read_prompts(options["prompts"]) if line.example is not None)


def _set_of(question: Question, model: Described) -> SetSizes:
    if (question.transcoders is None) == (question.latents is None):
        raise InputError("--transcoders and --latents" if question.latents else "no transcoders",
                         "one of --transcoders DIR and --latents N --active K")  # fmt: skip
    if question.transcoders is not None:
        return describe_set(question.transcoders, question.active)
    if question.active is None:
        raise InputError("--latents without --active", "both")
    assert question.latents is not None
    return SetSizes.alike(model.facts.n_layers, model.facts.width, question.latents, question.active)


def _longest(question: Question, model: Described) -> tuple[int, int]:
    """Tokens and views of the longest prompt: the one with most pictures and letters is counted."""
    if question.tokens is not None:
        return question.tokens, question.views
    if not question.examples:
        raise InputError("no prompt that can be read", "a file of JSON lines with prompts")
    soft = (model.facts.soft_side or 0) ** 2
    example = max(question.examples, key=lambda one: len(one.images) * soft * 3 + len(one.prompt))
    return model.counted(example.prompt, [open_image(path) for path in example.images], question.raw)


def _title(question: Question, plan: Plan) -> str:
    return f"Memory of a graph of {plan.sizes.positions} tokens, {question.precision}"


def _rows(plan: Plan, form: str | None) -> list[dict[str, Any]]:
    """One row per part that takes something, in the order of the steps, and the sums at the end."""
    parts = [part for part in plan.estimate.parts if part.nbytes]
    total = {"part": "most at one time", "step": plan.estimate.most_in, "stays": "", "bytes": plan.estimate.most}
    rows = [
        {
            "part": part.name,
            "step": part.step,
            "stays": "always" if part.step == STEPS[0] else "to the end" if part.held else "in its step",
            "bytes": part.nbytes,
            "grows with": part.grows,
        }
        for part in parts
    ]
    rows.append(total | {"grows with": ""})
    if form is None:
        return [{**row, "bytes": in_gib(int(row["bytes"]))} for row in rows]
    return [row | {"free": plan.free, "fits": plan.fits} for row in rows]


def _lines(question: Question, plan: Plan) -> list[str]:
    """What a person wants to know beside the table."""
    found = plan.estimate
    rows = "whole" if found.rows_whole else "truncated to their largest entries"
    tables = "kept" if found.tables_kept else "made anew at every read"
    lines = [f"Rows of edges are {rows}; decoder tables are {tables}; {found.batch} targets go backwards together."]
    if question.device.type == "cuda":
        stay = "stay on the GPU" if plan.resident >= plan.sizes.encoders else "are streamed from their files"
        if 0 < plan.resident < plan.sizes.encoders:
            stay = f"stay on the GPU up to {in_gib(plan.resident)}; the others {stay}"
        lines.append(f"Encoders ({in_gib(plan.sizes.encoders)}) {stay}.")
    if plan.free is None:
        return [*lines, "How much memory there is cannot be said here: try --memory."]
    if plan.fits:
        return [*lines, f"It fits: {in_gib(found.most)} of {in_gib(plan.free)}."]
    lines.append(f"It does not fit: {in_gib(found.most)}, and there are {in_gib(plan.free)}.")
    ways = ways_to_fit(plan, question.precision, question.device)
    lines.append("It would with:" if ways[0].plan.fits else "Even this is too much:")
    return lines + [f"  {way.options}  ({in_gib(way.plan.estimate.most)})" for way in ways]
