"""`atlas ingest` through the real command line: good lines go in, bad ones are named, a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.demo.world import draw
from tests.journey.conftest import atlas

MODEL = ("--model", "demo", "--transcoders", "demo")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "sum.png"
    sample = draw("sum", np.random.default_rng(3), a=2, b=3)
    assert sample.image is not None
    sample.image.save(path)
    return path


def test_one_prompt(tmp_path: Path, picture: Path) -> None:
    arguments = (
        "ingest",
        "--prompt",
        "what is the sum ?",
        "--image",
        picture,
        *MODEL,
        "--slug",
        "two-and-three",
        "--expected",
        " 5 ",
        "--max-nodes",
        "500",
        "--max-logits",
        "0",
        "--home",
        tmp_path / "h",
    )
    first = atlas(*arguments, cwd=tmp_path)
    assert first.code == 0, first.err
    listed = atlas("list", "--home", tmp_path / "h", "--json", cwd=tmp_path).rows()
    assert [(row["slug"], row["answer"], row["correct"], row["id"]) for row in listed] == [
        ("two-and-three", "5", True, first.out.strip())
    ]
    again = atlas(*arguments, cwd=tmp_path)
    assert "0 traced, 1 there already" in again.err
    plain = [argument for argument in arguments if argument not in ("--slug", "two-and-three", "--expected", " 5 ")]
    assert atlas(*plain, cwd=tmp_path).code == 0
    listed = atlas("list", "--home", tmp_path / "h", "--json", cwd=tmp_path).rows()
    assert [(row["slug"], row["correct"]) for row in listed] == [("two-and-three", True)], "what is not said stays"
    assert not (tmp_path / "h" / "log" / "atlas.log").read_text().count("Traceback")


def test_bad_lines_are_named_and_the_rest_is_in(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    good = {"prompt": "what is the sum ?", "images": [picture.name]}
    lines = [json.dumps(good | {"slug": f"good-{n}", "note": n}) for n in range(2)]
    bad = {
        "broken line": '{"prompt": "what is',
        "no such picture": json.dumps({"prompt": "read it", "images": ["absent.png"]}),
        "no picture at all": json.dumps({"prompt": "read it", "images": ["text.png"]}),
        "more markers": json.dumps({"prompt": "<start_of_image> <start_of_image> read it", "images": [picture.name]}),
        "fewer markers": json.dumps({"prompt": "<start_of_image> read it", "images": [picture.name] * 2}),
        "no prompt": json.dumps({"images": [picture.name]}),
        "half a character": '{"prompt": "\\ud800 lone"}',
        "unknown target": json.dumps(good | {"targets": ["chrysanthemum"]}),
    }
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join([lines[0], "", *bad.values(), lines[1]]) + "\n")
    done = atlas("ingest", file, *MODEL, "--home", tmp_path / "h", cwd=tmp_path)
    assert done.code == 3, done.err
    failures = atlas("status", "--failures", "--json", "--home", tmp_path / "h", cwd=tmp_path).rows()
    assert [row["source"].rpartition(":")[2] for row in failures] == [str(3 + n) for n in range(len(bad))]
    assert all(row["reason"].strip() for row in failures)
    Image.open(picture).save(tmp_path / "absent.png")
    again = atlas("ingest", file, *MODEL, "--home", tmp_path / "h", "--no-load", cwd=tmp_path)
    assert "1 traced, 2 there already, 7 failed" in again.err
    left = atlas("status", "--failures", "--json", "--home", tmp_path / "h", cwd=tmp_path).rows()
    assert len(left) == len(bad) - 1, "what is mended is no failure any more"
    (tmp_path / "absent.png").unlink()
    listed = atlas("list", "--home", tmp_path / "h", "--json", cwd=tmp_path).rows()
    assert {row["slug"] for row in listed} == {"good-1"}, "equal inputs are one graph, described by the last line"
    assert atlas("load", "--home", tmp_path / "h", cwd=tmp_path).code == 0
    assert atlas("verify", "--home", tmp_path / "h", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "nowhere/at/all", "--transcoders", "demo"), "nowhere/at/all"),
        (("--model", "demo", "--transcoders", "no-such-folder"), "no-such-folder"),
        (("--model", "demo", "--transcoders", "demo", "--precision", "tf32"), "tf32"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = atlas("ingest", "--prompt", "read it", *arguments, "--home", tmp_path / "h", cwd=tmp_path)
    assert done.code == 1
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "h").exists()


def test_a_home_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir()
    (home / "atlas.json").write_text('{"home_version": 99}')
    done = atlas("ingest", "--prompt", "read it", *MODEL, "--home", home, cwd=tmp_path)
    assert done.code == 1
    assert "version 99" in done.err
    assert [path.name for path in home.iterdir()] == ["atlas.json"]


def test_a_killed_job_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    lines = []
    for n in range(8):
        sample = draw("digit", rng)
        assert sample.image is not None
        sample.image.save(tmp_path / f"{n}.png")
        lines.append(json.dumps({"prompt": sample.question, "images": [f"{n}.png"], "slug": f"digit-{n}"}))
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    home = tmp_path / "h"
    command = ["ingest", "p.jsonl", *MODEL, "--home", str(home), "--max-nodes", "200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas", *command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 120
    while len(list(home.glob("artefacts/graph/*/*"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = {path: path.stat().st_mtime_ns for path in home.glob("artefacts/graph/*/*/manifest.json")}
    assert 3 <= len(made) < 8
    done = atlas(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"{8 - len(made)} traced, {len(made)} there already" in done.err
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(atlas("list", "--json", "--home", home, cwd=tmp_path).rows()) == 8
    assert atlas("verify", "--home", home, cwd=tmp_path).code == 0


def test_two_pictures_and_none(tmp_path: Path, picture: Path) -> None:
    other = tmp_path / "other.png"
    Image.open(picture).rotate(5).save(other)
    lines = [
        {"prompt": "read it", "images": [picture.name, other.name], "slug": "two"},
        {"prompt": "3 + 4 . what is the sum ?", "slug": "none", "targets": {"difference": ["7", "6"]}},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = atlas("ingest", "p.jsonl", *MODEL, "--home", tmp_path / "h", "--max-nodes", "300", cwd=tmp_path)
    assert done.code == 0, done.err
    rows = atlas(
        "sql",
        "SELECT slug, count(DISTINCT image) AS images FROM position JOIN graph USING (gid) GROUP BY slug ORDER BY 1",
        "--json",
        "--home",
        tmp_path / "h",
        cwd=tmp_path,
    ).rows()
    assert rows == [{"slug": "none", "images": 0}, {"slug": "two", "images": 2}]
