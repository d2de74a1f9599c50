"""Make-believe circuits with real pictures: a chat prompt about digits, a full grid of soft tokens per picture."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from atlas.domain.circuit import Circuit, Edges, Images, Nodes, Positions, Thumbnails
from atlas.pictures import thumbnail
from tests.factory import make_circuit

CHAT = ["<bos>", "<start_of_turn>", "user", "\n", "\n\n", "<start_of_image>"]
QUESTION = [
    "<end_of_image>",
    "\n\n",
    "what",
    " is",
    " the",
    " sum",
    " ?",
    "<end_of_turn>",
    "\n",
    "<start_of_turn>",
    "model",
    "\n",
]


def pictured(
    seed: int = 0,
    side: int = 16,
    n_layers: int = 4,
    n_features: int = 300,
    n_pictures: int = 1,
    prompt: str = "what is the sum ?",
) -> Circuit:
    """A circuit whose influence lies on the digits of its pictures and on the last position."""
    rng = np.random.default_rng(seed)
    positions = _positions(side, n_pictures)
    hot = [(side // 3, side // 4), (side // 3, 3 * side // 4), (side // 2, side // 4), (side // 2, 3 * side // 4)]
    place = [_near(rng, positions, hot) for _ in range(n_features)]
    layer = np.sort(rng.integers(0, n_layers, n_features))
    parts = [("feature", int(a), int(rng.integers(0, 4096)), p) for a, p in zip(layer, place)]
    parts += [("error", int(rng.integers(0, n_layers)), 0, int(p)) for p in place[:20]]
    parts += [("image" if m == "image" else "token", -1, 100 + at, at) for at, m in enumerate(positions.modality)]
    last = len(positions) - 1
    parts += [("logit", n_layers, 500 + rank, last) for rank in range(4)]
    parts = list(dict.fromkeys(parts))
    n = len(parts)
    kind = np.array([part[0] for part in parts], dtype=object)
    levels = np.array([part[1] for part in parts])
    at = np.array([part[3] for part in parts])
    influence = rng.exponential(size=n) ** 2
    for row in np.flatnonzero(kind == "image"):
        cell = (int(positions.row[at[row]]), int(positions.col[at[row]]))
        influence[row] *= 4 * np.exp(-min(abs(cell[0] - r) + abs(cell[1] - c) for r, c in hot))
    probability = np.full(n, np.nan)
    probability[kind == "logit"] = (0.86, 0.07, 0.03, 0.01)
    missing = np.full(n, np.nan)
    nodes = Nodes(
        kind=kind,
        layer=levels,
        index=[part[2] for part in parts],
        position=at,
        text=[
            {500: "seven", 501: "eight", 502: "six", 503: "nine"}.get(part[2]) if part[0] == "logit" else None
            for part in parts
        ],
        label=[None] * n,
        activation=missing,
        own_bias=missing,
        pre_activation=missing,
        influence=influence,
        cumulative=np.cumsum(influence) / influence.sum(),
        incoming_abs=missing,
        tail_sum=missing,
        tail_abs=missing,
        residue=missing,
        probability=probability,
        is_answer=probability == 0.86,
        original_id=[None] * n,
        extra=[None] * n,
    )
    source, target = rng.integers(0, n, 6000), rng.integers(0, n, 6000)
    fits = (levels[source] < levels[target]) & (at[source] <= at[target]) & np.isin(kind[target], ["feature", "logit"])
    source, target = np.unique(np.stack([source[fits], target[fits]]), axis=1)
    weight = rng.normal(size=len(source)) * np.exp(rng.normal(size=len(source)))
    total = np.bincount(target, np.abs(weight), n)
    pictures = [thumbnail(digits(seed + number)) for number in range(n_pictures)]
    distinct = {item.sha: item for item in pictures}.values()
    base = make_circuit(seed, with_images=False, partial=True)
    return replace(
        base, description=replace(base.description, prompt=prompt, expected="seven", slug="sum-of-two"), answer="seven",
        source="trace", n_layers=n_layers, positions=positions, nodes=nodes,
        edges=Edges(source, target, weight, np.abs(weight) / total[target]),
        images=Images(np.arange(n_pictures), [item.sha for item in pictures], [f"{i}.png" for i in range(n_pictures)],
                      [224] * n_pictures, [224] * n_pictures, [item.sha for item in pictures]),
        thumbnails=Thumbnails([item.sha for item in distinct], [item.media_type for item in distinct],
                              [item.width for item in distinct], [item.height for item in distinct],
                              [item.data for item in distinct]),
    )  # fmt: skip


def digits(seed: int) -> Image.Image:
    """Two digits on a dark ground."""
    picture = Image.new("RGB", (224, 224), (24, 28, 52))
    pen = ImageDraw.Draw(picture)
    pen.text((30, 50), str(seed % 10), fill=(250, 220, 120), font_size=110)
    pen.text((130, 50), str((seed + 4) % 10), fill=(120, 220, 250), font_size=110)
    return picture


def _positions(side: int, n_pictures: int) -> Positions:
    columns: dict[str, list[object]] = {name: [] for name in ("text", "modality", "image", "row", "col")}

    def words(texts: list[str]) -> None:
        for text in texts:
            _append(columns, text, "text", -1, -1, -1)

    words(CHAT)
    for picture in range(n_pictures):
        for cell in range(side * side):
            _append(columns, "<image_soft_token>", "image", picture, *divmod(cell, side))
        if picture < n_pictures - 1:
            words(["<end_of_image>", "and", "<start_of_image>"])
    words(QUESTION)
    count = len(columns["text"])
    return Positions(
        position=np.arange(count), token_id=np.arange(100, 100 + count), text=columns["text"],
        modality=columns["modality"],
        image=columns["image"], crop=[0 if m == "image" else -1 for m in columns["modality"]], row=columns["row"],
        col=columns["col"],
    )  # fmt: skip


def _append(columns: dict[str, list[object]], *values: object) -> None:
    for name, value in zip(columns, values, strict=True):
        columns[name].append(value)


def _near(rng: np.random.Generator, positions: Positions, hot: list[tuple[int, int]]) -> int:
    """A position: mostly on a digit or at the end, now and then anywhere."""
    draw = rng.random()
    if draw < 0.45:
        row, col = hot[int(rng.integers(len(hot)))]
        cells = np.flatnonzero(
            (positions.row == row + rng.integers(-1, 2)) & (positions.col == col + rng.integers(-1, 2))
        )
        return int(rng.choice(cells)) if len(cells) else len(positions) - 1
    return len(positions) - 1 if draw < 0.75 else int(rng.integers(len(positions) - 12, len(positions)))
