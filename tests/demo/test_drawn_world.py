"""The drawn world: the same seed draws the same picture, and the truth says what is in it."""

import numpy as np
import pytest

from atlas.errors import InputError
from ingest.demo.curriculum import TASK_WEIGHTS, TEXT_WEIGHTS, questions, step_generator
from ingest.demo.evaluate import world_batches
from ingest.demo.facts import QUESTIONS, SHAPES
from ingest.demo.mosaic import SEEN_COLOURS, SEEN_WORDS, cell_labels, mosaic
from ingest.demo.world import HELD_OUT, PICTURE_TASKS, PLANETS, TEXT_TASKS, draw, draw_pixels


@pytest.mark.parametrize("task", [*PICTURE_TASKS, *TEXT_TASKS])
def test_one_seed_draws_one_sample(task):
    once, again = (draw(task, np.random.default_rng(5)) for _ in range(2))
    other = draw(task, np.random.default_rng(6))

    assert (once.question, once.answer, once.concept, once.truth) == (
        again.question,
        again.answer,
        again.concept,
        again.truth,
    )
    if once.image is None:
        assert task in TEXT_TASKS
    else:
        assert once.image.tobytes() == again.image.tobytes()
        assert once.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("task", PICTURE_TASKS)
def test_training_and_public_door_draw_the_same(task):
    sample, fast = draw(task, np.random.default_rng(8)), draw_pixels(task, np.random.default_rng(8))

    assert np.array_equal(np.asarray(sample.image), fast.pixels)
    assert [vars(thing) for thing in fast.drawn] == sample.truth["drawn"]
    assert (sample.question, sample.answer) == (fast.question, fast.answer)


def test_answers_follow_from_pinned_recipes():
    rng = np.random.default_rng(0)

    assert draw("sum", rng, a=3, b=4).answer == "7"
    assert draw("read", rng, a=3, b=4).answer == "3 + 4"
    assert draw("first", rng, a=3, b=4).answer == "3"
    assert draw("second", rng, a=3, b=4).answer == "4"
    assert draw("digit", rng, a=0).answer == "0"
    assert draw("count", rng, n=9).answer == "9"
    assert draw("colour", rng, colour="pink").answer == "pink"
    assert draw("shape", rng, shape="heart").answer == "heart"
    assert draw("moons", rng, planet="mars").answer == "2"
    assert draw("order", rng, planet="saturn").answer == "6"
    assert draw("text_moons", rng, planet="jupiter").answer == "many"
    assert draw("text_sum", rng, a=0, b=9).question == "0 + 9 . what is the sum ?"


@pytest.mark.parametrize("seed", range(5))
def test_boxes_hold_what_was_drawn(seed):
    """Inside a shape's box its colour is found; outside all boxes it is not."""
    sample = draw("count", np.random.default_rng(seed), n=5, colour="blue")
    pixels = np.asarray(sample.image).astype(int)
    bluish = pixels[:, :, 2] - pixels[:, :, :2].mean(-1) > 60
    inside = np.zeros_like(bluish)

    for thing in sample.truth["drawn"]:
        left, top, right, bottom = thing["box"]
        inside[top:bottom, left:right] = True
        assert bluish[top:bottom, left:right].mean() > 0.2

    assert len(sample.truth["drawn"]) == 5
    assert not bluish[~inside].any()


def test_digits_stand_in_reading_order():
    for seed in range(30):
        sample = draw("sum", np.random.default_rng(seed))
        drawn = sample.truth["drawn"]
        assert [thing["word"] for thing in drawn] == [str(sample.truth["a"]), "+", str(sample.truth["b"])]
        assert drawn[0]["box"][0] < drawn[1]["box"][0] < drawn[2]["box"][0]
        assert all(0 <= edge <= 112 for thing in drawn for edge in thing["box"])


def test_moons_and_order_are_not_drawn():
    """Two questions about one planet, drawn from one generator state, have the same picture."""
    pictures = {
        draw(task, np.random.default_rng(3), planet="neptune").image.tobytes()
        for task in ("planet", "moons", "order", "planet_colour")
    }
    assert len(pictures) == 1


def test_held_out_pairs_never_appear_as_pictures_in_training():
    seen: set[tuple[str, str]] = set()
    read: set[tuple[str, str]] = set()
    of_planets = {task: TASK_WEIGHTS[task] for task in ("planet", "moons", "order", "planet_colour")}
    for step in range(60):
        rng = step_generator(0, step)
        seen |= {(sample.truth["planet"], sample.task) for sample in questions(of_planets, 16, rng)}
        read |= {
            (sample.truth["planet"], sample.task.removeprefix("text_"))
            for sample in questions(TEXT_WEIGHTS, 40, rng)
            if "planet" in sample.truth
        }

    every_pair = {(planet, task) for planet in PLANETS for task in ("planet", "moons", "order", "planet_colour")}
    assert len(HELD_OUT) == 4
    assert seen == every_pair - HELD_OUT
    assert read == every_pair


def test_held_out_pairs_never_appear_as_pictures_for_the_transcoders():
    allowed = {
        answer
        for planet, fact in ((name, vars(planet)) for name, planet in PLANETS.items())
        for answer in [fact["order"]]
        if (planet, "order") not in HELD_OUT
    }
    drawn = {draw("order", np.random.default_rng(seed)).answer for seed in range(200)}

    assert drawn == allowed
    assert sum(len(batch["input_ids"]) for batch in world_batches(64, seed=1)(None)) == 64


def test_a_held_out_pair_is_drawn_when_pinned():
    planet, task = sorted(HELD_OUT)[0]
    assert draw(task, np.random.default_rng(0), planet=planet).truth["planet"] == planet


@pytest.mark.parametrize(
    ("task", "fixed"), [("dance", {}), ("sum", {"a": 10}), ("count", {"n": 0}), ("moons", {"planet": "pluto"})]
)
def test_what_cannot_be_drawn_is_refused(task, fixed):
    with pytest.raises(InputError):
        draw(task, np.random.default_rng(0), **fixed)


def test_mosaic_labels_name_what_is_centred_in_each_cell():
    for seed in range(20):
        canvas = mosaic(np.random.default_rng(seed))
        labels = cell_labels(canvas.drawn)
        assert (labels.word > 0).sum() == (labels.colour >= 0).sum() > 0
        last = canvas.drawn[-1]  # nothing drawn later can have taken its cell
        column = (last.box[0] + last.box[2]) // 2 // 28
        row = (last.box[1] + last.box[3]) // 2 // 28
        assert SEEN_WORDS[labels.word[4 * row + column] - 1] == last.word
        assert SEEN_COLOURS[labels.colour[4 * row + column]] == last.colour


def test_every_shape_looks_different():
    drawn = [draw("shape", np.random.default_rng(4), shape=shape, colour="red") for shape in SHAPES]
    pictures = [np.asarray(sample.image) for sample in drawn]
    for index, picture in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert (picture != other).any(-1).mean() > 0.01


def test_every_task_has_a_question_and_a_text_twin():
    assert set(PICTURE_TASKS) == set(QUESTIONS)
    assert {task.removeprefix("text_") for task in TEXT_TASKS} == set(PICTURE_TASKS)
