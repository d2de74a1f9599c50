"""The frozen model built the other way: Hugging Face's own modules, made to repeat what they did in one run.

Norms multiply by the scales they had, attention mixes values with the patterns it had, MLPs return what they returned;
projections, gains, residual adds and the unembedding are run as they are. Nothing here knows the closed form. Sources
are perturbed by adding to the embeddings, or to what an MLP returns, and pre-activations and logits are watched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ingest.transcoders.records import InputSite, OutputSite
from tests.science.world import Case


@dataclass(frozen=True)
class Outcome:
    """What came out, for a batch of perturbations."""

    read: list[Tensor]
    """Per layer [B, T, d] what its encoder reads."""
    logits: Tensor
    """[B, T, V]"""


def run_frozen(case: Case, embeddings: Tensor, writes: Tensor) -> Outcome:
    """Run with `embeddings` [B, T, d] added to block 0's input, `writes` [B, L, T, d] to the transcoders' outputs."""
    language = case.model.hf.model.language_model
    read: list[Tensor] = []
    with _frozen(case, language, writes, read):
        hidden = language(inputs_embeds=case.run.embeddings + embeddings, use_cache=False).last_hidden_state
    return Outcome(read, case.model.hf.lm_head(hidden))


@contextmanager
def _frozen(case: Case, language: nn.Module, writes: Tensor, read: list[Tensor]) -> Iterator[None]:
    handles = []

    def hook(module: nn.Module, function: Callable[..., Any]) -> None:
        handles.append(module.register_forward_hook(function))

    for number, block in enumerate(language.layers):
        record = case.run.layers[number]
        hook(block.input_layernorm, _scaled(record.attention_scale))
        hook(block.post_attention_layernorm, _scaled(record.attention_post_scale))
        _freeze_attention(handles, block.self_attn, record.pattern)
        _freeze_mlp(case, hook, number, block, writes, read)
    hook(language.norm, _scaled(case.run.final_scale))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scaled(scale: Tensor) -> Callable[..., Tensor]:
    return lambda module, args, output: args[0] * scale[:, None] * (1 + module.weight)


def _freeze_attention(handles: list[Any], attention: nn.Module, pattern: Tensor) -> None:
    seen: dict[str, Tensor] = {}
    heads, length, _ = pattern.shape

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        seen["values"] = output

    def mix(module: nn.Module, args: Any) -> tuple[Tensor]:
        batch = seen["values"].shape[0]
        values = seen["values"].view(batch, length, -1, attention.head_dim)
        values = values.repeat_interleave(heads // values.shape[2], dim=2)
        return (torch.einsum("hqk,bkhx->bqhx", pattern, values).reshape(batch, length, -1),)

    handles.append(attention.v_proj.register_forward_hook(keep))
    handles.append(attention.o_proj.register_forward_pre_hook(mix))


def _freeze_mlp(
    case: Case, hook: Callable[..., None], number: int, block: nn.Module, writes: Tensor, read: list[Tensor]
) -> None:
    record, bank = case.run.layers[number], case.bank
    raw = bank.output_site is OutputSite.MLP_RAW
    before = {InputSite.MLP_IN: record.mlp_in, InputSite.RESID_MID: record.resid_mid}.get(
        bank.input_site, record.resid_mid * record.mlp_scale[:, None]
    )

    def enter(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        stream = args[0]
        gained = _scaled(record.mlp_scale)(module, args, output)
        normalised = stream * record.mlp_scale[:, None]
        sites = {InputSite.MLP_IN: gained, InputSite.NORMALIZED: normalised, InputSite.RESID_MID: stream}
        read.append(sites[bank.input_site])
        return gained

    def change() -> Tensor:
        skip = bank.skip(number)
        return writes[:, number] + (0 if skip is None else (read[number] - before) @ skip.T)

    def leave(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return record.mlp_out + (change() if raw else 0 * output)

    def written(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return _scaled(record.mlp_post_scale)(module, args, output) + (0 if raw else change())

    hook(block.pre_feedforward_layernorm, enter)
    hook(block.mlp, leave)
    hook(block.post_feedforward_layernorm, written)
