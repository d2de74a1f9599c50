"""Circuits made of numbers: valid, closed and alike enough to be asked about, without a model.

Two circuits of one transcoder set share their features' vectors (drawn per set and layer), and every eighth feature is
nearly a copy of its neighbour, so that near-duplicates exist.
"""

import hashlib
import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np

from atlas.domain.circuit import (
    Activations,
    Circuit,
    Description,
    Edges,
    FeatureVectors,
    HeatMaps,
    Images,
    Incoming,
    Nodes,
    Positions,
    Thumbnails,
)
from atlas.ids import bytes_hash, content_hash

N_LATENTS = 64  # features per layer unless a circuit needs more
HEAT_MAPS = ("rollout", "rollout_excess", "gradient")
_WORDS = ("what", "is", "the", "sum", "of", "these", "digits", "?", "mars", "moons", "colour", "seven")


def make_circuit(
    seed: int = 0,
    n_features: int = 40,
    slug: str | None = None,
    task: str | None = "sum",
    concept: str | None = "seven",
    transcoders: str = "set-a",
    with_images: bool = True,
    partial: bool = False,
    model: str = "tiny-model",
    n_layers: int = 4,
    d_model: int = 16,
    n_text: int = 8,
    n_edges: int | None = None,
    n_active: int | None = None,
    n_latents: int = N_LATENTS,
    expected: str | None = "7",
    pair: str | None = None,
    labels: bool = False,
    picture: int | None = None,
    extra: dict[str, Any] | None = None,
) -> Circuit:
    """A valid circuit. Equal arguments give equal circuits; `seed` decides which features fire and how strongly.

    `partial` makes one as an importer would: no vectors, activations, incoming rows or heat maps. `picture` numbers the
    picture it is about (default: the seed), so that circuits may share one.
    """
    rng = np.random.default_rng([seed, n_features, n_layers])
    images, thumbnails = _pictures(seed if picture is None else picture, with_images)
    positions = _positions(rng, n_text, with_images)
    nodes, order = _nodes(rng, positions, n_features, n_layers, n_latents)
    nodes, edges, incoming = _edges(rng, nodes, order, n_edges or 8 * len(nodes["kind"]), partial, n_latents)
    if labels:
        named = [
            f"label of {layer}/{index}" if kind == "feature" else None
            for kind, layer, index in zip(nodes["kind"], nodes["layer"], nodes["index"], strict=True)
        ]
        nodes["label"] = named
    table = Nodes(**nodes)
    heat_maps, overlays = _heat_maps(rng, positions, partial)
    identity = {
        "format": 1,
        "model": model,
        "transcoders": transcoders,
        "seed": seed,
        "n_features": n_features,
        "tokens": [int(t) for t in positions.token_id],
        "images": list(images.sha),
        "attribution": {"convention": "exact", "node_threshold": 0.8, "edge_threshold": 0.98},
        "precision": "fp32",
        "partial": partial,
        "shape": [n_layers, d_model, n_text, n_latents, len(edges), n_active or 0, labels],
    }
    graph_id = content_hash(identity)
    prompt = " ".join(str(text) for text in positions.text if not str(text).startswith("<"))
    return Circuit(
        id=graph_id,
        identity=identity,
        provenance={"device": "cpu", "versions": {"atlas": "0"}, "seconds": {"run": 0.5, "attribute": 1.25}},
        description=Description(slug or f"graph-{seed}", prompt, task, concept, pair, expected, extra),
        source="circuit-tracer" if partial else "trace",
        model=model,
        transcoders=transcoders,
        n_layers=n_layers,
        answer=str(table.text[np.flatnonzero(table.is_answer)[0]]),
        partial=partial,
        scores={
            "replacement": float(rng.uniform(0.3, 0.9)),
            "completeness": float(rng.uniform(0.5, 0.95)),
            "bias_share": 0.1,
            "error_share": 0.2,
            "logit_mass": 0.96,
            "worst_residue": 3.2e-6,
        },
        positions=positions,
        nodes=table,
        edges=edges,
        incoming=incoming,
        activations=Activations.empty()
        if partial
        else _activations(rng, table, positions, n_active, n_latents, n_layers),
        images=images,
        thumbnails=_join(thumbnails, overlays),
        heat_maps=heat_maps,
        vectors=None if partial else _vectors(table, transcoders, n_layers, n_latents, d_model),
        foreign={"metadata": {"scan": model}, "qParams": {}} if partial else None,
    )


@lru_cache(maxsize=64)
def feature_rows(transcoders: str, layer: int, n_latents: int, d_model: int) -> tuple[np.ndarray, np.ndarray]:
    """(decoder, encoder) float32 [n_latents, d_model] of a layer of a made-up set; row 8k + 1 is nearly row 8k."""
    digest = hashlib.sha256(f"{transcoders}/{layer}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    decoder = rng.standard_normal((n_latents, d_model)).astype(np.float32)
    copies = np.arange(1, n_latents, 8)
    decoder[copies] = decoder[copies - 1] * 1.5 + 0.1 * decoder[copies]
    return decoder, rng.standard_normal((n_latents, d_model)).astype(np.float32)


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG of uint8 [height, width]."""
    height, width = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def _pictures(number: int, with_images: bool) -> tuple[Images, Thumbnails]:
    if not with_images:
        return Images.empty(), Thumbnails.empty()
    rng = np.random.default_rng([77, number])
    small = png(rng.integers(0, 255, (8, 8), dtype=np.uint8))
    images = Images(
        image=[0],
        sha=[bytes_hash(b"picture %d" % number)],
        name=[f"picture-{number}.png"],
        width=[112],
        height=[112],
        thumbnail=[bytes_hash(small)],
    )
    return images, _thumbnails([small])


def _thumbnails(pictures: list[bytes]) -> Thumbnails:
    distinct = {bytes_hash(data): data for data in pictures}
    n = len(distinct)
    return Thumbnails(
        sha=list(distinct), media_type=["image/png"] * n, width=[8] * n, height=[8] * n, data=list(distinct.values())
    )


def _join(first: Thumbnails, second: Thumbnails) -> Thumbnails:
    return _thumbnails([*first.data, *second.data])


def _positions(rng: np.random.Generator, n_text: int, with_images: bool) -> Positions:
    grid = [(r, c) for r in range(2) for c in range(2)] if with_images else []
    n_image, n = len(grid), 1 + len(grid) + n_text
    words = [int(w) for w in rng.integers(0, len(_WORDS), n_text)]
    tail = [-1] * n_text
    return Positions(
        position=np.arange(n),
        token_id=[2] + [262144] * n_image + [100 + w for w in words],
        text=["<bos>"] + ["<image_soft_token>"] * n_image + [_WORDS[w] for w in words],
        modality=["text"] + ["image"] * n_image + ["text"] * n_text,
        image=[-1] + [0] * n_image + tail,
        crop=[-1] + [0] * n_image + tail,
        row=[-1] + [r for r, _ in grid] + tail,
        col=[-1] + [c for _, c in grid] + tail,
    )


def _nodes(
    rng: np.random.Generator, positions: Positions, n_features: int, n_layers: int, n_latents: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of the nodes, sorted by layer, and per node the number of nodes upstream of it."""
    n_positions = len(positions)
    wanted = set()
    while len(wanted) < min(n_features, n_layers * n_latents * n_positions // 2):
        layer, position = int(rng.integers(n_layers)), int(rng.integers(n_positions))
        wanted.add((layer, int(n_latents * rng.random() ** 2), position))
    rows: list[tuple[int, str, int, int]] = [(layer, "feature", index, pos) for layer, index, pos in wanted]
    for layer in range(n_layers):
        rows.append((layer, "error", 0, int(rng.integers(n_positions))))
        rows.append((layer, "bias", 0, int(rng.integers(n_positions))))
    for position in range(n_positions):
        kind = "image" if positions.modality[position] == "image" else "token"
        rows.append((-1, kind, int(positions.token_id[position]), position))
    rows += [(n_layers, "logit", 107 + rank, n_positions - 1) for rank in range(3)]
    rows.sort()
    layer = np.array([row[0] for row in rows])
    kind = [row[1] for row in rows]
    is_feature, is_logit = np.array([k == "feature" for k in kind]), np.array([k == "logit" for k in kind])
    texts: list[str | None] = [None] * len(rows)
    for at, (_, k, index, position) in enumerate(rows):
        if k in {"token", "image"}:
            texts[at] = str(positions.text[position])
        elif k == "logit":
            texts[at] = str(index - 100)
    probability = np.full(len(rows), np.nan)
    probability[is_logit] = (0.8, 0.1, 0.06)
    influence = np.sort(rng.exponential(size=len(rows)))[::-1]
    nodes = {
        "kind": kind,
        "layer": layer,
        "index": [row[2] for row in rows],
        "position": [row[3] for row in rows],
        "text": texts,
        "label": [None] * len(rows),
        "activation": np.where(is_feature, rng.exponential(size=len(rows)) + 0.1, np.nan),
        "own_bias": np.where(is_feature, rng.normal(size=len(rows)), np.where(is_logit, 0.0, np.nan)),
        "influence": influence,
        "cumulative": np.minimum(np.cumsum(influence) / influence.sum(), 1.0),
        "probability": probability,
        "is_answer": probability == 0.8,
        "original_id": [None] * len(rows),
        "extra": [None] * len(rows),
    }
    return nodes, np.searchsorted(layer, layer, side="left")


def _edges(
    rng: np.random.Generator, nodes: dict[str, Any], upstream: np.ndarray, n_edges: int, partial: bool, n_latents: int
) -> tuple[dict[str, Any], Edges, Incoming]:
    """Edges to features and logits; the incoming rows are the edges, some pruned sources, and a small tail."""
    n = len(upstream)
    targets = np.array([at for at, kind in enumerate(nodes["kind"]) if kind in {"feature", "logit"}])
    target = rng.choice(targets, n_edges)
    source = (rng.random(n_edges) * upstream[target]).astype(np.int64)
    pair = np.unique(source * n + target)
    source, target = pair // n, pair % n
    weight = (rng.standard_normal(len(pair)) * np.exp(rng.normal(size=len(pair)))).astype(np.float32)
    pruned_target = np.repeat(targets, 0 if partial else 2)
    pruned_weight = (0.01 * rng.standard_normal(len(pruned_target))).astype(np.float32)
    tail_sum = np.where(np.isin(np.arange(n), targets), 1e-4 * rng.standard_normal(n), 0.0)
    total_abs = (
        np.abs(tail_sum) + np.bincount(target, np.abs(weight), n) + np.bincount(pruned_target, np.abs(pruned_weight), n)
    )
    total = tail_sum + np.bincount(target, weight, n) + np.bincount(pruned_target, pruned_weight, n)
    if partial:
        tail_sum = np.full(n, np.nan)
    is_target = np.isin(np.arange(n), targets)
    nodes = nodes | {
        "pre_activation": np.where(is_target, total + nodes["own_bias"], np.nan),
        "incoming_abs": np.where(is_target, total_abs, np.nan),
        "tail_sum": np.where(is_target, tail_sum, np.nan),
        "tail_abs": np.where(is_target, np.abs(tail_sum), np.nan),
        "residue": np.where(is_target & (not partial), 1e-6 * rng.standard_normal(n), np.nan),
    }
    edges = Edges(source=source, target=target, weight=weight, share=np.abs(weight) / total_abs[target])
    if partial:
        return nodes, edges, Incoming.empty()
    kind, layer = np.array(nodes["kind"], dtype=object), np.asarray(nodes["layer"])
    index, position = np.asarray(nodes["index"]), np.asarray(nodes["position"])
    m = len(pruned_target)
    incoming = Incoming(
        target=np.concatenate([target, pruned_target]),
        kind=np.concatenate([kind[source], np.array(["error", "bias"] * (m // 2), dtype=object)]),
        layer=np.concatenate([layer[source], np.zeros(m, dtype=int)]),
        index=np.concatenate([index[source], np.zeros(m, dtype=int)]),
        position=np.concatenate([position[source], rng.integers(0, position.max() + 1, m)]),
        weight=np.concatenate([weight, pruned_weight]),
    )
    return nodes, edges, incoming


def _activations(
    rng: np.random.Generator, nodes: Nodes, positions: Positions, n_active: int | None, n_latents: int, n_layers: int
) -> Activations:
    kept = nodes.take(nodes.kind == "feature")
    rows = {
        (int(a), int(b), int(c)): float(d)
        for a, b, c, d in zip(kept.layer, kept.index, kept.position, kept.activation, strict=True)
    }
    limit = n_layers * n_latents * len(positions) // 2
    wanted = min(max(n_active or 3 * len(kept), len(rows)), max(limit, len(rows)))
    while len(rows) < wanted:
        key = (int(rng.integers(n_layers)), int(rng.integers(n_latents)), int(rng.integers(len(positions))))
        rows.setdefault(key, float(rng.exponential() + 0.01))
    keys = sorted(rows)
    return Activations(
        layer=[k[0] for k in keys],
        index=[k[1] for k in keys],
        position=[k[2] for k in keys],
        activation=[rows[k] for k in keys],
    )


def _heat_maps(rng: np.random.Generator, positions: Positions, partial: bool) -> tuple[HeatMaps, Thumbnails]:
    where = [] if partial else [int(p) for p in positions.position[positions.modality == "image"]]
    rows = [(position, name) for position in where for name in HEAT_MAPS]
    pictures = [png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in rows]
    heat_maps = HeatMaps(
        position=[p for p, _ in rows],
        name=[name for _, name in rows],
        height=[8] * len(rows),
        width=[8] * len(rows),
        values=[rng.random(64, dtype=np.float32) for _ in rows],
        thumbnail=[bytes_hash(data) for data in pictures],
    )
    return heat_maps, _thumbnails(pictures)


def _vectors(nodes: Nodes, transcoders: str, n_layers: int, n_latents: int, d_model: int) -> FeatureVectors:
    kept = nodes.take(nodes.kind == "feature")
    pairs = sorted({(int(layer), int(index)) for layer, index in zip(kept.layer, kept.index, strict=True)})
    rows = [
        tuple(table[index] for table in feature_rows(transcoders, layer, n_latents, d_model)) for layer, index in pairs
    ]
    stacked = np.array(rows, dtype=np.float32).reshape(len(pairs), 2, d_model)
    gain = np.linspace(0.5, 1.5, n_layers * d_model, dtype=np.float32).reshape(n_layers, d_model)
    return FeatureVectors(
        layer=np.array([p[0] for p in pairs], dtype=np.int16),
        index=np.array([p[1] for p in pairs], dtype=np.int64),
        decoder=stacked[:, 0].copy(),
        encoder=stacked[:, 1].copy(),
        write_gain=gain,
    )
