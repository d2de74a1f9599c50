"""A transcoder set at work: encode a run, and hand out rows.

Nothing is read before it is needed: opening reads headers, encoding a layer reads that layer's encoder, and rows are
gathered from the memory-mapped file. On a GPU encoders stay there after first use, as long as they fit a budget; the
others are read again in pieces each time, and leave nothing behind.

Features of a cross-layer set read one layer and write to it and all later ones, so a layer's reconstruction adds up
what the features of all layers up to it write there. Decoder rows are read for one pair of layers at a time.
"""

from functools import cached_property, reduce

import torch
from torch import Tensor

from atlas.errors import TranscoderError
from ingest.model.identity import Identity
from ingest.model.model import Model, lasting
from ingest.model.records import LayerRun, Run
from ingest.transcoders.activation import Rule, activate, active_features
from ingest.transcoders.description import Description, check_fits
from ingest.transcoders.layer_file import LayerFile
from ingest.transcoders.readers import read_set
from ingest.transcoders.records import Active, Encoded, InputSite, LayerEncoding, OutputSite
from ingest.transcoders.resident import Resident

RESIDENT_BYTES = 32 * 2**30
"""Most that encoders may take on a GPU between graphs; those of a 4B model take 28 GB in bf16."""

_ROWS_AT_ONCE = 16_384  # latents converted to float32 at a time, so that a bf16 encoder is never held twice


class Bank:
    """A transcoder set: one transcoder for each layer of a model, or one across its layers."""

    def __init__(
        self,
        description: Description,
        device: torch.device,
        dtype: torch.dtype,
        resident_bytes: int = RESIDENT_BYTES,
        place: str = "",
    ) -> None:
        """`place` is the folder or hf:// address it was opened from."""
        self.description = description
        self.device = device
        self.dtype = dtype
        self.place = place
        self._resident = Resident(resident_bytes if device.type == "cuda" else 0)
        self._encoded: dict[int, tuple[Tensor, Tensor]] | None = None  # rows that `encode` read: asked for again next

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

    @property
    def cross_layer(self) -> bool:
        """Whether features write into later layers too."""
        return self.description.cross_layer

    def writes_to(self, layer: int) -> range:
        """The layers that features of this one write to."""
        return range(layer, self.n_layers if self.cross_layer else layer + 1)

    def rule(self, layer: int) -> Rule:
        """The activation of one layer."""
        return self.description.rules[layer]

    @cached_property
    def stored_dtype(self) -> torch.dtype:
        """Type of decoder rows as they are stored; of several types the one that holds them all."""
        none = torch.zeros(0, dtype=torch.int64)
        types = [layer.rows("W_dec", none).dtype for layer in self.description.layers]
        return reduce(torch.promote_types, types)

    @property
    def resident_layers(self) -> list[int]:
        """Layers whose encoder is on the device now."""
        return self._resident.layers

    def allow(self, nbytes: int) -> None:
        """Most that resident encoders may take from now on; lets go of the highest layers beyond it. GPUs only."""
        if self.device.type == "cuda":
            self._resident.allow(nbytes)

    def encoder_bytes(self, layer: int) -> int:
        """Bytes of one layer's encoder, as stored: what it takes when it is resident."""
        return self._file(layer).nbytes("W_enc")

    def decoder_bytes(self, layer: int) -> int:
        """Bytes of one layer's decoder, as stored, for all layers it writes to."""
        return self._file(layer).nbytes("W_dec")

    def encode(self, run: Run) -> Encoded:
        """Active features, reconstruction and error of every layer, at every position. Raises TranscoderError."""
        if len(run.layers) != self.n_layers:
            raise TranscoderError(f"{self.name} has {self.n_layers} layers", f"{len(run.layers)}, as the model has")
        self._encoded = {}
        active: list[Active] = []
        layers: list[LayerEncoding] = []
        for number, layer_run in enumerate(run.layers):
            read = site_input(self.input_site, layer_run)
            active.append(active_features(self.activations(number, read)))
            reconstruction = self.decode(number, active[number], read)
            if self.cross_layer:
                for source in range(number):
                    self._write(reconstruction, source, active[source], number)
                self._check_finite(number, reconstruction, "W_dec of this layer or of one below", read)
            true = layer_run.mlp_out if self.output_site is OutputSite.MLP_RAW else layer_run.mlp_write
            assert true is not None
            layers.append(LayerEncoding(active[number], reconstruction, true - reconstruction))
        return Encoded(layers, self.input_site, self.output_site)

    def pre_activations(self, layer: int, read: Tensor) -> Tensor:
        """Pre-activations [T, F] of one layer, given what it reads [T, d]."""
        encoder, bias = self._encoder(layer), self._vector(layer, "b_enc").to(read)
        found = read.new_empty(len(read), len(bias))
        finite = torch.ones((), dtype=torch.bool, device=read.device)
        for start, rows in _chunks(encoder):
            piece = slice(start, start + len(rows))
            found[:, piece] = torch.nn.functional.linear(read, rows.to(read), bias[piece])
            finite &= torch.isfinite(found[:, piece]).all()
        if not bool(finite):
            raise self._not_finite(layer, "W_enc or b_enc", read)
        return found

    def activations(self, layer: int, read: Tensor) -> Tensor:
        """Activations [T, F] of one layer, zero where a feature does not fire."""
        threshold = self._vector(layer, "threshold").to(read) if self._file(layer).has("threshold") else None
        return activate(self.rule(layer), self.pre_activations(layer, read), threshold)

    def decode(self, layer: int, active: Active, read: Tensor) -> Tensor:
        """What one layer's transcoder makes of what it reads [T, d]: bias, skip and its features' writes, [T, d].

        Of a cross-layer set these are the layer's own features only; `encode` adds those of the layers below.
        """
        found = self.decoder_bias(layer).to(read).expand(len(read), -1).clone()
        skip = self.skip(layer)
        if skip is not None:
            found += torch.nn.functional.linear(read, skip.to(read))
        self._write(found, layer, active, layer)
        self._check_finite(layer, found, "W_dec, b_dec or W_skip", read)
        return found

    def _write(self, found: Tensor, layer: int, active: Active, to: int) -> None:
        """Add to `found` [T, d] what active features of a layer write at layer `to`."""
        # one dense product adds up in the same order every time, unlike scattered additions on a GPU
        unique, column = torch.unique(active.indices, return_inverse=True)
        if not len(unique):
            return
        rows = self.decoder_rows(layer, unique, to)
        if self._encoded is not None and not self.cross_layer:
            self._encoded[layer] = unique, rows.to(self.stored_dtype)
        dense = found.new_zeros(len(found), len(unique))
        dense[active.positions, column] = active.values.to(found)
        found += dense @ rows.to(found)

    def decoder_rows(self, layer: int, indices: Tensor, to: int | None = None) -> Tensor:
        """Rows [n, d] that features of a layer write at layer `to` (their own unless said), in the order asked for."""
        if to is not None and to not in self.writes_to(layer):
            raise TranscoderError(f"{self.name}: features of layer {layer} do not write to layer {to}", "a later layer")
        if not self.cross_layer:
            known = (self._encoded or {}).pop(layer, None)
            if known is not None and torch.equal(known[0], indices.to(known[0].device)):
                return self._placed(known[1])
            return self._placed(self._file(layer).rows("W_dec", indices))
        return self._placed(self._file(layer).decoder_rows(indices, 0 if to is None else to - layer))

    def encoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        """Encoder rows [n, d] in the order asked for."""
        kept = self._resident.get(layer)
        if kept is not None:
            return self._placed(kept[indices.to(self.device)])
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
        kept = self._resident.get(layer)
        if kept is not None:
            return kept
        return self._resident.keep(layer, self._file(layer).tensor("W_enc"), self.device)

    def _check_finite(self, layer: int, found: Tensor, names: str, read: Tensor) -> None:
        if not bool(torch.isfinite(found).all()):
            raise self._not_finite(layer, names, read)

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
    resident_bytes: int | None = None,
) -> Bank:
    """Open a set: a folder or hf://org/repo[//sub][@rev]. With a model, check that it fits and follow its device and
    type; else CPU and float32. `resident_bytes` is the most that encoders may take on a GPU. Raises TranscoderError."""
    description = read_set(str(source))
    if model is not None:
        check_fits(description, model)
    place = torch.device(device) if device is not None else torch.device("cpu") if model is None else model.device
    room = RESIDENT_BYTES if resident_bytes is None else resident_bytes
    kind = dtype or (torch.float32 if model is None else model.dtype)
    return Bank(description, place, kind, room, lasting(str(source)))


def site_input(site: InputSite, run: LayerRun) -> Tensor:
    """What an encoder at this site reads [T, d]."""
    if site is InputSite.MLP_IN:
        return run.mlp_in
    assert run.resid_mid is not None
    if site is InputSite.NORMALIZED:
        return run.resid_mid * run.mlp_scale[:, None]
    return run.resid_mid


def _chunks(matrix: Tensor) -> list[tuple[int, Tensor]]:
    return [(start, matrix[start : start + _ROWS_AT_ONCE]) for start in range(0, len(matrix), _ROWS_AT_ONCE)]
