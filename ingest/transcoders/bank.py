"""A transcoder set at work: encode a run, and hand out rows.

Nothing is read before it is needed: opening reads headers, encoding a layer reads that layer's encoder, and rows are
gathered from the memory-mapped file. On a GPU encoders stay there after first use, as long as they fit a budget.
"""

from functools import cached_property

import torch
from torch import Tensor

from atlas.errors import TranscoderError
from ingest.model.identity import Identity
from ingest.model.model import Model
from ingest.model.records import LayerRun, Run
from ingest.transcoders.activation import Rule, activate, active_features
from ingest.transcoders.layer_file import LayerFile
from ingest.transcoders.readers import Description, read_set
from ingest.transcoders.records import Active, Encoded, InputSite, LayerEncoding, OutputSite

RESIDENT_BYTES = 32 * 2**30
"""Most that encoders may take on a GPU between graphs; those of a 4B model take 28 GB in bf16."""

_ROWS_AT_ONCE = 16_384  # latents converted to float32 at a time, so that a bf16 encoder is never held twice


class Bank:
    """A transcoder set: one transcoder for each layer of a model."""

    def __init__(
        self,
        description: Description,
        device: torch.device,
        dtype: torch.dtype,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self.description = description
        self.device = device
        self.dtype = dtype
        self._room = resident_bytes if device.type == "cuda" else 0
        self._resident: dict[int, Tensor] = {}

    @property
    def name(self) -> str:
        """Repository with subfolder, or the folder's name."""
        return self.description.place.name

    @cached_property
    def identity(self) -> Identity:
        """Repository and commit, or the hash of its files."""
        return self.description.identity()

    @property
    def n_layers(self) -> int:
        """Layers."""
        return len(self.description.layers)

    @property
    def widths(self) -> list[int]:
        """Latents of each layer; they need not be equal."""
        return [layer.latents for layer in self.description.layers]

    @property
    def input_site(self) -> InputSite:
        """Where encoders read."""
        return self.description.input_site

    @property
    def output_site(self) -> OutputSite:
        """What decoders reconstruct."""
        return self.description.output_site

    def rule(self, layer: int) -> Rule:
        """The activation of one layer."""
        return self.description.rules[layer]

    def encode(self, run: Run) -> Encoded:
        """Active features, reconstruction and error of every layer, at every position. Raises TranscoderError."""
        if len(run.layers) != self.n_layers:
            raise TranscoderError(f"{self.name} has {self.n_layers} layers", f"{len(run.layers)}, as the model has")
        layers = [self._encode_layer(number, layer_run) for number, layer_run in enumerate(run.layers)]
        return Encoded(layers, self.input_site, self.output_site)

    def _encode_layer(self, layer: int, run: LayerRun) -> LayerEncoding:
        read = site_input(self.input_site, run)
        active = active_features(self.activations(layer, read))
        reconstruction = self.decode(layer, active, read)
        true = run.mlp_out if self.output_site is OutputSite.MLP_RAW else run.mlp_write
        assert true is not None
        return LayerEncoding(active, reconstruction, true - reconstruction)

    def pre_activations(self, layer: int, read: Tensor) -> Tensor:
        """Pre-activations [T, F] of one layer, given what it reads [T, d]."""
        encoder, bias = self._encoder(layer), self._vector(layer, "b_enc").to(read)
        parts = [
            torch.nn.functional.linear(read, rows.to(read), bias[start : start + _ROWS_AT_ONCE])
            for start, rows in _chunks(encoder)
        ]
        found = torch.cat(parts, dim=-1)
        if not bool(torch.isfinite(found).all()):
            raise self._not_finite(layer, "W_enc or b_enc", read)
        return found

    def activations(self, layer: int, read: Tensor) -> Tensor:
        """Activations [T, F] of one layer, zero where a feature does not fire."""
        threshold = self._vector(layer, "threshold").to(read) if self._file(layer).has("threshold") else None
        return activate(self.rule(layer), self.pre_activations(layer, read), threshold)

    def decode(self, layer: int, active: Active, read: Tensor) -> Tensor:
        """Reconstruction [T, d] from active features and, where the set has a skip, from what it reads [T, d]."""
        found = self.decoder_bias(layer).to(read).expand(len(read), -1).clone()
        skip = self.skip(layer)
        if skip is not None:
            found += torch.nn.functional.linear(read, skip.to(read))
        for start in range(0, self.widths[layer], _ROWS_AT_ONCE):
            # products over dense pieces add up in the same order every time, unlike scattered additions on a GPU
            inside = (active.indices >= start) & (active.indices < start + _ROWS_AT_ONCE)
            unique, column = torch.unique(active.indices[inside], return_inverse=True)
            if len(unique):
                dense = read.new_zeros(len(read), len(unique))
                dense[active.positions[inside], column] = active.values[inside].to(read)
                found += dense @ self.decoder_rows(layer, unique).to(read)
        if not bool(torch.isfinite(found).all()):
            raise self._not_finite(layer, "W_dec, b_dec or W_skip", read)
        return found

    def decoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        """Decoder rows [n, d] in the order asked for."""
        return self._placed(self._file(layer).rows("W_dec", indices))

    def encoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        """Encoder rows [n, d] in the order asked for."""
        if layer in self._resident:
            return self._placed(self._resident[layer][indices.to(self.device)])
        return self._placed(self._file(layer).rows("W_enc", indices))

    def encoder_bias(self, layer: int, indices: Tensor) -> Tensor:
        """Encoder biases [n] in the order asked for."""
        return self._placed(self._file(layer).rows("b_enc", indices))

    def decoder_bias(self, layer: int) -> Tensor:
        """Decoder bias [d]."""
        return self._vector(layer, "b_dec")

    def skip(self, layer: int) -> Tensor | None:
        """Linear skip [d, d], row = output: adds read @ skip.T; None where the layer has none."""
        return self._vector(layer, "W_skip") if self._file(layer).has("W_skip") else None

    def _file(self, layer: int) -> LayerFile:
        return self.description.layers[layer]

    def _vector(self, layer: int, name: str) -> Tensor:
        return self._placed(self._file(layer).tensor(name))

    def _placed(self, value: Tensor) -> Tensor:
        return value.to(self.device, self.dtype)

    def _encoder(self, layer: int) -> Tensor:
        """The encoder [F, d] in its stored type: resident on a GPU as long as there is room, else in the file."""
        if layer in self._resident:
            return self._resident[layer]
        encoder = self._file(layer).tensor("W_enc")
        if encoder.nbytes <= self._room:
            self._room -= encoder.nbytes
            encoder = self._resident[layer] = encoder.to(self.device)
        return encoder

    def _not_finite(self, layer: int, names: str, read: Tensor) -> TranscoderError:
        if not bool(torch.isfinite(read).all()):
            return TranscoderError(f"what layer {layer} reads holds NaN or infinity", "finite activations")
        return TranscoderError(
            f"{self._file(layer).path}: {names} holds NaN or infinity",
            "finite weights",
            "Copy or train the set again",
        )


def load_bank(
    source: str,
    model: Model | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Bank:
    """Open a set: a folder or hf://org/repo[//sub][@rev]. With a model, check that it fits and follow its device and
    type; else CPU and float32. Raises TranscoderError."""
    description = read_set(str(source))
    if model is not None:
        _check_fits(description, model)
    place = torch.device(device) if device is not None else torch.device("cpu") if model is None else model.device
    return Bank(description, place, dtype or (torch.float32 if model is None else model.dtype))


def site_input(site: InputSite, run: LayerRun) -> Tensor:
    """What an encoder at this site reads [T, d]."""
    if site is InputSite.MLP_IN:
        return run.mlp_in
    assert run.resid_mid is not None
    if site is InputSite.NORMALIZED:
        return run.resid_mid * run.mlp_scale[:, None]
    return run.resid_mid


def _check_fits(description: Description, model: Model) -> None:
    name, facts, first = description.place.name, model.facts, description.layers[0]
    if first.width != facts.width:
        raise TranscoderError(
            f"{first.path} has width {first.width}",
            f"{facts.width}, as {model.identity.name} has",
            f"Name a set made for it; this one was made for {description.model_name or 'a model it does not name'}",
        )
    if len(description.layers) != facts.n_layers:
        raise TranscoderError(
            f"{name} has {len(description.layers)} layers",
            f"{facts.n_layers}, as {model.identity.name} has",
            "Copy the missing files, or name a set made for this model",
        )


def _chunks(matrix: Tensor) -> list[tuple[int, Tensor]]:
    return [(start, matrix[start : start + _ROWS_AT_ONCE]) for start in range(0, len(matrix), _ROWS_AT_ONCE)]
