"""From what a trace found to the Circuit record that is written: positions, pictures, vectors, provenance.

`gather` and `provenance` ask the model; `assemble` works on the host alone, so that it may run beside the next trace.
"""

import platform
import resource
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image

from atlas.domain.circuit import (
    Activations,
    Circuit,
    Description,
    FeatureVectors,
    HeatMaps,
    Images,
    Positions,
    Thumbnails,
)
from atlas.domain.example import Example
from atlas.ids import content_hash, default_slug
from atlas.pictures import Thumbnail, overlay, thumbnail
from ingest.attribution.result import Attribution
from ingest.model.inputs import Position
from ingest.model.model import Model
from ingest.rollout.attention import HeatMaps as Maps
from ingest.transcoders.bank import Bank
from ingest.transcoders.records import Encoded, OutputSite


@dataclass(frozen=True)
class Traced:
    """What steps 1 to 11 of the pipeline found; nothing of it is on a device."""

    identity: dict[str, Any]
    """All that can change the graph."""
    provenance: dict[str, Any]
    """How it was made."""
    example: Example
    """What was asked."""
    images: list[Image.Image]
    """Its pictures."""
    positions: list[Position]
    """What stands at each position."""
    n_layers: int
    """Layers of the language model."""
    activations: Activations
    """Every active feature."""
    graph: Attribution
    """Nodes and edges kept."""
    vectors: FeatureVectors
    """Decoder and encoder rows of the features kept."""
    maps: Maps
    """Heat maps of the image positions kept."""
    answer: str
    """What the model says."""


def gather(encoded: Encoded, graph: Attribution, model: Model, bank: Bank) -> tuple[Activations, FeatureVectors]:
    """Every active feature, and the rows of those kept, off the device."""
    return _activations(encoded), _vectors(graph, model, bank)


def assemble(traced: Traced) -> Circuit:
    """One Circuit, complete."""
    graph_id = content_hash(traced.identity)
    small = [thumbnail(picture) for picture in traced.images]
    heat_maps, overlays = _heat_maps(traced)
    thumbnails = {item.sha: item for item in [*small, *overlays]}
    return Circuit(
        id=graph_id,
        identity=traced.identity,
        provenance=traced.provenance,
        description=describe(traced.example, graph_id),
        source="trace",
        model=traced.provenance["model_name"],
        transcoders=traced.identity["transcoders"],
        n_layers=traced.n_layers,
        answer=traced.answer,
        partial=False,
        scores=traced.graph.scores,
        positions=_positions(traced.positions),
        nodes=traced.graph.nodes,
        edges=traced.graph.edges,
        incoming=traced.graph.incoming,
        activations=traced.activations,
        images=_images(traced, small),
        thumbnails=Thumbnails.of(
            sha=list(thumbnails),
            media_type=[item.media_type for item in thumbnails.values()],
            width=[item.width for item in thumbnails.values()],
            height=[item.height for item in thumbnails.values()],
            data=[item.data for item in thumbnails.values()],
        ),
        heat_maps=heat_maps,
        vectors=traced.vectors,
    )


def describe(example: Example, graph_id: str) -> Description:
    """What only describes a graph: from its prompt line."""
    return Description(
        slug=example.slug or default_slug(example.prompt, graph_id),
        prompt=example.prompt,
        task=example.task,
        concept=example.concept,
        pair=example.pair,
        expected=example.expected,
        extra=example.extra or None,
    )


def redescribe(old: Description, example: Example) -> Description:
    """The description of a graph that is there already: what this line says replaces, what it does not say stays."""
    said = {
        name: value
        for name in ("slug", "task", "concept", "pair", "expected")
        if (value := getattr(example, name)) is not None
    }
    return replace(old, prompt=example.prompt, extra={**(old.extra or {}), **example.extra} or None, **said)


def _positions(positions: list[Position]) -> Positions:
    def grid(name: str) -> list[int]:
        values = (getattr(position, name) for position in positions)
        return [-1 if value is None else value for value in values]

    return Positions.of(
        position=[p.index for p in positions],
        token_id=[p.token_id for p in positions],
        text=[p.text for p in positions],
        modality=[p.modality for p in positions],
        image=grid("image"),
        crop=grid("crop"),
        row=grid("row"),
        col=grid("col"),
    )


def _activations(encoded: Encoded) -> Activations:
    actives = [layer.active for layer in encoded.layers]
    return Activations.of(
        layer=np.concatenate([np.full(len(active), layer) for layer, active in enumerate(actives)]),
        index=np.concatenate([active.indices.cpu().numpy() for active in actives]),
        position=np.concatenate([active.positions.cpu().numpy() for active in actives]),
        activation=np.concatenate([active.values.float().cpu().numpy() for active in actives]),
    )


def _images(traced: Traced, small: list[Thumbnail]) -> Images:
    shas = traced.identity["images"]
    return Images.of(
        image=list(range(len(shas))),
        sha=shas,
        name=[path.name for path in traced.example.images],
        width=[picture.width for picture in traced.images],
        height=[picture.height for picture in traced.images],
        thumbnail=[item.sha for item in small],
    )


def _heat_maps(traced: Traced) -> tuple[HeatMaps, list[Thumbnail]]:
    """One row per image position kept and kind of map; the overlay only where the map covers the whole picture."""
    rows: dict[str, list[Any]] = {"position": [], "name": [], "height": [], "width": [], "values": [], "thumbnail": []}
    overlays = []
    for row, position in enumerate(traced.maps.positions.tolist()):
        place = traced.positions[position]
        for name in ("rollout", "rollout_excess", "gradient"):
            maps = getattr(traced.maps, name)
            if maps is None:
                continue
            values = maps[row].float().cpu().numpy()
            sha = None
            if place.crop == 0 and place.image is not None:
                overlays.append(overlay(traced.images[place.image], values))
                sha = overlays[-1].sha
            for key, value in zip(rows, (position, name, *values.shape, values.ravel(), sha), strict=True):
                rows[key].append(value)
    return HeatMaps.of(**rows), overlays


def _vectors(graph: Attribution, model: Model, bank: Bank) -> FeatureVectors:
    nodes = graph.nodes
    chosen = nodes.kind == "feature"
    pairs = np.unique(np.stack([nodes.layer[chosen].astype(np.int64), nodes.index[chosen]], axis=1), axis=0)
    decoder, encoder = [np.zeros((0, model.facts.width), np.float32)], [np.zeros((0, model.facts.width), np.float32)]
    for layer in np.unique(pairs[:, 0]).tolist():
        rows = torch.from_numpy(pairs[pairs[:, 0] == layer, 1])
        decoder.append(_decoder(layer, rows, model, bank).float().cpu().numpy())
        encoder.append(bank.encoder_rows(layer, rows).float().cpu().numpy())
    return FeatureVectors(
        layer=pairs[:, 0].astype(np.int16),
        index=pairs[:, 1],
        decoder=np.concatenate(decoder),
        encoder=np.concatenate(encoder),
        write_gain=_write_gain(model, bank),
    )


def _decoder(layer: int, indices: torch.Tensor, model: Model, bank: Bank) -> torch.Tensor:
    """[n, d] decoder rows; of a cross-layer set the sum of what a feature writes to the stream, post-norm gains in."""
    if not bank.cross_layer:
        return bank.decoder_rows(layer, indices)
    gains = _gains(model, bank)
    parts = [
        bank.decoder_rows(layer, indices, to) * (1 if gains is None else gains[to]) for to in bank.writes_to(layer)
    ]
    return torch.stack(parts).sum(dim=0)


def _write_gain(model: Model, bank: Bank) -> np.ndarray | None:
    gains = None if bank.cross_layer else _gains(model, bank)
    return None if gains is None else gains.float().cpu().numpy()


def _gains(model: Model, bank: Bank) -> torch.Tensor | None:
    """[L, d] gains between what a decoder reconstructs and the stream; None where nothing comes between."""
    gains = [layer.mlp_post_gain for layer in model.weights().layers]
    found = [gain for gain in gains if gain is not None]
    return None if bank.output_site is OutputSite.MLP_WRITE or len(found) < len(gains) else torch.stack(found)


def provenance(example: Example, maps: Maps, seconds: dict[str, float], model: Model, bank: Bank) -> dict[str, Any]:
    """How a graph was made; `seconds` is the wall time per phase."""
    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_name": model.identity.name,
        "transcoders_name": bank.identity.name,
        "model_place": model.place,
        "transcoders_place": bank.place,
        "images": [str(path.absolute()) for path in example.images],
        "device": f"{device.type}: {name}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "transformers", "circuit-atlas")},
        "threads": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "rollout": asdict(maps.settings),
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(device),
    }


def peak_memory(device: torch.device) -> int:
    """Most memory the process ever held: the GPU's if there is one, else resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes
