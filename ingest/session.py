"""What `atlas ingest` and `atlas import` ask for, and the jobs that answer: load once, then go line by line."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from atlas.artefact.write import write_circuit
from atlas.config import Home
from atlas.domain.example import Example, Line, read_prompts
from atlas.errors import InputError
from atlas.interop import find_graph_files, read_graph
from atlas.interop.noted_view import note_view
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.targets import TargetSpec
from ingest.bookkeeping import Item, Job, JobReport
from ingest.demo.shipped import opened_place
from ingest.follow import following
from ingest.jobs import count_lines, ingest_lines
from ingest.model.model import load_model
from ingest.model.precision import resolve_precision
from ingest.model.threads import choose_threads
from ingest.pipeline import Tracer, TraceSettings
from ingest.progress import bar
from ingest.rollout.attention import RolloutSettings
from ingest.transcoders.bank import load_bank

Settings = TypeVar("Settings", AttributionSettings, RolloutSettings, TargetSpec)

_WORTH_FOLLOWING = 8
"""Prompts from which on a loader goes along: it takes a second or two to start."""


@dataclass(frozen=True)
class Request:
    """One run of `atlas ingest`."""

    prompts: Path | None
    """Prompts file, or None."""
    example: Example | None
    """The one prompt asked about, if there is no file."""
    model: str
    """Folder or repository of the model; `demo` is the shipped one, wherever it lies on the machine that opens it."""
    transcoders: str
    """Folder or repository of the set, or `demo`."""
    device: str
    """Where to compute."""
    precision: str | None
    """fp32, fp64, tf32 or bf16; None is tf32 on a GPU and fp32 on a CPU."""
    seed: int
    """Seed of PyTorch's generators."""
    settings: TraceSettings
    """How to trace."""

    @classmethod
    def from_options(cls, prompts: Path | None, options: dict[str, Any]) -> Self:
        """Read the options of the command line. Raises InputError for options that do not go together."""
        return cls(
            prompts=prompts,
            example=_example(prompts, options),
            model=options["model"],
            transcoders=options["transcoders"],
            device=options["device"],
            precision=options["precision"],
            seed=options["seed"],
            settings=TraceSettings(
                targets=_targets(options),
                attribution=_given(
                    AttributionSettings(),
                    max_features=options["max_nodes"],
                    batch_size=options["batch_size"],
                    node_threshold=options["node_threshold"],
                    edge_threshold=options["edge_threshold"],
                    convention=options["convention"],
                    row_bytes=_bytes(options["row_memory"]),
                ),
                rollout=_given(
                    RolloutSettings(),
                    last_layers=options["rollout_layers"],
                    head_share=options["rollout_heads"],
                    gradient=options["gradient_maps"],
                ),
                raw=options["raw"],
                generate=options["generate"],
                encoder_bytes=_bytes(options["encoder_memory"]),
            ),
        )

    def asked(self) -> "Asked":
        """The lines to trace. Raises InputError if there is none."""
        if self.prompts is not None:
            return Asked(read_prompts(self.prompts), count_lines(self.prompts), str(self.prompts.absolute()))
        assert self.example is not None
        return Asked(iter([Line(0, self.example, None)]), 1, f"--prompt {self.example.prompt[:60]!r}")


@dataclass(frozen=True)
class Asked:
    """What a request asks."""

    lines: Iterator[Line]
    """A line of the prompts file each, or the one prompt as line 0."""
    total: int
    """How many."""
    source: str
    """Name of the file or the prompt, for failures."""


def open_tracer(request: Request) -> Tracer:
    """Load model and transcoders, once for all lines. Raises ModelError, TranscoderError."""
    torch.manual_seed(request.seed)
    model_place = opened_place("model", request.model)
    set_place = opened_place("transcoders", request.transcoders)
    with bar("loading the model"):
        model = load_model(model_place, request.device, resolve_precision(request.precision, request.device))
        choose_threads(model)
        bank = load_bank(set_place, model, resident_bytes=request.settings.encoder_bytes)
        return Tracer(model, bank, request.settings)


def run_ingest(home: Home, request: Request, tracer: Tracer, load: bool = False) -> JobReport:
    """Trace every line of the request; with `load` a loader goes along, but the last load stays the caller's.

    Raises InputError if there is no line.
    """
    asked = request.asked()
    with bar("ingest", asked.total) as watch, beside(home, asked, load):
        return ingest_lines(home, asked.lines, asked.source, tracer, watch)


def beside(home: Home, asked: Asked, load: bool) -> AbstractContextManager[object]:
    """The loader that goes along, if it is wanted and worth its start."""
    return following(home) if load and asked.total >= _WORTH_FOLLOWING else nullcontext()


def run_import(home: Home, paths: tuple[Path, ...]) -> JobReport:
    """Read graph files into artefacts and notes; a file that cannot be read is a failure, not an end."""
    with bar("import") as watch:
        job = Job(home, watch)
        files: list[Path] = []
        for path in paths:
            item = _import_of(path)
            with job.attempt(item):
                files += find_graph_files([path])
                job.succeeded(item)
        watch.expect(len(files))
        for path in files:
            item = _import_of(path)
            watch.start(item.label)
            with job.attempt(item):
                circuit = read_graph(path)
                new = not job.has(circuit.id)
                note_view(home, circuit)
                write_circuit(home, circuit)
                job.done(circuit.id, made=new)
                job.report.remarks += [
                    (circuit.description.slug, said) for said in circuit.provenance.get("remarks", [])
                ]
                job.succeeded(item)
        return job.finished()


def _import_of(path: Path) -> Item:
    return Item("import", str(path.absolute()), path.name)


def _example(prompts: Path | None, options: dict[str, Any]) -> Example | None:
    single = {key: options[key] for key in ("slug", "task", "concept", "expected") if options[key] is not None}
    if prompts is not None:
        if options["prompt"] is not None or options["images"] or single:
            named = (
                "--prompt"
                if options["prompt"] is not None
                else "--image"
                if options["images"]
                else f"--{next(iter(single))}"
            )
            raise InputError(f"{named} beside a prompts file", "one of the two", "Write it into the file's lines")
        return None
    if options["prompt"] is None:
        raise InputError("nothing to ask", "PROMPTS.jsonl, or --prompt TEXT", "See `atlas ingest --help`")
    return Example(options["prompt"], tuple(options["images"]), **single)


def _targets(options: dict[str, Any]) -> TargetSpec:
    position = options["position"]
    if options["strings"] and options["difference"]:
        raise InputError("--target beside --difference", "one of the two")
    named = options["strings"] or options["difference"]
    if named and (options["logit_mass"] is not None or options["max_logits"] is not None):
        raise InputError("--logit-mass or --max-logits beside named targets", "one of the two: they choose top logits")
    if options["strings"]:
        return TargetSpec(kind="strings", strings=tuple(options["strings"]), position=position)
    if options["difference"]:
        return TargetSpec(kind="difference", difference=tuple(options["difference"]), position=position)
    spec = _given(TargetSpec(position=position), mass=options["logit_mass"])
    if options["max_logits"] is not None:
        spec = replace(spec, max_logits=options["max_logits"] or None)
    return spec


def _bytes(gibibytes: float | None) -> int | None:
    return None if gibibytes is None else int(gibibytes * 2**30)


def _given(defaults: Settings, **values: Any) -> Settings:
    """The defaults, with what was given on the command line in their place."""
    return replace(defaults, **{name: value for name, value in values.items() if value is not None})
