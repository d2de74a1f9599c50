"""The demo model's shape, vocabulary and processor: a real Gemma-3 vision-language model, a thousand times smaller.

Everything is built from Hugging Face classes, so AutoProcessor and AutoModelForImageTextToText load the saved folder
and the code path is the one of google/gemma-3-4b-it.
"""

from pathlib import Path
from typing import cast

import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from ingest.demo.canvas import SIDE
from ingest.demo.facts import ANSWER_WORDS, PLUS, QUESTIONS

HIDDEN = 96
LAYERS = 6
SOFT_TOKENS = 16
SPECIALS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role=='assistant' else m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type=='image' %}<start_of_image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Gemma's turns: images first where the caller puts them first, then the words."""


def vocabulary() -> dict[str, int]:
    """Every token and its id: specials, newlines, the numbers 0 to 99, then the words of the world."""
    words = [word for question in QUESTIONS.values() for word in question.split()]
    rest = sorted({"user", "model", ".", "?", PLUS, *words, *ANSWER_WORDS} - {str(n) for n in range(100)})
    tokens = (*SPECIALS, "\n", "\n\n", *(str(number) for number in range(100)), *rest)
    return {token: index for index, token in enumerate(tokens)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows Gemma's image and turn tokens."""
    tokenizer = Tokenizer(WordLevel(vocabulary(), unk_token="<unk>"))
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex(r"[^\w]"), "isolated")])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("\n", "\n\n")])
    tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers is loosely typed
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )


def build_processor() -> Gemma3Processor:
    """The processor: 112-pixel pictures, 16 soft tokens each, no crops."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_pan_and_scan=False)
    return Gemma3Processor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        image_seq_length=SOFT_TOKENS,
    )


def build_config() -> Gemma3Config:
    """Six text layers of width 96 (sliding, sliding, full, twice) and three vision layers over 8 x 8 patches."""
    ids = vocabulary()
    sliding, full = "sliding_attention", "full_attention"
    return Gemma3Config(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": HIDDEN,
            "intermediate_size": 288,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "query_pre_attn_scalar": 24,
            "max_position_embeddings": 512,
            "sliding_window": 64,
            "layer_types": [sliding, sliding, full, sliding, sliding, full],
            "rope_parameters": {
                full: {"rope_type": "default", "rope_theta": 10000.0},
                sliding: {"rope_type": "default", "rope_theta": 1000.0},
            },
            "initializer_range": HIDDEN**-0.5,
            "bos_token_id": ids["<bos>"],
            "pad_token_id": ids["<pad>"],
            "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        },
        vision_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": 14,
            "vision_use_head": False,
            "initializer_range": HIDDEN**-0.5,
        },
        mm_tokens_per_image=SOFT_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        initializer_range=HIDDEN**-0.5,
        tie_word_embeddings=True,
    )


def build_model(seed: int) -> Gemma3ForConditionalGeneration:
    """A fresh model, initialised so that it trains: the projector is not zero and post-norms start small."""
    torch.manual_seed(seed)
    built = Gemma3ForConditionalGeneration._from_config(build_config(), attn_implementation="sdpa")  # type: ignore[no-untyped-call]  # transformers is loosely typed
    model = cast(Gemma3ForConditionalGeneration, built)
    with torch.no_grad():
        # Hugging Face initialises this matrix with zeros, and the vision tower would get no gradient.
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=HIDDEN**-0.5)
        for layer in model.model.language_model.layers:
            for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
                norm.weight.fill_((2 * LAYERS) ** -0.5 - 1.0)  # a Gemma norm multiplies by 1 + weight
    return model


def save_model(model: Gemma3ForConditionalGeneration, folder: Path) -> None:
    """Write the folder that the Auto classes load: weights, config, tokenizer, processor, chat template."""
    ids = vocabulary()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers is loosely typed
        bos_token_id=ids["<bos>"],
        pad_token_id=ids["<pad>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
        max_new_tokens=8,
        do_sample=False,
    )
    model.save_pretrained(folder)
    build_processor().save_pretrained(folder)
