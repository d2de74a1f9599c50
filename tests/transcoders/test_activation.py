"""The one activation rule, against its plain definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ingest.transcoders.activation import JumpReLU, ReLU, Rule, TopK, activate, active_features

VALUES = st.sampled_from([-1.0, 0.0, 0.5, 0.5, 1.0, 1.0, 2.0])  # few values, so that equals are common


def plain(rule: Rule, row: list[float], threshold: list[float]) -> list[float]:
    """The definitions, latent by latent."""
    if isinstance(rule, JumpReLU):
        return [value if value > least else 0.0 for value, least in zip(row, threshold, strict=True)]
    relu = [max(value, 0.0) for value in row]
    if isinstance(rule, ReLU):
        return relu
    order = sorted(range(len(relu)), key=lambda n: (-relu[n], n))[: rule.k]
    return [relu[n] if n in order else 0.0 for n in range(len(relu))]


@given(rows=st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=5), k=st.integers(1, 8))
def test_rules_are_their_definitions_with_equals_too(rows: list[list[float]], k: int) -> None:
    threshold = [0.4, 0.6, 1.0, 1.5, 0.0, 0.5]
    for rule in (TopK(k), ReLU(), JumpReLU()):
        found = activate(rule, torch.tensor(rows), torch.tensor(threshold))
        assert found.tolist() == [plain(rule, row, threshold) for row in rows]


def test_jumprelu_is_never_cut_and_rows_differ_in_number() -> None:
    pre = torch.tensor([[1.0] * 100, [1.0] * 3 + [0.0] * 97])

    active = active_features(activate(JumpReLU(), pre, torch.full((100,), 0.5)))

    assert torch.bincount(active.positions).tolist() == [100, 3]


def test_active_features_are_sorted_by_position_and_index() -> None:
    values = torch.zeros(3, 5)
    values[2, 1], values[0, 4], values[2, 0] = 3.0, 1.0, 2.0

    active = active_features(values)

    assert active.positions.tolist() == [0, 2, 2]
    assert active.indices.tolist() == [4, 0, 1]
    assert active.values.tolist() == [1.0, 2.0, 3.0]
    assert len(active) == 3


@pytest.mark.parametrize("rule", [TopK(2), ReLU()])
def test_nothing_positive_means_nothing_active(rule: Rule) -> None:
    assert len(active_features(activate(rule, -torch.ones(4, 6)))) == 0
