"""The house itself: help without torch, a wheel that is complete, walls, and no trace of one machine."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from atlas.cli import _TABLE, cli
from atlas.errors import AtlasError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "duckdb", "faiss", "pyarrow", "numpy", "sqlalchemy", "matplotlib")


def _loaded_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "atlas", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_help_imports_click_and_little_else() -> None:
    assert not _loaded_by("--help") & set(HEAVY)


@pytest.mark.parametrize("command", sorted(_TABLE))
def test_every_command_has_help_with_an_example_and_no_torch(command: str) -> None:
    loaded = cli.get_command(click.Context(cli), command)
    assert loaded is not None
    assert loaded.help
    assert f"atlas {command}" in loaded.help, "an example"


def test_no_help_imports_torch() -> None:
    for command in ("ingest", "ask", "train", "load"):
        assert not _loaded_by(command, "--help") & {"torch", "transformers"}


def test_every_error_has_its_heading() -> None:
    headings = set(re.findall(r"^## (\w+)", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    found, front = set(), [AtlasError]
    while front:
        children = front.pop().__subclasses__()
        front += children
        found |= {child.__name__ for child in children if child.__module__ == "atlas.errors"}
    assert found == headings


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_everything(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wheel = zipfile.ZipFile(tmp_path / done.stdout.split()[-1])
    names = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "atlas", "ingest", "query", "migrations"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(tracked) <= names
    wheel.extractall(tmp_path / "installed")
    outside = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import atlas; from atlas.cli import main;"
            "assert atlas.__file__.startswith(sys.argv[1]); main(['import', sys.argv[2], '--home', sys.argv[3]])",
            str(tmp_path / "installed"),
            str(_small_graph(tmp_path)),
            str(tmp_path / "home"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outside.returncode == 0, outside.stderr


def _small_graph(folder: Path) -> Path:
    import json

    node = {
        "feature": None,
        "clerp": "",
        "jsNodeId": "x",
        "token_prob": 0.0,
        "is_target_logit": False,
        "influence": 0.5,
    }
    nodes = [
        node | {"node_id": "E_5_0", "layer": "E", "ctx_idx": 0, "feature_type": "embedding"},
        node
        | {"node_id": "0_7_0", "layer": "0", "ctx_idx": 0, "feature_type": "cross layer transcoder", "feature": 35},
        node
        | {
            "node_id": "3_9_0",
            "layer": "3",
            "ctx_idx": 0,
            "feature_type": "logit",
            "feature": 9,
            "clerp": 'Output " five" (p=0.9)',
            "token_prob": 0.9,
            "is_target_logit": True,
        },
    ]
    links = [
        {"source": "E_5_0", "target": "0_7_0", "weight": 1.5},
        {"source": "0_7_0", "target": "3_9_0", "weight": -0.5},
    ]
    metadata = {"slug": "small", "scan": "org/set", "prompt": "two", "prompt_tokens": ["two"], "schema_version": 1}
    path = folder / "small.json"
    path.write_text(json.dumps({"metadata": metadata, "qParams": {}, "nodes": nodes, "links": links}))
    return path


def test_no_path_of_one_machine_is_written_anywhere() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile(r"/(?:work|root|home/\w+)/")
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".sql", ".json", ".ipynb", ".yml", ""} and path.is_file():
            assert not pattern.search(path.read_text(errors="ignore")), name
