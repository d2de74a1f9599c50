"""Reading a published transcoder set: config.yaml and one safetensors file for each layer.

The config says where features read and write and which activation they have; files are `layer_{i}.safetensors` beside
it, or a list under `transcoders:` in layer order. Keys of two dialects are understood:

    top_k              the vision-language sets: absent means 48, null means no cut
    activation, k      circuit-tracer's: topk with k, or relu

Thresholds in the files mean JumpReLU. Only headers are read here.
"""

import json
import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from atlas.errors import TranscoderError
from ingest.model.identity import Identity, content_hash
from ingest.transcoders.activation import JumpReLU, ReLU, Rule, TopK
from ingest.transcoders.layer_file import LayerFile, open_layer
from ingest.transcoders.records import InputSite, OutputSite
from ingest.transcoders.source import FetchedFile, Place, find_file, find_set

DEFAULT_K = 48
"""Cut of sets whose config does not mention one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """A set as its files describe it."""

    place: Place
    """Where it is."""
    model_name: str | None
    """The model it was made for, as its config says."""
    input_site: InputSite
    """Where features read."""
    output_site: OutputSite
    """What decoders reconstruct."""
    rules: list[Rule]
    """Activation of each layer."""
    layers: list[LayerFile]
    """File of each layer."""
    origins: list[str | None]
    """repository/path@commit of files that come from elsewhere on the Hub."""

    def identity(self) -> Identity:
        """Repository and commit, or the hash of config and files; reads whole files once."""
        if self.place.revision is not None and not any(self.origins):
            return Identity(self.place.name, self.place.revision, None)
        config = self.place.folder / "config.yaml"
        local = {f"{n}": layer.path for n, layer in enumerate(self.layers) if self.origins[n] is None}
        parts = [self.origins, content_hash({"config.yaml": config, **local})]
        return Identity(self.place.name, self.place.revision, sha256(json.dumps(parts).encode()).hexdigest())


def read_set(source: str) -> Description:
    """Read a set's config and the headers of its files. Raises TranscoderError."""
    place = find_set(source)
    path = place.folder / "config.yaml"
    config = _read_config(path)
    kind = config.get("model_kind")
    if kind != "transcoder_set":
        raise TranscoderError(
            f"{path}: model_kind is {kind!r}",
            "transcoder_set, one transcoder for each layer",
            "Name another set; cross-layer transcoders are not read yet",
        )
    files = _files(config, place)
    layers = [open_layer(file.path) for file in files]
    _check_equal_width(layers)
    _check_layer_list(config, path, len(layers))
    return Description(
        place=place,
        model_name=_optional_text(config, "model_name"),
        input_site=_site(InputSite, config, "feature_input_hook", path),
        output_site=_site(OutputSite, config, "feature_output_hook", path),
        rules=[_rule(config, path, layer) for layer in layers],
        layers=layers,
        origins=[file.origin for file in files],
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        pickles = sorted(p.name for p in path.parent.glob("*") if p.suffix in {".pt", ".pth", ".bin", ".pkl"})
        if pickles:
            raise TranscoderError(
                f"{path.parent} holds pickled weights ({pickles[0]}), which may run code",
                "config.yaml and layer_{i}.safetensors",
                "Convert them with safetensors.torch.save_file",
            )
        raise TranscoderError(
            f"{path.parent} has no config.yaml",
            "config.yaml beside layer_{i}.safetensors",
            "Name the set's folder",
        )
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise TranscoderError(f"{path} cannot be read ({' '.join(str(error).split())})", "YAML") from error
    if not isinstance(config, dict):
        raise TranscoderError(f"{path} holds a {type(config).__name__}", "keys and values (model_kind: transcoder_set)")
    return config


def _files(config: dict[str, Any], place: Place) -> list[FetchedFile]:
    """One file for each layer, in layer order."""
    listed = config.get("transcoders")
    path = place.folder / "config.yaml"
    if listed is not None:
        if not isinstance(listed, list) or not listed or not all(isinstance(entry, str) for entry in listed):
            raise TranscoderError(f"{path}: `transcoders` is {listed!r:.80}", "a list of files, one for each layer")
        return [find_file(entry, place.folder) for entry in listed]
    found = sorted(place.folder.glob("layer_*.safetensors"))
    if not found:
        pickles = sorted(p.name for p in place.folder.iterdir() if p.suffix in {".pt", ".pth", ".bin", ".pkl"})
        also = f", only {pickles[0]}, and pickled files may run code" if pickles else ""
        raise TranscoderError(
            f"{place.folder} has no layer_*.safetensors{also}",
            "layer_0.safetensors and so on, one for each layer",
            "Copy the files beside config.yaml, or convert them to safetensors",
        )
    names = {file.name for file in found}
    ordered = [place.folder / f"layer_{layer}.safetensors" for layer in range(len(found))]
    for file in ordered:
        if file.name not in names:
            raise TranscoderError(
                f"{place.folder} has {len(found)} layer files and no {file.name}",
                f"layers 0 to {len(found) - 1}",
                "Copy the missing file; sets of some layers only cannot explain a model",
            )
    return [FetchedFile(file, None) for file in ordered]


def _check_equal_width(layers: list[LayerFile]) -> None:
    for layer in layers:
        if layer.width != layers[0].width:
            raise TranscoderError(f"{layer.path} has width {layer.width}", f"{layers[0].width}, as layer 0 has")


def _check_layer_list(config: dict[str, Any], path: Path, count: int) -> None:
    listed, total = config.get("layers"), config.get("num_model_layers")
    if listed is not None and listed != list(range(count)):
        raise TranscoderError(f"{path}: `layers` is {listed!r:.80}", f"0 to {count - 1}, for {count} files")
    if total is not None and total != count:
        raise TranscoderError(
            f"{path}: `num_model_layers` is {total!r}, for {count} files",
            "a file for each layer of the model",
            "Copy the missing files",
        )


def _rule(config: dict[str, Any], path: Path, layer: LayerFile) -> Rule:
    """The activation of one layer: thresholds decide, then `activation`, then `top_k` or `k`."""
    named = config.get("activation")
    if layer.has("threshold"):
        if named not in (None, "jumprelu", "jump_relu"):
            raise TranscoderError(f"{path}: `activation` is {named!r}, yet {layer.path} has thresholds", "jumprelu")
        return JumpReLU()
    if named == "relu":
        return ReLU()
    if named not in (None, "topk"):
        raise TranscoderError(
            f"{path}: `activation` is {named!r}, and {layer.path} has no thresholds",
            "topk or relu, or thresholds",
        )
    if "top_k" in config or "k" in config:
        key = "top_k" if "top_k" in config else "k"
        k = config[key]
        if k is None and named is None:
            return ReLU()
    elif layer.has("k"):
        key, k = "k", int(layer.tensor("k"))
    elif named is None:
        _log.info("no top_k in %s: k=%d", path, DEFAULT_K)
        return TopK(DEFAULT_K)
    else:
        raise TranscoderError(f"{path}: `activation` is topk without `k`", "a number")
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise TranscoderError(f"{path}: `{key}` is {k!r}", "a number from 1")
    return TopK(k)


def _site(kind: Any, config: dict[str, Any], key: str, path: Path) -> Any:
    value = config.get(key)
    names = [site.value for site in kind]
    if value not in names:
        raise TranscoderError(f"{path}: `{key}` is {value!r}", f"one of {', '.join(names)}")
    return kind(value)


def _optional_text(config: dict[str, Any], key: str) -> str | None:
    value = config.get(key)
    return None if value is None else str(value)
