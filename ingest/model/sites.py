"""Where each architecture keeps its parts: one row per Hugging Face `model_type`.

The adapter asks this table and nothing else. Supporting another model is another row; no code asks for a model's name.
Paths are dotted module names, from the top of the model for the model's parts and from a block for a block's.
"""

from dataclasses import dataclass, replace

from atlas.errors import ModelError


@dataclass(frozen=True)
class VisionSites:
    """The part that turns pixels into soft tokens."""

    tower: str
    """The vision encoder: pixels [views, 3, h, w] to patches [views, patches, width]."""
    tower_layers: str
    """Its list of blocks."""
    tower_attention: str
    """Attention inside such a block; its second output is the pattern [views, heads, patches, patches]."""
    projector: str
    """Patches to soft tokens [views, soft tokens, d]; soft tokens pool square blocks of patches, row by row."""
    marker: str
    """Attribute of the tokenizer with the text that stands for one picture in a prompt."""
    placeholder: str
    """Attribute of the config with the id of a soft token."""
    soft_tokens: str
    """Attribute of the config with the number of soft tokens of one view."""


@dataclass(frozen=True)
class Sites:
    """Where one architecture keeps the modules that the trace reads."""

    classes: tuple[str, ...]
    """Names of the Hugging Face classes the row is good for."""
    auto_class: str
    """The transformers Auto class that loads them."""
    layers: str
    """List of decoder blocks."""
    embedding: str
    """Token embedding."""
    final_norm: str
    """Norm before the unembedding."""
    unembedding: str
    """Linear map to the vocabulary."""
    attention: str
    """Attention in a block; its second output is the pattern [batch, H, T, T]."""
    query: str
    """Query projection in a block."""
    key: str
    """Key projection in a block."""
    value: str
    """Value projection in a block."""
    output: str
    """Output projection in a block."""
    mlp: str
    """The MLP in a block: what a transcoder replaces."""
    attention_norm: str
    """Norm before attention, in a block."""
    attention_post_norm: str | None
    """Norm after attention, before it is added; None where there is none."""
    mlp_norm: str
    """Norm before the MLP, in a block."""
    mlp_post_norm: str | None
    """Norm after the MLP, before it is added; None where there is none."""
    norm_offset: float
    """The effective gain of a norm is this plus its weight."""
    norm_epsilon: str
    """Attribute of a norm with what is added to the mean square."""
    logit_softcap: str | None
    """Attribute of the text config with a cap that the class applies to its logits; None where it applies none."""
    turn_tokens: tuple[str, ...]
    """Texts that show that a prompt already carries the chat template's markup."""
    vision: VisionSites | None
    """Where pictures enter; None for text-only models."""


_GEMMA3_TEXT = Sites(
    classes=("Gemma3ForCausalLM",),
    auto_class="AutoModelForCausalLM",
    layers="model.layers",
    embedding="model.embed_tokens",
    final_norm="model.norm",
    unembedding="lm_head",
    attention="self_attn",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    output="self_attn.o_proj",
    mlp="mlp",
    attention_norm="input_layernorm",
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
    norm_offset=1.0,
    norm_epsilon="eps",
    logit_softcap="final_logit_softcapping",
    turn_tokens=("<start_of_turn>", "<end_of_turn>"),
    vision=None,
)

_GEMMA3 = replace(
    _GEMMA3_TEXT,
    classes=("Gemma3ForConditionalGeneration",),
    auto_class="AutoModelForImageTextToText",
    layers="model.language_model.layers",
    embedding="model.language_model.embed_tokens",
    final_norm="model.language_model.norm",
    logit_softcap=None,  # the class ignores the config's value, so its logits carry no cap
    vision=VisionSites(
        tower="model.vision_tower",
        tower_layers="model.vision_tower.encoder.layers",
        tower_attention="self_attn",
        projector="model.multi_modal_projector",
        marker="boi_token",
        placeholder="image_token_id",
        soft_tokens="mm_tokens_per_image",
    ),
)

SITES: dict[str, Sites] = {
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3_TEXT,
}
"""The table, by `model_type`."""


def sites_for(model_type: str, name: str) -> Sites:
    """The row for a `model_type`; `name` is the model's, for the message. Raises ModelError for an unknown one."""
    if model_type not in SITES:
        raise ModelError(
            f"{name} is of type {model_type!r}",
            f"one of {supported_classes()}",
            "Use such a model, or add a row to ingest/model/sites.py",
        )
    return SITES[model_type]


def supported_classes() -> str:
    """The classes there are rows for, as text."""
    return ", ".join(name for sites in SITES.values() for name in sites.classes)
