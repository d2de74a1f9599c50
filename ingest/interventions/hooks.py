"""The hooks that carry out interventions while Hugging Face's own modules run. None is left behind.

What a mode holds still, against the clean run:

    free        nothing
    iterative   attention patterns
    frozen      attention patterns, the scales of all norms, and what MLPs give: what is left is linear, and equals the
                graph's edges

In each mode the real MLP stays, so its error does too, and the difference that changed activations make is added at
the site that the set's decoders reconstruct (arXiv 2602.20330, section 3). A change is counted from the activation
there is: in frozen mode the clean run's, else what the set's own rule says of the run at hand. Letters used in shapes:
B runs in a batch, t positions of one forward pass, T positions of the prompt, d width of the residual stream.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atlas.domain.evidence import Mode
from atlas.errors import InputError
from ingest.interventions.case import Case
from ingest.interventions.edits import GENERATED, Intervention, Vectors
from ingest.model.records import LayerRun
from ingest.transcoders.activation import active_features
from ingest.transcoders.records import InputSite, OutputSite

_ENCODED = 2**27
"""Activations held at once, so that a wide set and a large batch do not meet in memory: half a GiB in float32."""


@dataclass(frozen=True)
class _Changes:
    """What one layer's features come to, for the whole batch."""

    rows: Tensor
    """[n] run in the batch."""
    positions: Tensor
    """[n] position, or GENERATED."""
    indices: Tensor
    """[n] feature."""
    factors: Tensor
    """[n]"""
    offsets: Tensor
    """[n]"""


@dataclass(frozen=True)
class _Placed:
    """Vectors of one layer, for the whole batch."""

    rows: Tensor
    """[m] run in the batch."""
    positions: Tensor
    """[m] position."""
    vectors: Tensor
    """[m, d]"""


@dataclass(frozen=True)
class _Written:
    """How changed activations of one layer add up at places of the batch."""

    rows: Tensor
    """[p] run of each place."""
    places: Tensor
    """[p] position within the forward pass."""
    features: Tensor
    """[f] features changed."""
    changes: Tensor
    """[p, f] change of activation."""


@contextmanager
def changed(case: Case, interventions: Sequence[Intervention], mode: Mode, keep_reads: bool) -> Iterator[list[Tensor]]:
    """Within the block a forward pass over the prompt, B times side by side, carries out one intervention each; further
    passes continue it (a KV cache). Fills the list with what the encoders read, [B, t, d] a layer, if asked."""
    handles: list[RemovableHandle] = []
    changing = _Changing(case, interventions, mode, keep_reads)
    try:
        changing.hook(handles)
        yield changing.reads
        changing.check()
    finally:
        for handle in handles:
            handle.remove()


class _Changing:
    """One batch of runs."""

    def __init__(self, case: Case, interventions: Sequence[Intervention], mode: Mode, keep_reads: bool) -> None:
        self.case, self.model, self.bank = case, case.model, case.bank
        self.frozen, self.still = mode == "frozen", mode != "free"
        self.keep_reads, self.reads = keep_reads, list[Tensor]()
        self.start, self.length = 0, 0
        self.largest = torch.zeros((), dtype=self.model.dtype, device=self.model.device)
        self.read: Tensor
        n_layers, device = self.model.facts.n_layers, self.model.device
        self.changes = [self._changes(interventions, layer) for layer in range(n_layers)]
        self.written: list[_Written | None] = [None] * n_layers
        self.writes = _by_layer([item.writes for item in interventions], n_layers, device)
        self.errors = _by_layer([item.errors for item in interventions], n_layers, device)
        self.embeddings = _together([item.embeddings for item in interventions], device)

    def check(self) -> None:
        """Raise InputError if a changed layer gave more than a norm can square and add up: it would hand on zeros."""
        most = (torch.finfo(self.model.dtype).max / self.model.facts.width) ** 0.5
        if not bool(self.largest < most):
            raise InputError(
                f"with the change a layer writes numbers of {float(self.largest):.0e}",
                f"numbers whose squares {self.model.precision} can hold",
                "Change less",
            )

    def hook(self, handles: list[RemovableHandle]) -> None:
        """Put every hook in its place."""
        sites, run, weights = self.model.sites, self.case.run, self.model.weights()

        def after(module: nn.Module, function: Callable[..., Any]) -> None:
            handles.append(module.register_forward_hook(function))

        def norm(module: nn.Module, scale: Tensor | None, gain: Tensor | None) -> None:
            if self.frozen and scale is not None and gain is not None:
                after(module, lambda _, args, __: args[0] * scale[:, None] * gain)

        blocks = self.model.layers
        handles.append(blocks[0].register_forward_pre_hook(self._enter, with_kwargs=True))
        for number, block in enumerate(blocks):
            record, own = run.layers[number], weights.layers[number]
            norm(block.get_submodule(sites.attention_norm), record.attention_scale, own.attention_gain)
            if sites.attention_post_norm is not None:
                post = block.get_submodule(sites.attention_post_norm)
                norm(post, record.attention_post_scale, own.attention_post_gain)
            if self.still:
                self._hold_pattern(handles, block, record.pattern)
            after(block.get_submodule(sites.mlp_norm), self._reading(number, own.mlp_gain))
            raw = self.bank.output_site is OutputSite.MLP_RAW or sites.mlp_post_norm is None
            after(block.get_submodule(sites.mlp), self._leaving(number, record.mlp_out, raw))
            if sites.mlp_post_norm is not None:
                post = block.get_submodule(sites.mlp_post_norm)
                norm(post, record.mlp_post_scale, own.mlp_post_gain)
                if not raw:
                    after(post, self._leaving(number, record.mlp_write, True))
        norm(self.model.part(sites.final_norm), run.final_scale, weights.final_gain)

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Count positions, and give the prompt its clean embeddings: the vision tower need not run again."""
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        self.start += self.length
        self.length = hidden.shape[1]
        if self.start == 0:
            clean = self.case.run.embeddings.to(hidden)
            hidden = clean.expand(hidden.shape[0], -1, -1)
            if self.embeddings is not None:
                hidden = hidden.clone()
                placed = self.embeddings
                hidden[placed.rows, placed.positions] = placed.vectors.to(hidden)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    def _hold_pattern(self, handles: list[RemovableHandle], block: nn.Module, pattern: Tensor) -> None:
        """Attention mixes values with the clean run's pattern [H, T, T], within the prompt."""
        sites, facts = self.model.sites, self.model.facts
        seen: dict[str, Tensor] = {}

        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            seen["values"] = output

        def mix(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            values = seen.pop("values")
            if self.start > 0:
                return None
            groups = facts.n_heads // facts.n_kv_heads
            heads = values.view(*values.shape[:2], facts.n_kv_heads, facts.head_dim)
            heads = heads.repeat_interleave(groups, dim=2)
            return (torch.einsum("hqk,bkhx->bqhx", pattern.to(values), heads).flatten(2), *args[1:])

        handles.append(block.get_submodule(sites.value).register_forward_hook(keep))
        handles.append(block.get_submodule(sites.output).register_forward_pre_hook(mix))

    def _reading(self, layer: int, gain: Tensor) -> Callable[..., Tensor | None]:
        """What the encoders of a layer read, taken down at the norm before its MLP."""
        record = self.case.run.layers[layer]

        def hook(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            middle = args[0]
            if self.frozen:
                output = middle * record.mlp_scale[:, None] * gain
            site = self.bank.input_site
            if site is InputSite.MLP_IN:
                read = output
            elif site is InputSite.RESID_MID:
                read = middle
            else:
                read = middle * (record.mlp_scale[:, None] if self.frozen else self._scale(norm, middle))
            self.read = read.to(self.model.dtype)
            if self.keep_reads:
                self.reads.append(self.read)
            return output if self.frozen else None

        return hook

    def _scale(self, norm: nn.Module, given: Tensor) -> Tensor:
        epsilon = float(getattr(norm, self.model.sites.norm_epsilon))
        return torch.rsqrt(given.pow(2).mean(-1, keepdim=True) + epsilon)

    def _leaving(self, layer: int, clean: Tensor | None, at_site: bool) -> Callable[..., Tensor | None]:
        """What a layer's MLP gives: as it is, or in frozen mode as it was, with what interventions add at the site."""

        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            found = output
            if self.frozen:
                assert clean is not None, "a captured run keeps what MLPs give and write"
                found = clean.to(output).expand_as(output)
            return self._added(layer, found) if at_site else found

        return hook

    def _added(self, layer: int, given: Tensor) -> Tensor:
        """[B, t, d] what is given at the site of a layer, with all that is changed there."""
        found = given.clone()
        if self.frozen:
            skip = self.bank.skip(layer)
            if skip is not None:
                record = self.case.run.layers[layer]
                found += torch.nn.functional.linear(self.read - self._clean_read(record), skip.to(found))
        active = self._activations(layer)
        errors = self._within(self.errors[layer])
        if errors is not None:
            there = errors.rows, errors.positions - self.start
            found[there] += errors.vectors.to(found) - self._error(layer, errors, given[there])
        self.written[layer] = active
        for source in range(layer + 1):
            written = self.written[source]
            if written is None or layer not in self.bank.writes_to(source):
                continue
            rows = self.bank.decoder_rows(source, written.features, layer)
            found[written.rows, written.places] += written.changes @ rows.to(written.changes)
        if not self.bank.cross_layer:
            self.written[layer] = None
        writes = self._within(self.writes[layer])
        if writes is not None:
            found[writes.rows, writes.positions - self.start] += writes.vectors.to(found)
        self.largest = torch.maximum(self.largest, found.detach().abs().amax().to(self.largest))
        return found

    def _clean_read(self, record: LayerRun) -> Tensor:
        from ingest.transcoders.bank import site_input

        return site_input(self.bank.input_site, record).to(self.read)

    def _error(self, layer: int, placed: _Placed, given: Tensor) -> Tensor:
        """[m, d] the error at places: what is given there minus what the transcoder makes of what it reads there."""
        if self.frozen:
            return self.case.encoded.layers[layer].error[placed.positions].to(given)
        read = self.read[placed.rows, placed.positions - self.start]
        made = [
            self.bank.decode(layer, active_features(self.bank.activations(layer, part)), part)
            for part in torch.split(read, self._at_once(layer))
        ]
        return given - torch.cat(made)

    def _activations(self, layer: int) -> _Written | None:
        """How far the changed features of a layer are from what they would be."""
        found = self._here(self.changes[layer])
        if found is None:
            return None
        places, where = torch.unique(found.rows * self.length + found.positions, return_inverse=True)
        rows, local = places // self.length, places % self.length
        features, column = torch.unique(found.indices, return_inverse=True)
        if self.frozen:
            current = self.case.activations(layer, found.indices, found.positions)
        else:
            current = self._current(layer, self.read[rows, local], where, found.indices)
        change = (found.factors - 1).to(current) * current + found.offsets.to(current)
        changes = current.new_zeros(len(places), len(features))
        changes[where, column] = change
        return _Written(rows, local, features, changes)

    def _current(self, layer: int, read: Tensor, where: Tensor, indices: Tensor) -> Tensor:
        """[n] activations by the set's rule of features that read row `where` of `read` [p, d]."""
        found, step = read.new_empty(len(indices)), self._at_once(layer)
        for start in range(0, len(read), step):
            chosen = (where >= start) & (where < start + step)
            values = self.bank.activations(layer, read[start : start + step])
            found[chosen] = values[where[chosen] - start, indices[chosen]]
        return found

    def _at_once(self, layer: int) -> int:
        """Places that are encoded at once: every feature of the layer has a number at each."""
        return max(1, _ENCODED // self.bank.widths[layer])

    def _here(self, changes: _Changes | None) -> _Changes | None:
        """The changes that fall on positions of this forward pass, counted from its first."""
        if changes is None:
            return None
        end = self.start + self.length
        inside = (changes.positions >= self.start) & (changes.positions < end)
        chosen, local = inside.nonzero()[:, 0], changes.positions[inside] - self.start
        later = (changes.positions == GENERATED).nonzero()[:, 0]
        if len(later) and self.start > 0:
            steps = torch.arange(self.length, device=later.device)
            chosen = torch.cat([chosen, later.repeat_interleave(self.length)])
            local = torch.cat([local, steps.repeat(len(later))])
        if not len(chosen):
            return None
        return _Changes(
            changes.rows[chosen], local, changes.indices[chosen], changes.factors[chosen], changes.offsets[chosen]
        )

    def _within(self, placed: _Placed | None) -> _Placed | None:
        """Vectors stand in the prompt: they count in its pass only."""
        return placed if self.start == 0 else None

    def _changes(self, interventions: Sequence[Intervention], layer: int) -> _Changes | None:
        parts = []
        for row, item in enumerate(interventions):
            own = item.edits[item.edits.layers == layer]
            if len(own):
                parts.append((torch.full_like(own.positions, row), own))
        if not parts:
            return None

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(own, name) for _, own in parts]).to(self.model.device)

        rows = torch.cat([row for row, _ in parts]).to(self.model.device)
        return _Changes(rows, joined("positions"), joined("indices"), joined("factors"), joined("offsets"))


def _by_layer(parts: Sequence[Vectors | None], n_layers: int, device: torch.device) -> list[_Placed | None]:
    whole = [part for part in parts if part is not None]
    if not whole:
        return [None] * n_layers
    found: list[_Placed | None] = []
    for layer in range(n_layers):
        own = [None if part is None else _of_layer(part, layer) for part in parts]
        found.append(_together(own, device))
    return found


def _of_layer(part: Vectors, layer: int) -> Vectors:
    chosen = part.layers == layer
    return Vectors(part.layers[chosen], part.positions[chosen], part.vectors[chosen.to(part.vectors.device)])


def _together(parts: Sequence[Vectors | None], device: torch.device) -> _Placed | None:
    found = [(row, part) for row, part in enumerate(parts) if part is not None and len(part)]
    if not found:
        return None
    return _Placed(
        torch.cat([torch.full_like(part.positions, row) for row, part in found]).to(device),
        torch.cat([part.positions for _, part in found]).to(device),
        torch.cat([part.vectors.to(device) for _, part in found]),
    )
