"""From a prompt and its pictures to what the model is given, and what stands at each position.

A prompt without image markers and turn tokens is one user turn of the chat template, pictures first, with the
generation prompt. With `raw`, or with any marker or turn token, it is used as it stands, and its image markers must be
as many as its pictures. The model's own processor does the rest.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from atlas.errors import InputError
from ingest.model.images import check_size
from ingest.model.model import Model


@dataclass(frozen=True)
class Position:
    """What stands at one position of the prompt."""

    index: int
    """Position, from 0."""
    token_id: int
    """Vocabulary id; the placeholder's at a soft token."""
    text: str
    """The token as text, blanks included."""
    modality: Literal["image", "text"]
    """`image` at soft tokens, `text` everywhere else, start and end of an image included."""
    image: int | None = None
    """Ordinal of the picture in the prompt, from 0; None on text."""
    crop: int | None = None
    """0 for the whole picture, from 1 for the crops of pan and scan; None on text."""
    row: int | None = None
    """Row in the grid of soft tokens, from the top; None on text."""
    col: int | None = None
    """Column in the grid of soft tokens, from the left; None on text."""
    view: int | None = None
    """Row of `pixel_values` the soft token was made from (pictures and crops in order); None on text."""


@dataclass(frozen=True)
class Inputs:
    """One prompt, ready for the model."""

    batch: dict[str, Tensor]
    """Hugging Face's inputs, batch size 1, on the model's device: input_ids, attention_mask, and with vision
    token_type_ids (always) and pixel_values [views, 3, h, w] (with pictures)."""
    positions: list[Position]
    """One record per position, in order."""

    @property
    def token_ids(self) -> Tensor:
        """[T] int64."""
        return self.batch["input_ids"][0]

    @property
    def n_views(self) -> int:
        """Pictures and crops."""
        pixels = self.batch.get("pixel_values")
        return 0 if pixels is None else int(pixels.shape[0])


def prepare(model: Model, prompt: str, images: list[Image.Image], raw: bool = False) -> Inputs:
    """Make the inputs of one prompt. Raises InputError if prompt and pictures do not fit each other or the model."""
    for number, image in enumerate(images, start=1):
        check_size(image, f"picture {number}")
    text = _text(model, prompt, len(images), raw)
    batch = _process(model, text, [image.convert("RGB") for image in images])
    check_length(model, int(batch["input_ids"].shape[1]))
    return Inputs(batch, _positions(model, batch, images))


def check_length(model: Model, length: int, more: int = 0) -> None:
    """Refuse a sequence that is longer than the model allows. Raises InputError."""
    limit = model.facts.max_positions
    if length + more > limit:
        asked = f" and {more} to follow" if more else ""
        raise InputError(f"the prompt has {length} tokens{asked}", f"at most {limit} for this model", "Shorten it")


def _text(model: Model, prompt: str, n_images: int, raw: bool) -> str:
    """The text the processor is given: the chat template's, or the prompt as it stands."""
    vision = model.sites.vision
    marker = None if vision is None else str(getattr(model.tokenizer, vision.marker))
    if n_images and marker is None:
        raise InputError(
            f"{n_images} pictures for {model.identity.name}, a text-only model",
            "a prompt without pictures",
            "Name a vision-language model with --model",
        )
    _check_no_soft_tokens(model, prompt)
    marked = marker is not None and marker in prompt
    if not raw and not marked and not any(token in prompt for token in model.sites.turn_tokens):
        return _user_turn(model, prompt, n_images)
    found = 0 if marker is None else prompt.count(marker)
    if found != n_images:
        raise InputError(
            f"found {found} image markers ({marker}) and {n_images} pictures",
            "one marker for each picture",
            "Write the marker where each picture belongs, or leave out markers and turn tokens altogether",
        )
    if not prompt:
        raise InputError("the prompt is empty", "a text")
    return prompt


def _check_no_soft_tokens(model: Model, prompt: str) -> None:
    if model.facts.placeholder is None:
        return
    soft = model.tokenizer.convert_ids_to_tokens(model.facts.placeholder)
    if soft in prompt:
        raise InputError(
            f"the prompt contains {soft}",
            "image markers only; the processor puts soft tokens in their place",
            "Write one image marker for each picture",
        )


def _user_turn(model: Model, prompt: str, n_images: int) -> str:
    if not prompt.strip():
        raise InputError("the prompt is empty", "a question", "Say something about the picture, or use --raw")
    if model.chat_template is None:
        raise InputError(
            f"{model.identity.name} has no chat template",
            "a model tuned for chat, or a prompt used as it stands",
            "Use --raw, with an image marker for each picture",
        )
    content = [{"type": "image"}] * n_images + [{"type": "text", "text": prompt}]
    turn = [{"role": "user", "content": content}]
    return str(model.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _process(model: Model, text: str, images: list[Image.Image]) -> dict[str, Tensor]:
    bos = model.tokenizer.bos_token
    add_special = not (bos and text.startswith(bos))  # templates write the first token themselves: never two of them
    if model.sites.vision is None:
        found = model.tokenizer(text, return_tensors="pt", add_special_tokens=add_special)
    else:
        found = model.processor(
            text=text,
            images=images or None,
            return_tensors="pt",
            add_special_tokens=add_special,
            **(_crop_settings(model) if images else {}),
        )
    ids = found["input_ids"]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.facts.placeholder is not None:
        # without this the model silently falls back to a purely causal mask
        batch["token_type_ids"] = (ids == model.facts.placeholder).long()
    if images:
        batch["pixel_values"] = found["pixel_values"].to(model.dtype)
    return {name: value.to(model.device) for name, value in batch.items()}


def _crop_settings(model: Model) -> dict[str, Any]:
    """Pan and scan as the folder sets it: the processor's own call would replace that by its class's defaults."""
    settings = model.processor.image_processor
    names = [name for name in dir(settings) if "pan_and_scan" in name]
    values = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _positions(model: Model, batch: dict[str, Tensor], images: list[Image.Image]) -> list[Position]:
    ids = batch["input_ids"][0].tolist()
    types = batch["token_type_ids"][0].tolist() if "token_type_ids" in batch else [0] * len(ids)
    side = model.facts.soft_side or 1
    views = _views(model, images, sum(types) // side**2)
    texts = [str(text) for text in _decode(model, ids)]
    found, soft = [], 0
    for index, (token, text, is_image) in enumerate(zip(ids, texts, types, strict=True)):
        if not is_image:
            found.append(Position(index, token, text, "text"))
            continue
        view, cell = divmod(soft, side * side)
        image, crop = views[view]
        found.append(Position(index, token, text, "image", image, crop, cell // side, cell % side, view))
        soft += 1
    return found


def _decode(model: Model, ids: list[int]) -> list[str]:
    keep: dict[str, Any] = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [model.tokenizer.decode([token], **keep) for token in ids]


def _views(model: Model, images: list[Image.Image], n_views: int) -> list[tuple[int, int]]:
    """(picture, crop) of each view, in the order of the prompt: a picture, its crops, the next picture."""
    if n_views == len(images):
        return [(image, 0) for image in range(n_views)]
    counts = [int(model.processor.image_processor(images=[image])["num_crops"][0]) for image in images]
    views = [(image, crop) for image, count in enumerate(counts) for crop in range(count + 1)]
    assert len(views) == n_views
    return views
