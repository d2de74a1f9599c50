"""One layer's transcoder in a safetensors file, under names and orientations of our own.

Files are memory-mapped by safetensors: taking rows of a matrix reads those rows, not the matrix.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atlas.errors import TranscoderError

STORED_NAMES: dict[str, tuple[str, ...]] = {
    "W_enc": ("W_enc", "w_enc"),
    "W_dec": ("W_dec", "w_dec"),
    "b_enc": ("b_enc",),
    "b_dec": ("b_dec",),
    "W_skip": ("W_skip", "affine_skip_connection"),
    "threshold": ("activation_function.threshold", "threshold"),
    "k": ("k",),
}
"""Our name of each tensor, and the names published sets give it."""

TRANSPOSED = frozenset({"w_enc", "affine_skip_connection"})
"""Stored [in, out] by the sets that use these names (Gemma Scope 2); everything else is [out, in]."""

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class LayerFile:
    """Where one layer's tensors are, and their sizes. Row = latent in both matrices, however the file lies."""

    path: Path
    """The safetensors file."""
    stored: dict[str, str]
    """Our names of the tensors present, and the file's."""
    latents: int
    """F."""
    width: int
    """d."""

    def has(self, name: str) -> bool:
        """Whether the file holds this tensor."""
        return name in self.stored

    def tensor(self, name: str) -> Tensor:
        """A whole tensor in our orientation; pages are read when its values are."""
        with _opened(self.path) as file:
            stored = self.stored[name]
            value: Tensor = file.get_tensor(stored)
            return value.T if stored in TRANSPOSED else value

    def rows(self, name: str, indices: Tensor) -> Tensor:
        """Rows [n, ...] of a tensor, in the order asked for; repeated rows are read once."""
        unique, place = torch.unique(indices.cpu(), return_inverse=True)
        return self.tensor(name).index_select(0, unique)[place]

    def nbytes(self, name: str) -> int:
        """Size of a matrix in the file."""
        with _opened(self.path) as file:
            piece = file.get_slice(self.stored[name])
            count = 1
            for side in piece.get_shape():
                count *= side
            return int(count) * {"F64": 8, "F32": 4}.get(piece.get_dtype(), 2)


def open_layer(path: Path) -> LayerFile:
    """Read a file's header and check names, types and shapes. Raises TranscoderError."""
    if path.suffix != ".safetensors":
        raise TranscoderError(
            f"{path} is not a safetensors file",
            "layer_{i}.safetensors; pickled files may run code",
            "Convert it with safetensors.torch.save_file",
        )
    if not path.is_file():
        raise TranscoderError(f"no file {path}", "one safetensors file for each layer", "Copy the set again")
    with _opened(path) as file:
        keys = set(file.keys())
        stored = {ours: name for ours, names in STORED_NAMES.items() for name in names if name in keys}
        absent = [name for name in ("W_enc", "W_dec", "b_enc", "b_dec") if name not in stored]
        if absent:
            raise TranscoderError(
                f"{path} has no {' and no '.join(absent)} (found {', '.join(sorted(keys)) or 'nothing'})",
                "W_enc [F, d], W_dec [F, d], b_enc [F], b_dec [d]",
                "Rename its tensors, or name another set",
            )
        if "log_thresholds" in keys:
            raise TranscoderError(f"{path} holds log_thresholds", "thresholds under `threshold`", "Store exp of them")
        shapes = {ours: tuple(file.get_slice(name).get_shape()) for ours, name in stored.items()}
        types = {ours: file.get_slice(name).get_dtype() for ours, name in stored.items()}
    _check(path, stored, shapes, types)
    return LayerFile(path, stored, shapes["b_enc"][0], shapes["b_dec"][0])


def _check(path: Path, stored: dict[str, str], shapes: dict[str, tuple[int, ...]], types: dict[str, str]) -> None:
    for name in ("b_enc", "b_dec"):
        if len(shapes[name]) != 1:
            raise TranscoderError(f"{path}: {name} has shape {list(shapes[name])}", "a vector")
    latents, width = shapes["b_enc"][0], shapes["b_dec"][0]
    wanted: dict[str, tuple[int, ...]] = {
        "W_enc": (latents, width),
        "W_dec": (latents, width),
        "W_skip": (width, width),
        "threshold": (latents,),
    }
    for name in wanted.keys() & stored.keys():
        expected = wanted[name][::-1] if stored[name] in TRANSPOSED else wanted[name]
        if shapes[name] != expected:
            raise TranscoderError(
                f"{path}: {stored[name]} has shape {list(shapes[name])}",
                f"{list(expected)}, since b_enc has {latents} and b_dec {width} entries",
                "Store latents as rows",
            )
    for name in stored.keys() - {"k"}:
        if types[name] not in _FLOATS:
            raise TranscoderError(f"{path}: {stored[name]} is of type {types[name]}", f"one of {', '.join(_FLOATS)}")


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise TranscoderError(
            f"{path} cannot be read ({error})",
            "a whole safetensors file",
            "Copy or download it again",
        ) from error
