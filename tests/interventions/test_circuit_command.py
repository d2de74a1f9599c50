"""The command `atlas circuit`: what it prints and draws, and one error before any model runs for what cannot be."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from atlas.artefact.evidence import read_evidence
from atlas.cli import cli
from atlas.config import Home
from atlas.errors import AtlasError, InputError
from atlas.ids import NodeId
from ingest.interventions.circuit import Report, summary
from ingest.interventions.circuit_pairs import chosen_pairs

PAIR = ("moons-mars-a", "moons-earth-a")
QUICK = ("--steps", "2", "--rounds", "0", "--controls", "3", "--keep", "0.5")


def atlas(home: Home, *arguments: str) -> Any:
    """What a command does. Raises the error it ends with."""
    done = CliRunner().invoke(cli, ["--home", str(home.root), *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


@pytest.fixture(scope="module")
def both(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """What two pairs come to, and where they are drawn."""
    folder = tmp_path_factory.mktemp("circuit")
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"graph": a, "other": b}) + "\n\n" for a, b in (PAIR, PAIR[::-1])))
    done = atlas(small_home, "circuit", "--pairs", str(pairs), *QUICK, "--json", "--out", str(folder / "two.png"))
    return json.loads(done.stdout), folder / "two.png"


def test_a_pair_is_one_object_and_several_have_a_summary(both: tuple[list[dict[str, Any]], Path]) -> None:
    rows, picture = both
    one, two, whole = rows
    assert [one["slug"], one["other_slug"]] == [two["other_slug"], two["slug"]] == list(PAIR)
    assert (one["answer"], one["rival"]) == (two["rival"], two["answer"]) == ("2", "1")
    for row in (one, two):
        assert row["kept"] >= row["keep"] == 0.5 and row["size"] <= row["prefix"]
        assert row["features"] + row["errors"] + row["embeddings"] == row["size"] == len(row["nodes"])
        assert row["share"] == pytest.approx(row["size"] / row["components"])
        assert sum(part["kept"] for part in row["parts"]) == row["size"]
        assert sum(part["of"] for part in row["parts"]) == row["components"]
        assert {NodeId.parse(node).kind for node in row["nodes"]} <= {"feature", "error", "image", "token"}
        assert row["features_kept"] > 0.8 and row["errors_kept"] < 0.5, "features carry the answer"
        assert 0 < row["graph_kept"] < 1 and 0 < row["graph_size"] < row["components"]
        assert row["random_kept"] <= row["random_most"] < row["kept"]
    assert whole["pairs"] == 2 and whole["size"] == pytest.approx((one["size"] + two["size"]) / 2)
    assert whole["share_low"] is whole["share_high"] is None, "two pairs give no interval"
    assert picture.stat().st_size > 10_000


def test_people_read_a_table_and_see_a_picture(small_home: Home, tmp_path: Path) -> None:
    done = atlas(small_home, "circuit", *PAIR, *QUICK, "--keep", "0.2", "--out", str(tmp_path / "one.svg"))
    assert "Circuits" in done.stdout and "Made of" in done.stdout and "feature:" in done.stdout
    assert "of '2' over '1'" in (tmp_path / "one.svg").read_text()
    assert len(read_evidence(small_home)) == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "no pair of graphs"),
        (["moons-mars-a"], "1 graphs"),
        ([*PAIR, "sum-3-4-a"], "3 graphs"),
        ([*PAIR, "--pair", "x"], "named in several ways"),
        (["--pair", "x"], "no graph that was traced here has the pair 'x'"),
        (["moons-mars-a", "nothing"], "no graph 'nothing'"),
        (["sum-3-4-a", "sum-2-5-a"], "both answer '7'"),
        (["moons-mars-a", "words-3-4"], r"prompts of \d+ and \d+ tokens"),
        (["--pairs", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        ([*PAIR, "--out", "x.gif"], "neither .png nor .svg"),
    ],
)
def test_what_is_no_pair_is_one_error_before_any_model_runs(small_home: Home, arguments: list[str], found: str) -> None:
    opened = patch("ingest.interventions.case.Laboratory._open", side_effect=AssertionError("a model was opened"))
    with opened, pytest.raises(AtlasError, match=found):
        atlas(small_home, "circuit", *arguments)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"graph": "a"}', '{"graph": 3, "other": "b"}', '{"graph": "sum-3-4-a", "other": "b"}\n3']
)
def test_a_file_without_pairs_is_one_error(small_home: Home, tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"pairs\.jsonl"):
        chosen_pairs(small_home, [], path, None)


def test_a_pair_by_name_is_all_that_answer_unlike(small_home: Home) -> None:
    names = {"moons-mars-a": "planets", "moons-earth-a": "planets", "sum-3-4-a": "sums", "sum-2-5-a": "sums"}

    def pair_of(home: Home, graph: str) -> str | None:
        from atlas.artefact.read import read_description

        return names.get(read_description(home, graph).slug)

    with patch("ingest.interventions.circuit_pairs._pair_of", pair_of):
        found = chosen_pairs(small_home, [], None, "planets")
        assert len(found) == 2 and found[0] == found[1][::-1]
        with pytest.raises(InputError, match="all answer '7'"):
            chosen_pairs(small_home, [], None, "sums")


def test_five_pairs_have_an_interval_and_four_have_none() -> None:
    reports = [
        Report(
            "a", "a", "b", "b", "1", "2", 1.0, -1.0, 0.8, 0.8 + n / 100, 100, 9, (), (), 5, 0.4, 0.9, 0.1, (0.0,), ()
        )
        for n in range(5)
    ]
    whole = summary(reports)
    assert whole["kept"] == pytest.approx(0.82)
    assert whole["kept_low"] < whole["kept"] < whole["kept_high"]
    assert whole["kept_low"] >= 0.8 and whole["kept_high"] <= 0.84
    assert summary(reports[:4])["kept_low"] is None
