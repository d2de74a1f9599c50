"""Tiny random models and transcoder sets: the real classes, sizes that run in milliseconds, nothing downloaded.

The random Gemma-3 has what makes the real one hard: local and global attention with different RoPE, a window shorter
than its prompts, grouped queries, post-norms with gains that differ from 1, and pictures.
"""

import tempfile
from functools import cache
from pathlib import Path

import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from ingest.model.model import Model, Precision, load_model

IMAGE_SIDE, PATCH_SIDE, SOFT_SIDE = 48, 6, 3
WIDTH, HEADS, KV_HEADS, HEAD_DIM = 32, 4, 2, 8
WORDS = (
    "what is the sum of red blue green one two three four five a b c + ? . "
    "Here original image and here are some crops to help you see better user model"
)

_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<start_of_image>{% else %}{{ c.text }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@cache
def tiny_model(
    precision: Precision = "fp32",
    layers: int = 8,
    window: int = 6,
    vision: bool = True,
    seed: int = 0,
) -> Model:
    """A random model, loaded through the same door as a real one; made once per process and settings."""
    with tempfile.TemporaryDirectory() as parent:
        folder = write_model(Path(parent) / "tiny", layers=layers, window=window, vision=vision, seed=seed)
        return load_model(str(folder), precision=precision)


def write_model(
    folder: Path,
    layers: int = 8,
    window: int = 6,
    vision: bool = True,
    seed: int = 0,
    pan_and_scan: bool = False,
) -> Path:
    """Write a random model as a Hugging Face folder."""
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    text = _text_config(len(tokenizer), layers, window)
    if vision:
        config = Gemma3Config(
            text_config=text,
            vision_config=_vision_config(),
            mm_tokens_per_image=SOFT_SIDE**2,
            boi_token_index=tokenizer.boi_token_id,
            eoi_token_index=tokenizer.eoi_token_id,
            image_token_index=tokenizer.image_token_id,
        )
        hf = Gemma3ForConditionalGeneration(config)
    else:
        hf = Gemma3ForCausalLM(text)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.normal_(0, 0.3)
            elif "mm_input_projection_weight" in name:
                parameter.normal_(0, 0.5)
    hf.save_pretrained(folder)
    (_processor(tokenizer, pan_and_scan) if vision else tokenizer).save_pretrained(folder)
    return folder


def write_transcoders(
    folder: Path,
    activation: str = "topk",
    widths: tuple[int, ...] = (40,) * 8,
    k: int | None = 4,
    skip: bool = False,
    input_site: str = "mlp.hook_in",
    output_site: str = "mlp.hook_out",
    width: int = WIDTH,
    seed: int = 1,
) -> Path:
    """Write a random transcoder set in the published layout; `activation` is topk, relu or jumprelu."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    for layer, latents in enumerate(widths):
        tensors = {
            "W_enc": noise(latents, width) / width**0.5,
            "W_dec": noise(latents, width) / width**0.5,
            "b_enc": 0.1 * noise(latents),
            "b_dec": 0.1 * noise(width),
        }
        if activation == "jumprelu":
            tensors["activation_function.threshold"] = 0.5 + 0.3 * noise(latents).abs()
        if skip:
            tensors["W_skip"] = 0.2 * noise(width, width)
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    config: dict[str, object] = {
        "model_kind": "transcoder_set",
        "model_name": "tiny",
        "feature_input_hook": input_site,
        "feature_output_hook": output_site,
        "layers": list(range(len(widths))),
        "num_model_layers": len(widths),
        "top_k": k if activation == "topk" else None,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def picture(seed: int = 0, width: int = 60, height: int = 52) -> Image.Image:
    """A picture with a disc and a box, different for every seed."""
    image = Image.new("RGB", (width, height), (200 - 31 * seed % 97, 190, 150 + 17 * seed % 89))
    draw = ImageDraw.Draw(image)
    draw.ellipse([4 + seed % 7, 6, 26 + seed % 7, 30], fill=(220, 30 + 13 * seed % 100, 40))
    draw.rectangle([34, 28 - seed % 5, 52, 46], fill=(20, 60, 200 - 11 * seed % 80))
    return image


def _tokenizer():  # type: ignore[no-untyped-def]  # transformers' type is not worth naming here
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ]
    words = [*special, "\n", "\n\n", *dict.fromkeys(WORDS.split())]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w]"), "isolated")]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("\n", "\n\n")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        chat_template=_TEMPLATE,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )


def _processor(tokenizer, pan_and_scan: bool):  # type: ignore[no-untyped-def]
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    pictures = Gemma3ImageProcessorPil(
        size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        do_pan_and_scan=pan_and_scan,
        pan_and_scan_min_crop_size=16,
        pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2,
    )
    return Gemma3Processor(
        image_processor=pictures,
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
        image_seq_length=SOFT_SIDE**2,
    )


def _text_config(vocabulary: int, layers: int, window: int):  # type: ignore[no-untyped-def]
    from transformers import Gemma3TextConfig

    return Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        layer_types=["full_attention" if n % 3 == 2 else "sliding_attention" for n in range(layers)],
        sliding_window=window,
        max_position_embeddings=1024,
        initializer_range=WIDTH**-0.5,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e2},
        },
        pad_token_id=0,
        eos_token_id=[1, 5],
        bos_token_id=2,
    )


def _vision_config():  # type: ignore[no-untyped-def]
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIDE,
        patch_size=IMAGE_SIDE // PATCH_SIDE,
        vision_use_head=False,
    )
