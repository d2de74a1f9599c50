"""Prompts and pictures become what the model's own processor would make of them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from atlas.errors import InputError
from ingest.model import images as images_module
from ingest.model.images import open_image
from ingest.model.inputs import prepare
from ingest.model.model import load_model
from tests.tiny import SOFT_SIDE, picture, tiny_model, write_model

MARKER = "<start_of_image>"


def test_a_plain_prompt_is_one_user_turn_with_pictures_first() -> None:
    model = tiny_model()
    content = [{"type": "image", "image": picture(0)}, {"type": "text", "text": "what is red ?"}]
    theirs = model.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )

    ours = prepare(model, "what is red ?", [picture(0)]).batch

    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["token_type_ids"], theirs["token_type_ids"])
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


@pytest.mark.parametrize(
    "prompt",
    [
        f"{MARKER} what is red ?",
        f"<bos><start_of_turn>user\n{MARKER}what ?<end_of_turn>\n<start_of_turn>model\n",
        f"what {MARKER} is",
    ],
)
def test_a_prompt_with_markers_is_used_as_it_stands(prompt: str) -> None:
    model = tiny_model()

    inputs = prepare(model, prompt, [picture(0)])

    texts = [p.text for p in inputs.positions]
    assert texts.count("<bos>") == 1
    assert texts[0] == "<bos>"
    assert texts.count("<start_of_turn>") == prompt.count("<start_of_turn>")
    assert inputs.token_ids.tolist().count(model.facts.placeholder) == SOFT_SIDE**2


def test_turn_tokens_alone_make_a_prompt_verbatim_and_raw_does_too() -> None:
    model = tiny_model()
    turned = prepare(model, "<start_of_turn>user what", [])
    raw = prepare(model, "what is red", [], raw=True)

    assert [p.text for p in turned.positions] == ["<bos>", "<start_of_turn>", "user", "what"]
    assert [p.text for p in raw.positions] == ["<bos>", "what", "is", "red"]


@pytest.mark.parametrize(
    ("prompt", "count", "raw", "found"),
    [
        (f"{MARKER} what", 2, False, "found 1 image markers (<start_of_image>) and 2 pictures"),
        (f"{MARKER} what {MARKER}", 1, False, "found 2 image markers (<start_of_image>) and 1 pictures"),
        ("what", 1, True, "found 0 image markers (<start_of_image>) and 1 pictures"),
        (f"what {MARKER}", 0, True, "found 1 image markers (<start_of_image>) and 0 pictures"),
        ("<start_of_turn>user what", 1, False, "found 0 image markers (<start_of_image>) and 1 pictures"),
        ("what <image_soft_token>", 0, False, "the prompt contains <image_soft_token>"),
        ("  ", 1, False, "the prompt is empty"),
    ],
)
def test_prompts_that_do_not_fit_their_pictures_are_refused(prompt: str, count: int, raw: bool, found: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare(tiny_model(), prompt, [picture(n) for n in range(count)], raw=raw)

    assert caught.value.found == found


def test_pictures_for_a_text_only_model_are_refused() -> None:
    with pytest.raises(InputError, match="1 pictures for tiny, a text-only model"):
        prepare(tiny_model(vision=False), "what", [picture(0)])


def test_a_prompt_longer_than_the_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"tokens. Expected at most 1024"):
        prepare(tiny_model(), "what " * 1100, [])


def test_a_base_model_without_template_asks_for_raw(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base", layers=1)
    (folder / "chat_template.jinja").unlink()
    model = load_model(str(folder))

    with pytest.raises(InputError, match="base has no chat template"):
        prepare(model, "what", [picture(0)])
    assert len(prepare(model, f"{MARKER} what", [picture(0)]).positions) == SOFT_SIDE**2 + 6


def test_soft_tokens_carry_picture_row_and_column() -> None:
    inputs = prepare(tiny_model(), "what ?", [picture(0), picture(1)])

    soft = [p for p in inputs.positions if p.modality == "image"]
    side = range(SOFT_SIDE)
    assert [(p.image, p.crop, p.row, p.col) for p in soft] == [(i, 0, r, c) for i in (0, 1) for r in side for c in side]
    assert [p.view for p in soft] == [0] * 9 + [1] * 9
    assert [p.index for p in inputs.positions] == list(range(len(inputs.positions)))
    text = [p for p in inputs.positions if p.modality == "text"]
    assert {(p.image, p.crop, p.row, p.col, p.view) for p in text} == {(None,) * 5}
    assert inputs.n_views == 2


def test_pan_and_scan_crops_are_numbered(tmp_path: Path) -> None:
    model = load_model(str(write_model(tmp_path / "crops", layers=1, pan_and_scan=True)))

    inputs = prepare(model, "what ?", [picture(0, 50, 50), picture(1, 90, 40)])

    views = dict.fromkeys((p.view, p.image, p.crop) for p in inputs.positions if p.modality == "image")
    assert list(views) == [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 1, 2)]
    assert inputs.batch["pixel_values"].shape[0] == inputs.n_views == 4
    assert model.processor_settings["do_pan_and_scan"] is True


def test_pictures_open_upright_and_in_rgb(tmp_path: Path) -> None:
    grey, turned = Image.new("LA", (8, 4), (10, 128)), Image.new("RGB", (8, 4), (1, 2, 3))
    grey.save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)

    assert open_image(tmp_path / "grey.png").mode == "RGB"
    assert open_image(tmp_path / "turned.jpg").size == (4, 8)


def test_files_that_are_no_pictures_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    picture(0).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:120])
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    wanted = {
        "text.png": "is not a picture",
        "empty.png": "is not a picture",
        "half.png": "is damaged",
        "bomb.png": "pixels",
        "none.png": "no file",
        "": "is a folder",
    }
    for name, words in wanted.items():
        with pytest.raises(InputError, match=words) as caught:
            open_image(tmp_path / name)
        assert name in caught.value.found

    monkeypatch.setattr(images_module, "PIXEL_LIMIT", 100)
    with pytest.raises(InputError, match=r"whole.png has 60 x 52 pixels. Expected at most 100 pixels"):
        open_image(tmp_path / "whole.png")
    with pytest.raises(InputError, match="picture 1 has 60 x 52 pixels"):
        prepare(tiny_model(), "what", [picture(0)])
