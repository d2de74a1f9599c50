"""The statistics that reports rest on: known values, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import InputError
from ingest.interventions.statistics import bootstrap, mean_ranks, spearman, wilson

_NUMBERS = st.lists(st.integers(-20, 20), min_size=2, max_size=30)


def test_wilson_gives_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_holds_the_rate_and_mirrors(counts: tuple[int, int], level: float) -> None:
    successes, n = counts
    low, high = wilson(successes, n, level)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= successes / n <= high
    other = wilson(n - successes, n, level)
    assert other == pytest.approx((1 - high, 1 - low))


@given(_NUMBERS)
def test_spearman_knows_order_only(values: list[int]) -> None:
    x = np.array(values, dtype=float)
    same = spearman(x, np.exp(x / 10))
    if len(set(values)) == 1:
        assert np.isnan(same)
    else:
        assert same == pytest.approx(1.0)
        assert spearman(x, -(x**3)) == pytest.approx(-1.0)


def test_spearman_shares_ranks_of_equals() -> None:
    assert mean_ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert spearman([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(0.9486832980505138)
    assert np.isnan(spearman([1], [2]))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_bootstrap_lies_within_the_values_and_repeats(values: list[float]) -> None:
    low, high = bootstrap(values, draws=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap(values, draws=50) == (low, high)


def test_bootstrap_covers_a_mean() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for seed in range(60):
        low, high = bootstrap(rng.normal(2.0, 1.0, size=40), draws=200, seed=seed)
        inside += low <= 2.0 <= high
    assert 50 <= inside <= 59


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: wilson(1, 2, level=1.0),
        lambda: bootstrap([]),
        lambda: bootstrap([1.0, float("nan")]),
        lambda: bootstrap([1.0], draws=0),
        lambda: spearman([1, 2], [1, 2, 3]),
        lambda: spearman([1, float("inf")], [1, 2]),
    ],
)
def test_bad_numbers_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError):
        call()
