"""The studies run on a few examples, and what their tables say holds.

One folder for all of them. What they measure, and the parts of the planted failure, are tested on numbers whose right
answer is known; whole scripts run small here, and docs/studies.md has what they say at full size.
"""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

STUDIES = Path(__file__).parents[2] / "examples" / "studies"
sys.path.insert(0, str(STUDIES))

import arithmetic  # noqa: E402
import common  # noqa: E402
import drawing  # noqa: E402
import lookalikes  # noqa: E402
import measures  # noqa: E402
import meeting  # noqa: E402
import patching  # noqa: E402
import planted  # noqa: E402
import prior  # noqa: E402
import results  # noqa: E402
import swaps  # noqa: E402

from ingest.demo.prior import PriorConfig, plant_prior  # noqa: E402
from ingest.interventions.statistics import spearman  # noqa: E402

Tables = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("studies")


def run(study, out: Path, *arguments: str) -> Tables:
    """Run a study as its command line does; its tables by the line above them, and its picture is there."""
    done = CliRunner().invoke(study, ["--out", str(out), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")]
    tables: Tables = {}
    for block in blocks:
        rule = next((at for at, line in enumerate(block) if set(line) == {"-", " "}), None)
        if rule is not None:
            tables[block[rule - 2]] = [re.split(r"  +", line.strip()) for line in block[rule + 1 :]]
    drawn = Path(done.stdout.rpartition("Drawn: ")[2].strip())
    assert Image.open(drawn).size[0] >= 800
    return tables


def named(tables: Tables, start: str) -> list[list[str]]:
    return next(rows for title, rows in tables.items() if title.startswith(start))


def value(cell: str) -> float:
    return float(cell.split(maxsplit=1)[0])


def low(cell: str) -> float:
    return float(re.findall(r"\[(-?[\d.]+),", cell)[0])


def test_picture_and_word_meet_late_and_at_the_last_position(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "KINDS", {kind: meeting.KINDS[kind][:5] for kind in ("planets", "digits")})
    tables = run(meeting.study, out, "--examples", "2")
    overlap = named(tables, "Overlap of picture and word")
    assert [row[0] for row in overlap] == [str(layer) for layer in range(6)]
    for row in overlap:
        assert value(row[3]) == pytest.approx(float(row[1]) - float(row[2]), abs=2e-3)
    assert low(overlap[5][6]) > value(overlap[0][6])
    firsts = [[int(cell) for cell in row[2:]] for row in named(tables, "First layer")]
    assert len({sum(row) for row in firsts}) == 1, "every graph is somewhere"


def test_sums_are_carried_late_and_operands_early(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [pair for pair in arithmetic.PAIRS if max(pair) < 5]
    monkeypatch.setattr(arithmetic, "PAIRS", few)
    groups = {"first": [a for a, _ in few], "second": [b for _, b in few], "sum": [a + b for a, b in few]}
    monkeypatch.setattr(arithmetic, "GROUPS", groups)
    tables = run(arithmetic.study, out, "--examples", "2")
    overlap = named(tables, "Overlap at the last position")
    assert all(low(row[1]) > float(row[3]) for row in overlap)
    said = np.array([[float(cell) for cell in row[1:]] for row in named(tables, "Share of what varies")])
    for first, second, total in (said[:, :3].T, said[:, 3:].T):
        assert total[5] > max(first[5], second[5])
        assert total[0] < min(first[0], second[0])
    ways = named(tables, "Strength of the strongest paths")
    for column in (1, 2):
        assert sum(value(row[column]) for row in ways) == pytest.approx(1, abs=0.03)


def test_results_are_told_by_the_last_layer_and_not_by_chance(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", range(8, 12))
    tables = run(results.study, out, "--examples", "2")
    scores = {row[0]: [float(cell) for cell in row[1:]] for row in named(tables, "F1 of the best feature")}
    assert np.argmax(scores["result"]) == 5
    assert scores["result"][5] > 0.4
    assert max(scores["shuffled results"]) < 0.3


def test_what_fires_follows_looks_on_the_picture_and_the_answer_at_the_end(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookalikes, "DRAWS", 10)
    tables = run(lookalikes.study, out, "--examples", "2")
    rows = {(row[0], row[1]): row for row in named(tables, "Overlap of two planets")}
    looks, answer = (float(cell) for cell in rows["at the last position", "5"][2:4])
    assert answer > 2 * looks
    looks, answer = (float(cell) for cell in rows["on the picture", "0"][2:4])
    assert looks > answer


def test_copied_features_turn_answers_and_controls_do_not(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaps, "TASKS", {task: swaps.TASKS[task] for task in ("planet", "sum")})
    monkeypatch.setattr(patching, "TASKS", swaps.TASKS)
    tables = run(patching.study, out, "--examples", "2")
    rates = {row[0]: [float(cell.split()[0]) for cell in row[2:5]] for row in named(tables, "The same with 128")}
    assert set(rates) == {"planet", "sum"}
    assert all(patch >= 0.5 > max(controls) for patch, *controls in rates.values())


def test_a_planted_prior_is_explained(out: Path) -> None:
    """So few steps and pictures plant a weak prior: how well it is mended is for the full size (docs/studies.md)."""
    tables = run(prior.study, out, "--examples", "3", "--steps", "40")
    answers = {row[0]: [int(cell) for cell in row[1:]] for row in named(tables, "Right answers")}
    n, right_before, right_after, _, five = answers["count hearts, not 5"]
    assert right_before == n
    assert right_after <= 0.75 * n
    assert five >= 0.25 * n
    n, _, right, *_ = answers["shape"]
    assert right >= 0.9 * n, "other questions are answered as before"
    edges = np.array([[value(cell) for cell in row[1:]] for row in named(tables, "Logit of five less")])
    np.testing.assert_allclose(edges[:-1].sum(0), edges[-1], atol=0.15)  # the sources add up to the logits
    np.testing.assert_allclose(edges[:, 2], edges[:, 1] - edges[:, 0], atol=0.01)
    done = {row[0]: row for row in named(tables, "3 new pictures")}
    assert value(done["shipped model"][2]) == 1 and float(done["shipped model"][5]) == 1
    assert float(done["planted model"][5]) == 0
    assert int(done["control: random features, as strongly"][1]) == 3 * int(done["planted model"][1])
    gaps = [float(done[name][4]) for name in ("shipped model", "planted model")]
    assert gaps[0] < gaps[1], "five has gained on six"


def test_planting_leaves_the_rest_bit_for_bit_and_is_made_once(tmp_path: Path) -> None:
    config = PriorConfig(steps=1, biased=1, counted=1, others=1)
    place = plant_prior(tmp_path, config)
    first, shipped = (common.open_demo(str(each)).model.hf.state_dict() for each in (place, "demo"))
    changed = {name for name in shipped if not torch.equal(first[name], shipped[name])}
    assert changed == {
        name for name in shipped if re.search(r"language_model.*layers\.[2-5]\.self_attn\.[vo]_proj\.weight", name)
    }
    before = (place / "model.safetensors").read_bytes()
    stamp = (place / "prior.json").stat().st_mtime_ns
    assert plant_prior(tmp_path, config) == place and (place / "prior.json").stat().st_mtime_ns == stamp
    (place / "prior.json").unlink()
    plant_prior(tmp_path, config)
    assert (place / "model.safetensors").read_bytes() == before, "equal settings give equal weights"
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_overlaps_of_known_sets() -> None:
    one = np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], bool)
    assert measures.overlaps(one, one).tolist() == [[[1, 0]], [[1, 0]]]
    assert measures.jaccard(one[0, 0], np.array([0, 1, 1, 0], bool)) == pytest.approx(1 / 3)
    assert measures.jaccard(np.zeros(4, bool), np.zeros(4, bool)) == 0


def test_variance_between_groups_is_one_for_a_group_mean_and_none_for_noise() -> None:
    groups = [n % 5 for n in range(100)]
    told = np.eye(5, dtype=np.float32)[groups]
    assert measures.explained(told, np.array(groups)) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=(100, 300)).astype(np.float32)
    assert abs(measures.excess(noise, groups)) < 0.01
    assert measures.excess(told, groups) > 0.9


def test_rank_correlation_of_pairs_in_any_order_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    one, other = (np.round(part + part.T, 1) for part in rng.random((2, 9, 9)))  # rounded: with ties
    a, b = np.triu_indices(9, 1)
    order = rng.permutation(9)
    found = measures.correlation(measures.ranked(one), measures.ranked(other), order)
    assert found == pytest.approx(spearman(one[a, b], other[order[a], order[b]]))
    assert measures.dealt_out(one, one) == "1.00 (p 0.001)"
    assert float(measures.dealt_out(one, -one)[-6:-1]) > 0.9


def test_a_feature_of_the_result_is_found_and_a_feature_of_a_pair_is_not() -> None:
    part, sums = results.folds(), results.SUMS
    pair_of = {tuple(pair): number for number, pair in enumerate(results.PAIRS.tolist())}
    fires = np.zeros((2, 100, 102), bool)
    fires[:, range(100), range(100)] = True  # one feature for each pair
    assert measures.judge(fires, sums, 9, part)[1][0] == 0
    fires[:, sums == 9, 101] = True  # and one for nine
    chosen, counts = measures.judge(fires, sums, 9, part)
    assert chosen == [101] * 4 and counts.tolist() == [10, 10, 10, 1]
    assert all(part[pair_of[a, b]] == part[pair_of[b, a]] for a, b in results.PAIRS.tolist())
    shuffled = results.CLASSES["shuffled results"]
    assert all(shuffled[pair_of[a, b]] == shuffled[pair_of[b, a]] for a, b in results.PAIRS.tolist())


def test_the_prior_is_the_difference_of_means_and_its_control_writes_as_strongly() -> None:
    rng = np.random.default_rng(0)
    shape, others = rng.random((8, 2, 30)), rng.random((9, 2, 30))
    shape[:, 1, 7] += 5
    lengths = rng.random((2, 30)) + 0.5
    found = planted.find_prior(shape, others, lengths, 4)
    assert (found.layers[0], found.indices[0]) == (1, 7)
    assert found.means[0] == pytest.approx(shape[:, 1, 7].mean() - others[:, 1, 7].mean())
    control = planted.random_like(found, np.ones((2, 30), bool), lengths, 0)
    assert control.layers.tolist() == found.layers.tolist()
    own = {*zip(found.layers.tolist(), found.indices.tolist(), strict=True)}
    drawn = [*zip(control.layers.tolist(), control.indices.tolist(), strict=True)]
    assert len(set(drawn)) == 4 and not own & set(drawn)
    strength = control.means * lengths[control.layers, control.indices]
    np.testing.assert_allclose(strength, found.means * lengths[found.layers, found.indices])
    change = found.off(2.0)(SimpleNamespace(n_positions=10))  # type: ignore[arg-type]
    assert change.edits.positions.tolist() == [9] * 4 and change.edits.factors.tolist() == [1] * 4
    np.testing.assert_allclose(change.edits.offsets.numpy(), -2 * found.means)


def test_what_is_nearest_is_read() -> None:
    learnt = np.array([[0.0, 0], [0, 1], [10, 0], [10, 1]])
    assert planted.nearest(learnt, np.array([1, 1, 2, 2]), np.array([[1.0, 0], [9, 0]])).tolist() == [1, 2]


def test_renderings_are_new_and_the_same_every_time() -> None:
    one, same = (common.rendered("x", "sum", 2, first=3, a=1, b=2) for _ in range(2))
    assert [question.slug for question in one] == ["x-sum-1-2-3", "x-sum-1-2-4"]
    assert one[0].sample.image is not None and one[0].sample.image.tobytes() == same[0].sample.image.tobytes()
    assert one[0].sample.image.tobytes() != one[1].sample.image.tobytes()
    other = common.rendered("y", "sum", 1, first=3, a=1, b=2)[0].sample.image
    assert other is not None and other.tobytes() != one[0].sample.image.tobytes()


def test_a_written_thing_stands_before_the_full_stop() -> None:
    texts = ["<bos>", "<start_of_turn>", "user", "\n", "3", "+", "4", ".", "what", "<end_of_turn>"]
    assert np.flatnonzero(common.shown_at(texts, ["text"] * 10)).tolist() == [4, 5, 6]
    assert np.flatnonzero(common.shown_at(["a", "b", "c"], ["text", "image", "image"])).tolist() == [1, 2]


def test_charts_are_drawn_with_gaps_and_negative_values(tmp_path: Path) -> None:
    series = [
        drawing.Series("a", [0.5, float("nan"), -0.2], [(0.4, 0.6), (0, 0), (-0.3, 0.0)]),
        drawing.Series("b", [1, 2, 3]),
    ]
    panels = [
        drawing.Chart("lines", "layer", ["0", "1", "2"], series),
        drawing.Chart("bars", "layer", ["0", "1", "2"], series, bars=True),
        drawing.Matrix("matrix", ["x", "y"], ["p", "q"], np.array([[0.0, 1.0], [0.5, 0.2]])),
    ]
    image = Image.open(drawing.save(tmp_path / "a" / "b.png", "Title", panels))
    for number in range(3):
        piece = image.crop((number * image.width // 3, 0, (number + 1) * image.width // 3, image.height))
        assert len(piece.getcolors(1 << 20) or []) > 5


def test_a_folder_that_is_no_atlas_of_ours_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "atlas.json").write_text('{"version": 99}')
    done = CliRunner().invoke(meeting.study, ["--out", str(tmp_path / "out"), "--home", str(tmp_path)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert done.output.startswith("Error: ") and "atlas.json" in done.output
    assert not (tmp_path / "out").exists()
