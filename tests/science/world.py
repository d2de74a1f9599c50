"""The laws' small world: a random Gemma-3 on a picture, and random transcoders held in memory.

The transcoders are written down once more here, in the plainest way, so that the laws do not lean on the readers.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from ingest.attribution.features import Rows, attribute
from ingest.attribution.frozen import FoldedWeights, FrozenModel, fold, freeze
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.targets import Targets, TargetSpec, Vocabulary, resolve
from ingest.model.capture import run as capture
from ingest.model.inputs import Inputs, prepare
from ingest.model.model import Model
from ingest.model.records import Run
from ingest.transcoders.records import Active, Encoded, InputSite, LayerEncoding, OutputSite
from tests.tiny import picture, tiny_model

LATENTS = 40


@dataclass(frozen=True)
class PlainBank:
    """Random transcoders of one rule."""

    W_enc: Tensor
    """[L, F, d]"""
    W_dec: Tensor
    """[L, F, d]"""
    b_enc: Tensor
    """[L, F]"""
    b_dec: Tensor
    """[L, d]"""
    W_skip: Tensor | None
    """[L, d, d] or None."""
    rule: str
    """topk or jumprelu."""
    input_site: InputSite
    output_site: OutputSite

    name = "random"
    cross_layer = False

    @property
    def stored_dtype(self) -> torch.dtype:
        return self.W_dec.dtype

    @property
    def widths(self) -> list[int]:
        return [self.W_enc.shape[1]] * len(self.W_enc)

    def writes_to(self, layer: int) -> range:
        return range(layer, layer + 1)

    def decoder_rows(self, layer: int, indices: Tensor, to: int | None = None) -> Tensor:
        assert to in (None, layer)
        return self.W_dec[layer, indices]

    def encoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        return self.W_enc[layer, indices]

    def encoder_bias(self, layer: int, indices: Tensor) -> Tensor:
        return self.b_enc[layer, indices]

    def decoder_bias(self, layer: int) -> Tensor:
        return self.b_dec[layer]

    def skip(self, layer: int) -> Tensor | None:
        return None if self.W_skip is None else self.W_skip[layer]

    def activations(self, layer: int, read: Tensor) -> Tensor:
        """[n, F] of what is read [n, d]."""
        pre = torch.einsum("td,fd->tf", read, self.W_enc[layer]) + self.b_enc[layer]
        if self.rule == "topk":
            best = pre.relu().topk(4, dim=-1)
            return torch.zeros_like(pre).scatter(-1, best.indices, best.values)
        return pre.where(pre > 0.9, 0.0)

    def decode(self, layer: int, active: Active, read: Tensor) -> Tensor:
        """[n, d] what the layer's own transcoder makes of what it reads."""
        values = torch.zeros(len(read), LATENTS, dtype=read.dtype)
        values[active.positions, active.indices] = active.values
        made = values @ self.W_dec[layer] + self.b_dec[layer]
        return made if self.W_skip is None else made + read @ self.W_skip[layer].T

    def encode(self, run: Run) -> Encoded:
        """Active features and what they leave over, layer by layer."""
        layers = [self._encode_layer(run, layer) for layer in range(len(run.layers))]
        return Encoded(layers, self.input_site, self.output_site)

    def _encode_layer(self, run: Run, layer: int) -> LayerEncoding:
        record = run.layers[layer]
        read = {
            InputSite.MLP_IN: record.mlp_in,
            InputSite.NORMALIZED: record.resid_mid * record.mlp_scale[:, None],
            InputSite.RESID_MID: record.resid_mid,
        }[self.input_site]
        values = self.activations(layer, read)
        positions, indices = values.nonzero(as_tuple=True)
        made = self.decode(layer, Active(positions, indices, values[positions, indices]), read)
        truth = record.mlp_out if self.output_site is OutputSite.MLP_RAW else record.mlp_write
        return LayerEncoding(Active(positions, indices, values[positions, indices]), made, truth - made)


@dataclass(frozen=True)
class CrossLayerBank(PlainBank):
    """Random transcoders whose features write at every layer from their own on."""

    W_to: Tensor
    """[L, L, F, d] by the feature's layer and the layer written to."""

    cross_layer = True

    def writes_to(self, layer: int) -> range:
        return range(layer, len(self.W_to))

    def decoder_rows(self, layer: int, indices: Tensor, to: int | None = None) -> Tensor:
        assert to is None or to in self.writes_to(layer)
        return self.W_to[layer, layer if to is None else to, indices]

    def encode(self, run: Run) -> Encoded:
        """The errors are what is left when the layers below have written too."""
        own = super().encode(run)
        layers = []
        for number, layer in enumerate(own.layers):
            below = torch.zeros_like(layer.error)
            for source in range(number):
                active = own.layers[source].active
                rows = self.decoder_rows(source, active.indices, number) * active.values[:, None]
                below.index_add_(0, active.positions, rows)
            layers.append(LayerEncoding(layer.active, layer.reconstruction + below, layer.error - below))
        return Encoded(layers, self.input_site, self.output_site)


@dataclass(frozen=True)
class Case:
    """One run of the tiny model with one set of transcoders."""

    model: Model
    inputs: Inputs
    run: Run
    bank: PlainBank
    encoded: Encoded
    folded: FoldedWeights
    targets: Targets
    vocabulary: Vocabulary

    def frozen(self, exact: bool = True, **options: int) -> FrozenModel:
        return freeze(self.run, self.folded, self.bank, self.encoded, exact, **options)

    def rows(self, **settings: object) -> Rows:
        chosen = AttributionSettings(**settings)  # type: ignore[arg-type]  # names are checked by the dataclass
        return attribute(self.frozen(chosen.exact), self.run.token_ids, self.bank, self.targets, chosen)

    @property
    def images(self) -> Tensor:
        return torch.tensor([position.modality == "image" for position in self.inputs.positions])

    @property
    def texts(self) -> list[str]:
        return [position.text for position in self.inputs.positions]


CASES = (
    "topk",
    "jumprelu",
    "skip",
    "skip after the post-norm",
    "before the gain",
    "residual stream",
    "cross-layer",
    "cross-layer with skip after the post-norm",
)


@cache
def case(name: str = "topk", precision: str = "fp64", picture_count: int = 1) -> Case:
    """A case by name, made once."""
    model = tiny_model(precision)  # type: ignore[arg-type]  # one of the model's precisions
    inputs = prepare(model, "what is the sum of red and blue ?", [picture(n) for n in range(picture_count)])
    run = capture(model, inputs)
    bank = _bank(name, len(run.layers), run.embeddings.shape[1], run.embeddings.dtype)
    weights, vocabulary = model.weights(), Vocabulary.of(model.tokenizer)
    targets = resolve(TargetSpec(max_logits=4), run, weights, vocabulary)
    return Case(model, inputs, run, bank, bank.encode(run), fold(weights), targets, vocabulary)


def one_token(name: str) -> Case:
    """A case whose prompt is its first token alone."""
    made = case(name, picture_count=0)
    batch = {key: value[:, :1] if value.ndim == 2 else value for key, value in made.inputs.batch.items()}
    inputs = replace(made.inputs, batch=batch, positions=made.inputs.positions[:1])
    run = capture(made.model, inputs)
    targets = resolve(TargetSpec(max_logits=4), run, made.model.weights(), made.vocabulary)
    return replace(made, inputs=inputs, run=run, encoded=made.bank.encode(run), targets=targets)


def _bank(name: str, layers: int, width: int, dtype: torch.dtype) -> PlainBank:
    generator = torch.Generator().manual_seed(11)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    parts = {
        "W_enc": noise(layers, LATENTS, width) / width**0.5,
        "W_dec": noise(layers, LATENTS, width) / width**0.5,
        "b_enc": noise(layers, LATENTS) / 10,
        "b_dec": noise(layers, width) / 5,
        "W_skip": noise(layers, width, width) / width**0.5 / 4 if "skip" in name else None,
        "rule": "jumprelu" if name == "jumprelu" else "topk",
        "input_site": {"before the gain": InputSite.NORMALIZED, "residual stream": InputSite.RESID_MID}.get(
            name, InputSite.MLP_IN
        ),
        "output_site": OutputSite.MLP_WRITE if "after the post-norm" in name else OutputSite.MLP_RAW,
    }
    if "cross-layer" not in name:
        return PlainBank(**parts)
    to = noise(layers, layers, LATENTS, width) / width**0.5
    return CrossLayerBank(**parts | {"W_dec": to.diagonal().permute(2, 0, 1).contiguous()}, W_to=to)
