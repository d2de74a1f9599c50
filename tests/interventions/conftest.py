"""A small atlas of the demo world on the shipped model: made once, looked at by many, copied by those that write."""

import json
import shutil
from pathlib import Path

import pytest

from atlas.config import Home, open_home
from ingest.demo.scenes import write_scenes
from ingest.interventions.case import Laboratory
from ingest.load import load
from ingest.pipeline import TraceSettings
from ingest.session import Request, open_tracer, run_ingest

SLUGS = ("sum-3-4-a", "sum-2-5-a", "moons-mars-a", "moons-earth-a", "moons-saturn-a", "words-3-4")
_SLOTS = {"sum-3-4-a": {"question": "what is the sum ?"}, "words-3-4": {"first": "3", "second": "4", "no": "5"}}


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Six graphs, loaded. To be read only."""
    folder = tmp_path_factory.mktemp("small")
    prompts, _ = write_scenes(folder)
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    chosen = [line | {"slots": _SLOTS.get(line["slug"], {})} for line in lines if line["slug"] in SLUGS]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in chosen))
    home = open_home(folder / "home", create=True)
    request = Request(
        prompts=prompts,
        example=None,
        model="demo",
        transcoders="demo",
        device="cpu",
        precision="fp32",
        seed=0,
        settings=TraceSettings(),
    )
    report = run_ingest(home, request, open_tracer(request))
    assert not report.failed
    load(home)
    return home


@pytest.fixture(scope="session")
def laboratory(small_home: Home) -> Laboratory:
    """Where its graphs are run again."""
    return Laboratory(small_home)


@pytest.fixture
def own_home(small_home: Home, tmp_path: Path) -> Home:
    """A copy to write into."""
    shutil.copytree(small_home.root, tmp_path / "home")
    return open_home(tmp_path / "home")
