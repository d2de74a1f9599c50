"""What a circuit keeps of an answer when everything outside it is as in another run: the counterfactual.

A pair of runs of one question: what is asked about (the clean run) and its counterfactual, the pair's other picture.
Between them stand components: features and errors at their positions, and the embeddings of positions. Each has a
gate: at 1 the component is live and does what the changed run makes of it, at 0 it has the value that it has in the
counterfactual run. With a for activations, e for errors, and `*` for the counterfactual run, a layer gives

    MLP output = output* + W_skip (read - read*) + sum over features of gate (a - a*) decoder + gate (e - e*)

where only attention, norms and linear skips are live besides what has a gate. So all gates open are the clean run, all
closed the counterfactual one, and a feature that fires in neither run says nothing. What is kept is measured by the
difference of two logits, the answer's and the counterfactual answer's, and is differentiable in the gates.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atlas.errors import InputError
from ingest.interventions.case import Case
from ingest.interventions.engine import tiled
from ingest.model.precision import precision_of
from ingest.transcoders.activation import active_features
from ingest.transcoders.bank import site_input
from ingest.transcoders.records import Active, InputSite, OutputSite

ComponentKind = Literal["feature", "error", "embedding"]
KINDS: tuple[ComponentKind, ...] = ("feature", "error", "embedding")
_FEATURE, _ERROR, _EMBEDDING = range(3)
_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""Positions run at once, over all runs of a batch."""
_ENCODED = 2**28
"""Activations of one layer held at once at most: 1 GiB in float32."""
_WANTED = "the same question about another picture, position for position"


@dataclass(frozen=True, eq=False)
class Components:
    """What of a pair of runs can be kept or replaced, C in all; sorted by kind, layer, position, index."""

    kinds: Tensor
    """[C] int64 number in KINDS."""
    layers: Tensor
    """[C] int64 layer; -1 for embeddings."""
    indices: Tensor
    """[C] int64 index of a feature, else 0."""
    positions: Tensor
    """[C] int64 position."""

    def __len__(self) -> int:
        return len(self.kinds)

    def of(self, kind: int, layer: int) -> Tensor:
        """[n] numbers of the components of a kind in a layer."""
        return ((self.kinds == kind) & (self.layers == layer)).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Pair:
    """A run and its counterfactual, ready to be mixed."""

    case: Case
    """The clean run."""
    other: Case
    """The counterfactual run; position for position the same kinds of tokens."""
    answer: int
    """Vocabulary id of what the clean run says."""
    rival: int
    """Vocabulary id of what the counterfactual run says."""

    @cached_property
    def components(self) -> Components:
        """All that is not equal in both runs."""
        return _components(self.case, self.other)

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The difference of logits (with nothing replaced, with everything replaced)."""
        model = self.case.model
        closed = torch.zeros(1, len(self.components), dtype=model.dtype, device=model.device)
        found = differences(self, torch.cat([torch.ones_like(closed), closed]))
        return float(found[0]), float(found[1])

    def kept(self, difference: Tensor) -> Tensor:
        """What is kept: 1 for the clean run's difference of logits, 0 for that of the counterfactual run."""
        clean, replaced = self.bounds
        return (difference - replaced) / (clean - replaced)


def make_pair(case: Case, other: Case) -> Pair:
    """Two runs as a pair. Raises InputError if they are of two models or sets, cannot be aligned, or answer alike."""
    if case.model is not other.model or case.bank is not other.bank:
        raise InputError("two graphs of unlike models or transcoder sets", "two graphs of one model and one set")
    _check_aligned(case, other)
    answer, rival = (int(each.run.logits[each.answer_position].argmax()) for each in (case, other))
    if answer == rival:
        word = case.model.tokenizer.decode([answer]).strip()
        raise InputError(
            f"both runs answer {word!r}", "two runs with unlike answers: their difference is what a circuit keeps"
        )
    return Pair(case, other, answer, rival)


def unlike_lengths(one: int, two: int) -> InputError:
    """What to say of two prompts of unlike lengths."""
    return InputError(f"prompts of {one} and {two} tokens", _WANTED)


def differences(pair: Pair, gates: Tensor) -> Tensor:
    """[B] logit of the answer minus logit of its rival, for gates [B, C] in 0..1; differentiable if they are."""
    tokens = min(_TOKENS.get(pair.case.model.device.type, _TOKENS["cuda"]), _ENCODED // max(pair.case.bank.widths))
    size = max(1, tokens // pair.case.n_positions)
    return torch.cat([_differences(pair, part) for part in torch.split(gates, size)])


def _differences(pair: Pair, gates: Tensor) -> Tensor:
    model, case = pair.case.model, pair.case
    grad = gates.requires_grad
    with torch.set_grad_enabled(grad), precision_of(model), _mixing(pair, gates):
        found = model.hf(
            **tiled(case, len(gates)),
            use_cache=False,
            return_dict=True,
            logits_to_keep=torch.tensor([case.answer_position], device=model.device),
        )
    logits: Tensor = found.logits[:, 0]
    return logits[:, pair.answer].to(gates) - logits[:, pair.rival].to(gates)


def _check_aligned(case: Case, other: Case) -> None:
    if case.n_positions != other.n_positions:
        raise unlike_lengths(case.n_positions, other.n_positions)
    for one, two in zip(case.inputs.positions, other.inputs.positions, strict=True):
        places = [(each.modality, each.image, each.crop, each.row, each.col) for each in (one, two)]
        if places[0] != places[1]:
            raise InputError(
                f"position {one.index} is {one.modality} in one prompt and stands elsewhere in the other",
                _WANTED,
            )
    if case.answer_position != other.answer_position:
        raise InputError(
            f"targets at positions {case.answer_position} and {other.answer_position}", "one position for both graphs"
        )


def _components(case: Case, other: Case) -> Components:
    device = case.model.device
    parts: list[tuple[int, int, Tensor, Tensor]] = []
    for layer in range(case.model.facts.n_layers):
        both = [each.encoded.layers[layer].active for each in (case, other)]
        keys = torch.unique(torch.cat([active.positions << 32 | active.indices for active in both]))
        positions, indices = keys >> 32, keys & (1 << 32) - 1
        unlike = case.activations(layer, indices, positions) != other.activations(layer, indices, positions)
        parts.append((_FEATURE, layer, indices[unlike], positions[unlike]))
    for layer in range(case.model.facts.n_layers):
        errors = (case.encoded.layers[layer].error != other.encoded.layers[layer].error).any(dim=1).nonzero()[:, 0]
        parts.append((_ERROR, layer, torch.zeros_like(errors), errors))
    entered = (case.run.embeddings != other.run.embeddings).any(dim=1).nonzero()[:, 0]
    parts.append((_EMBEDDING, -1, torch.zeros_like(entered), entered))

    def filled(number: int) -> Tensor:
        return torch.cat([torch.full_like(part[3], int(part[number])) for part in parts]).to(device)

    return Components(
        filled(0), filled(1), torch.cat([p[2] for p in parts]).to(device), torch.cat([p[3] for p in parts]).to(device)
    )


@contextmanager
def _mixing(pair: Pair, gates: Tensor) -> Iterator[None]:
    """Within the block the model runs with these gates; afterwards, and after an error, no hook is left."""
    handles: list[RemovableHandle] = []
    try:
        _Mixer(pair, gates).hook(handles)
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Mixer:
    """One forward pass of B mixed runs. T positions, d width of the residual stream."""

    def __init__(self, pair: Pair, gates: Tensor) -> None:
        self.pair, self.gates = pair, gates
        self.case, self.other = pair.case, pair.other
        self.model, self.bank = pair.case.model, pair.case.bank
        self.read: Tensor
        self.actives: list[Active] = []
        self.opened: list[tuple[Tensor, Tensor]] = []

    def hook(self, handles: list[RemovableHandle]) -> None:
        """Put every hook in its place."""
        sites = self.model.sites
        blocks = self.model.layers
        handles.append(blocks[0].register_forward_pre_hook(self._enter, with_kwargs=True))
        for number, block in enumerate(blocks):
            handles.append(block.get_submodule(sites.mlp_norm).register_forward_hook(self._reading))
            raw = self.bank.output_site is OutputSite.MLP_RAW or sites.mlp_post_norm is None
            place = sites.mlp if raw or sites.mlp_post_norm is None else sites.mlp_post_norm
            handles.append(block.get_submodule(place).register_forward_hook(self._leaving(number)))

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        clean, replaced = self.case.run.embeddings.to(hidden), self.other.run.embeddings.to(hidden)
        gate = self._gates_at(_EMBEDDING, -1).to(hidden)
        mixed = replaced + gate[:, :, None] * (clean - replaced)
        return ((mixed, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": mixed})

    def _reading(self, norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """What the encoders of a layer read [B, T, d]."""
        middle, site = args[0], self.bank.input_site
        if site is InputSite.MLP_IN:
            self.read = output
        elif site is InputSite.RESID_MID:
            self.read = middle
        else:
            epsilon = float(getattr(norm, self.model.sites.norm_epsilon))
            self.read = middle * torch.rsqrt(middle.pow(2).mean(-1, keepdim=True) + epsilon)

    def _leaving(self, layer: int) -> Callable[..., Tensor]:
        """What a layer's MLP gives [B, T, d], put together from what is live and what is replaced."""

        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            encoding, record = self.other.encoded.layers[layer], self.other.run.layers[layer]
            found = (encoding.reconstruction + encoding.error).to(output).expand_as(output)
            skip = self.bank.skip(layer)
            if skip is not None:
                moved = self.read - site_input(self.bank.input_site, record).to(self.read)
                found = found + torch.nn.functional.linear(moved, skip.to(moved))
            read = self.read.flatten(0, 1)
            activations = self.bank.activations(layer, read).view(*self.read.shape[:2], -1)
            self.opened.append(self._opened(layer, activations))
            for source, (features, changes) in enumerate(self.opened):
                if layer in self.bank.writes_to(source) and len(features):
                    rows = self.bank.decoder_rows(source, features, layer)
                    found = found + changes @ rows.to(changes)
            gate = self._gates_at(_ERROR, layer).to(found)
            self.actives.append(active_features(activations.flatten(0, 1)))
            if bool(gate.detach().any()) or gate.requires_grad:
                live = output - self._made(layer, read).view_as(output) - encoding.error.to(output)
                found = found + gate[:, :, None] * live
            return found

        return hook

    def _made(self, layer: int, read: Tensor) -> Tensor:
        """[B T, d] what the transcoders make of what is read now, features of the layers below in."""
        made = self.bank.decode(layer, self.actives[layer], read)
        below = range(layer) if self.bank.cross_layer else ()
        for source in below:
            active = self.actives[source]
            features, column = torch.unique(active.indices, return_inverse=True)
            dense = made.new_zeros(len(made), len(features)).index_put((active.positions, column), active.values)
            made = made + dense @ self.bank.decoder_rows(source, features, layer).to(made)
        return made

    def _opened(self, layer: int, activations: Tensor) -> tuple[Tensor, Tensor]:
        """(features [n], how far the open gates move them at every position [B, T, n])."""
        parts = self.pair.components
        chosen = parts.of(_FEATURE, layer)
        indices, positions = parts.indices[chosen], parts.positions[chosen]
        replaced = self.other.activations(layer, indices, positions).to(activations)
        moved = self.gates[:, chosen].to(activations) * (activations[:, positions, indices] - replaced)
        features, column = torch.unique(indices, return_inverse=True)
        changes = moved.new_zeros(*activations.shape[:2], len(features))
        return features, changes.index_put(
            (torch.arange(len(moved), device=moved.device)[:, None], positions, column), moved
        )

    def _gates_at(self, kind: int, layer: int) -> Tensor:
        """[B, T] gates of errors or embeddings; 0 where both runs are equal."""
        chosen = self.pair.components.of(kind, layer)
        found = self.gates.new_zeros(len(self.gates), self.case.n_positions)
        return found.index_copy(1, self.pair.components.positions[chosen], self.gates[:, chosen])
