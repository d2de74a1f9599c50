"""One forward pass of the unchanged model, and what attribution needs from it.

Steps: hook the modules named in the table, run Hugging Face's forward once, take the hooks away, and work out the
scale of every norm from what went into it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atlas.errors import ModelError
from ingest.model.inputs import Inputs
from ingest.model.model import Model
from ingest.model.precision import precision_of
from ingest.model.records import LayerRun, Run

Tape = dict[tuple[int, str], Tensor]
"""Captured tensors without the batch axis, by (layer, name); layer -1 is the model as a whole."""

_WHOLE = -1


def run(model: Model, inputs: Inputs) -> Run:
    """Run the model once on one prompt and keep what is needed. Raises ModelError if it hands out no attention."""
    with torch.no_grad(), precision_of(model), recording(model) as tape:
        logits = model.hf(**inputs.batch, use_cache=False, return_dict=True).logits
        layers = [_layer_run(model, tape, number) for number in range(model.facts.n_layers)]
        final = tape[_WHOLE, "final_residual"]
        return Run(
            token_ids=inputs.token_ids,
            embeddings=tape[_WHOLE, "embeddings"],
            layers=layers,
            final_scale=_scale(model, model.part(model.sites.final_norm), final),
            final_residual=final,
            logits=logits[0].to(model.dtype),
        )


@contextmanager
def recording(model: Model) -> Iterator[Tape]:
    """Within the block every forward pass fills the tape; afterwards, and after an error, no hook is left."""
    tape: Tape = {}
    handles: list[RemovableHandle] = []
    try:
        _hook_all(model, tape, handles)
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def _hook_all(model: Model, tape: Tape, handles: list[RemovableHandle]) -> None:
    sites, dtype = model.sites, model.dtype

    def keep_input(module: nn.Module, layer: int, name: str) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tape[layer, name] = (args[0] if args else kwargs["hidden_states"])[0].to(dtype)

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def keep_output(module: nn.Module, layer: int, name: str, take: Callable[[Any], Tensor | None]) -> None:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            value = take(output)
            if value is not None:
                tape[layer, name] = value[0].to(dtype)

        handles.append(module.register_forward_hook(hook))

    blocks = model.layers
    keep_input(blocks[0], _WHOLE, "embeddings")
    keep_input(model.part(sites.final_norm), _WHOLE, "final_residual")
    for number, block in enumerate(blocks):
        attention, mlp = block.get_submodule(sites.attention), block.get_submodule(sites.mlp)
        keep_input(block.get_submodule(sites.attention_norm), number, "resid_pre")
        keep_output(attention, number, "pattern", lambda output: output[1])
        if sites.attention_post_norm is not None:
            keep_input(block.get_submodule(sites.attention_post_norm), number, "attention_out")
        keep_input(block.get_submodule(sites.mlp_norm), number, "resid_mid")
        keep_input(mlp, number, "mlp_in")
        keep_output(mlp, number, "mlp_out", lambda output: output)


def _layer_run(model: Model, tape: Tape, number: int) -> LayerRun:
    sites, block = model.sites, model.layers[number]
    if (number, "pattern") not in tape:
        raise ModelError(
            f"{model.identity.name}: layer {number} handed out no attention pattern",
            "eager attention",
            "Load it with load_model, and do not change its attention implementation afterwards",
        )

    def scale(path: str | None, name: str) -> Tensor | None:
        return None if path is None else _scale(model, block.get_submodule(path), tape[number, name])

    attention_scale, mlp_scale = scale(sites.attention_norm, "resid_pre"), scale(sites.mlp_norm, "resid_mid")
    assert attention_scale is not None
    assert mlp_scale is not None
    mlp_out, mlp_post_scale = tape[number, "mlp_out"], scale(sites.mlp_post_norm, "mlp_out")
    mlp_write = mlp_out
    gain = model.weights().layers[number].mlp_post_gain
    if mlp_post_scale is not None and gain is not None:
        mlp_write = mlp_out * mlp_post_scale[:, None] * gain
    return LayerRun(
        pattern=tape[number, "pattern"],
        attention_scale=attention_scale,
        attention_post_scale=scale(sites.attention_post_norm, "attention_out"),
        mlp_scale=mlp_scale,
        mlp_post_scale=mlp_post_scale,
        mlp_in=tape[number, "mlp_in"],
        mlp_out=mlp_out,
        resid_mid=tape[number, "resid_mid"],
        mlp_write=mlp_write,
    )


def _scale(model: Model, norm: nn.Module, norm_input: Tensor) -> Tensor:
    """[T] 1 / rms of a norm's input, with the norm's own epsilon."""
    epsilon = float(getattr(norm, model.sites.norm_epsilon))
    return torch.rsqrt(norm_input.pow(2).mean(-1) + epsilon)
