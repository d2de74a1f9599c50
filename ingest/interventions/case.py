"""A prompt with its clean run, ready to be changed; and the graphs of an atlas, run again.

`Laboratory` opens a graph's model and transcoders once, makes its inputs anew from what the artefact says of them, and
refuses if they are not the graph's: another tokenizer, a picture that is gone or was changed, other weights.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from atlas.artefact.names import find_graph
from atlas.artefact.read import Manifest, read_description, read_manifest
from atlas.config import Home
from atlas.errors import InputError, ModelError
from atlas.ids import bytes_hash
from ingest.demo.facts import MODEL_NAME, TRANSCODERS_NAME
from ingest.demo.shipped import DEMO, opened_place
from ingest.model.capture import run
from ingest.model.generation import append_tokens
from ingest.model.images import open_image
from ingest.model.inputs import Inputs, prepare
from ingest.model.model import Model, load_model
from ingest.model.precision import precision_of, resolve_precision
from ingest.model.records import Run
from ingest.model.threads import choose_threads
from ingest.transcoders.bank import Bank, load_bank
from ingest.transcoders.records import Encoded

_KEPT = 4  # runs at most; a patch needs two
_SHIPPED = {"model": MODEL_NAME, "transcoders": TRANSCODERS_NAME}


@dataclass(frozen=True, eq=False)
class Case:
    """One prompt with its clean run."""

    model: Model
    """The model."""
    bank: Bank
    """Its transcoders."""
    inputs: Inputs
    """What was run."""
    run: Run
    """The clean run: T positions."""
    encoded: Encoded
    """What the transcoders say of it."""
    prompt_length: int
    """Positions of the prompt; what follows was generated or appended before the trace."""
    answer_position: int
    """Where the answer is read: the graph's target position, else the last."""
    graph: str | None = None
    """Id of the graph it is the run of."""
    own_precision: bool = True
    """Whether numbers round as in the graph: only then does what is seen say something of its edges."""
    slots: dict[str, str] = field(default_factory=dict)
    """Named pieces of the prompt's text, from the prompt line."""

    @property
    def n_positions(self) -> int:
        """T."""
        return len(self.inputs.positions)

    def activations(self, layer: int, indices: Tensor, positions: Tensor) -> Tensor:
        """[n] clean activations of a layer's features, 0 where they do not fire."""
        keys, values = self._lookup(layer)
        found = values.new_zeros(len(indices))
        if not len(keys):
            return found
        wanted = (positions << 32 | indices).to(keys.device)
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[place] == wanted, values[place], found)

    def _lookup(self, layer: int) -> tuple[Tensor, Tensor]:
        active = self.encoded.layers[layer].active
        return active.positions << 32 | active.indices, active.values  # sorted by (position, index)


def make_case(
    model: Model,
    bank: Bank,
    inputs: Inputs,
    *,
    prompt_length: int | None = None,
    answer_position: int | None = None,
    graph: str | None = None,
    own_precision: bool = True,
    slots: dict[str, str] | None = None,
) -> Case:
    """Run the model once on a prompt and encode it."""
    with torch.no_grad(), precision_of(model):
        record = run(model, inputs)
        encoded = bank.encode(record)
    length = len(inputs.positions)
    return Case(
        model=model,
        bank=bank,
        inputs=inputs,
        run=record,
        encoded=encoded,
        prompt_length=length if prompt_length is None else prompt_length,
        answer_position=length - 1 if answer_position is None else answer_position,
        graph=graph,
        own_precision=own_precision,
        slots=slots or {},
    )


class Laboratory:
    """Where the graphs of an atlas are run again: each model is opened once, and the last few runs are kept."""

    def __init__(
        self,
        home: Home,
        *,
        model: str | None = None,
        transcoders: str | None = None,
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        """`model` and `transcoders` are where the graphs' own lie now, if not where they were; `precision` follows the
        graph unless said."""
        self.home = home
        self._model, self._transcoders = model, transcoders
        self._device, self._precision = device, precision
        self._opened: dict[tuple[str, str, str], tuple[Model, Bank]] = {}
        self._cases: OrderedDict[str, Case] = OrderedDict()

    def ready(self, graph: str) -> str:
        """The id of a graph that can be run again, as far as that can be told without its model. Raises as `case`."""
        found = find_graph(self.home, graph)
        manifest = read_manifest(self.home, found)
        _check_traced(found, manifest)
        _pictures(found, manifest)
        return found

    def case(self, graph: str) -> Case:
        """The run of a graph, by id, beginning of one, or slug. Raises NotFoundError for a graph that is not there,
        InputError if it cannot be run again, ModelError or TranscoderError if model or set are not its own."""
        found = find_graph(self.home, graph)
        if found not in self._cases:
            self._cases[found] = self._make(found)
            while len(self._cases) > _KEPT:
                self._cases.popitem(last=False)
        self._cases.move_to_end(found)
        return self._cases[found]

    def _make(self, graph: str) -> Case:
        manifest = read_manifest(self.home, graph)
        _check_traced(graph, manifest)
        description = read_description(self.home, graph)
        pictures = _pictures(graph, manifest)
        model, bank = self._open(graph, manifest)
        images = [open_image(path) for path in pictures]
        wanted, length = manifest.identity["token_ids"], manifest.identity["prompt_length"]
        inputs = _inputs(model, description.prompt, images, wanted, length)
        if inputs is None:
            raise InputError(
                f"graph {graph[:12]}: its prompt gives other tokens than it did when it was traced",
                "the tokens of the graph",
                "Trace the prompt again with this version",
            )
        slots = (description.extra or {}).get("slots") or {}
        position = int(manifest.identity["targets"].get("position", len(wanted) - 1))
        return make_case(
            model,
            bank,
            inputs,
            prompt_length=length,
            answer_position=position,
            graph=graph,
            own_precision=model.precision == _nearest(manifest.identity["precision"], self._device),
            slots=_checked_slots(graph, slots),
        )

    def _open(self, graph: str, manifest: Manifest) -> tuple[Model, Bank]:
        identity = manifest.identity
        places = {
            "model": self._model or _place("model", manifest),
            "transcoders": self._transcoders or _place("transcoders", manifest),
        }
        precision = resolve_precision(self._precision or _nearest(identity["precision"], self._device), self._device)
        key = (places["model"], places["transcoders"], precision)
        if key not in self._opened:
            model = load_model(opened_place("model", key[0]), self._device, precision, _revision(identity["model"]))
            choose_threads(model)
            self._opened[key] = model, load_bank(opened_place("transcoders", key[1]), model)
        model, bank = self._opened[key]
        for what, now, then in (
            ("model", model.identity.key, identity["model"]),
            ("transcoder set", bank.identity.key, identity["transcoders"]),
        ):
            if now != then:
                raise ModelError(
                    f"graph {graph[:12]} was made with {what} {then}, and what was opened is {now}",
                    f"the graph's own {what}",
                    "Say where it is with --model and --transcoders",
                )
        return model, bank


def _check_traced(graph: str, manifest: Manifest) -> None:
    if manifest.source != "trace":
        raise InputError(
            f"graph {graph[:12]} was imported ({manifest.source}): its model run is not known",
            "a graph made by `atlas ingest`",
            "Trace its prompt here",
        )


def _place(what: Literal["model", "transcoders"], manifest: Manifest) -> str:
    """Where a graph's model or set was opened from, if it is still there; the shipped one wherever it is now."""
    name, place = manifest.provenance.get(f"{what}_name"), manifest.provenance.get(f"{what}_place")
    name = name if name is not None else getattr(manifest, what)
    if name == _SHIPPED[what]:
        return DEMO
    return str(place or name)


def _revision(key: str) -> str | None:
    """The commit in a repository's identity; None for a folder's."""
    return None if key.startswith("sha256:") else key.rpartition("@")[2]


def _nearest(precision: str, device: str) -> str:
    """The graph's precision; on a CPU fp32 for a graph that a GPU made in TF32."""
    return "fp32" if precision == "tf32" and torch.device(device).type != "cuda" else precision


def _pictures(graph: str, manifest: Manifest) -> list[Path]:
    """The graph's picture files, checked. Raises InputError for one that is gone or is another now."""
    paths = [Path(path) for path in manifest.provenance.get("images", [])]
    for path, sha in zip(paths, manifest.identity["images"], strict=True):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"graph {graph[:12]}: its picture {path} is not there ({error.strerror})",
                "the picture it was traced with",
                "Put it back, or trace the prompt again with the picture where it is now",
            ) from error
        if bytes_hash(data) != sha:
            raise InputError(
                f"graph {graph[:12]}: {path} is another picture than the one it was traced with",
                f"a file whose sha256 is {sha[:12]}...",
                "Put the old one back, or trace the new one",
            )
    return paths


def _inputs(model: Model, prompt: str, images: list[Any], wanted: Sequence[int], length: int) -> Inputs | None:
    """The graph's inputs: its prompt, by the template or as it stands, and what was appended before the trace."""
    for raw in (False, True):
        try:
            asked = prepare(model, prompt, images, raw=raw)
        except InputError:
            if raw:
                return None
            continue
        if asked.token_ids.tolist() == list(wanted[:length]):
            return append_tokens(model, asked, tuple(wanted[length:]))
    return None


def _checked_slots(graph: str, slots: Any) -> dict[str, str]:
    if not isinstance(slots, dict) or not all(isinstance(text, str) and text for text in slots.values()):
        raise InputError(f"graph {graph[:12]}: its slots are {slots!r}", 'names of texts, as in {"planet": "mars"}')
    return dict(slots)
