"""What the studies measure on activations and firing: overlaps, explained variance, signs of a value, co-activation."""

import numpy as np
import torch

from ingest.interventions.statistics import bootstrap, mean_ranks, spearman
from ingest.pipeline import Tracer


def jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[...] shared over all of two boolean arrays [..., F]; 0 where neither holds anything."""
    either = (one | other).sum(-1)
    return (one & other).sum(-1) / np.maximum(either, 1)


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[concept, layer, 2]: Jaccard of a concept's features in the first with its own in the second, and the mean over
    the other concepts there. Takes boolean [concept, layer, F]."""
    pairs = jaccard(one[:, None], other[None])
    same = pairs[range(len(pairs)), range(len(pairs))]
    return np.stack([same, (pairs.sum(1) - same) / (len(pairs) - 1)], axis=-1)


def explained(values: np.ndarray, groups: np.ndarray) -> float:
    """Share of the variance of [n, F] activations, all features pooled, that lies between groups [n]."""
    centred = values - values.mean(0)
    members = (groups == np.unique(groups)[:, None]).astype(np.float32)
    between = ((members @ centred) ** 2 / members.sum(1, keepdims=True)).sum()
    return float(between / max((centred**2).sum(), 1e-9))


def excess(values: np.ndarray, groups: list[int], draws: int = 10) -> float:
    """`explained`, less its mean over shuffled pairs; rows of [n, F] go through the pairs again and again."""
    rng, again = np.random.default_rng(0), len(values) // len(groups)
    shuffled = [explained(values, np.tile(rng.permutation(groups), again)) for _ in range(draws)]
    return explained(values, np.tile(groups, again)) - float(np.mean(shuffled))


def rates(fires: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 [F] of firing [n, F] as a sign of wanted [n]."""
    hits = fires[wanted].sum(0)
    precision, recall = hits / np.maximum(fires.sum(0), 1), hits / max(int(wanted.sum()), 1)
    return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-9)


def judge(fires: np.ndarray, labels: np.ndarray, value: int, part: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The feature chosen with each part left out, and [hits, firings, wanted, F1] on the parts left out.

    `fires` is bool [renderings, n, F]: the first half of the renderings chooses, the other is judged on.
    """
    chosen, counts, half = [], np.zeros(3), max(len(fires) // 2, 1)
    for number in np.unique(part):
        out = part == number
        learnt, wanted = np.tile(labels[~out] == value, half), np.tile(labels[out] == value, half)
        chosen.append(int(rates(fires[:half, ~out].reshape(len(learnt), -1), learnt)[2].argmax()))
        unseen = fires[-half:, out, chosen[-1]].ravel()
        counts += (unseen & wanted).sum(), unseen.sum(), wanted.sum()
    return chosen, np.append(counts, 2 * counts[0] / max(counts[1] + counts[2], 1))


def says(tracer: Tracer, layer: int, feature: int) -> str:
    """The token whose logit a feature's write raises most, directly."""
    weights, rows = tracer.model.weights(), tracer.bank.decoder_rows(layer, torch.tensor([feature]))
    gain = weights.layers[layer].mlp_post_gain
    logits = weights.unembedding @ (weights.final_gain * gain * rows[0])
    return str(tracer.model.tokenizer.decode([int(logits.argmax())])).strip()


def dealt_out(overlap: np.ndarray, likeness: np.ndarray, draws: int = 1000) -> str:
    """Rank correlation over pairs of overlap and likeness [n, n], and how often likeness dealt out anew does it."""
    rng, ranks = np.random.default_rng(0), (ranked(overlap), ranked(likeness))
    found = correlation(*ranks, np.arange(len(overlap)))
    chance = np.mean([correlation(*ranks, rng.permutation(len(overlap))) >= found - 1e-9 for _ in range(draws)])
    return f"{found:.2f} (p {max(chance, 1 / draws):.3f})"


def ranked(matrix: np.ndarray) -> np.ndarray:
    """The ranks of a symmetric matrix's pairs among themselves, less their mean, as a symmetric matrix."""
    pairs, found = np.triu_indices(len(matrix), 1), np.zeros(matrix.shape)
    ranks = mean_ranks(matrix[pairs])
    found[pairs] = found.T[pairs] = ranks - ranks.mean()
    return found


def correlation(one: np.ndarray, other: np.ndarray, order: np.ndarray) -> float:
    """Rank correlation of the pairs of two `ranked` matrices [n, n], the second's rows and columns in another order."""
    a, b = np.triu_indices(len(one), 1)
    x, y = one[a, b], other[order[a], order[b]]
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def together(
    tracer: Tracer, layer: int, values: np.ndarray, draws: int
) -> tuple[int, float, tuple[float, float], float]:
    """Over pairs of a layer's features that fire on some prompts [n, F] and not on all: how many features, the rank
    correlation of co-activation and decoder cosine, its interval over features, the most of 20 shuffles of decoders."""
    live = np.flatnonzero(((values > 0).mean(0) >= 0.05) & ((values > 0).mean(0) <= 0.95))
    gain = tracer.model.weights().layers[layer].mlp_post_gain
    rows = torch.nn.functional.normalize(tracer.bank.decoder_rows(layer, torch.from_numpy(live)) * gain, dim=1)
    cosine, active = (rows @ rows.T).numpy(), np.corrcoef(values[:, live].T)

    def rho(drawn: np.ndarray) -> float:
        chosen = drawn.astype(int)
        a, b = np.triu_indices(len(chosen), 1)
        apart = chosen[a] != chosen[b]  # a feature drawn twice is no pair
        pairs = chosen[a[apart]], chosen[b[apart]]
        return spearman(active[pairs], cosine[pairs])

    whole, rng, ranks = np.arange(len(live)), np.random.default_rng(0), (ranked(active), ranked(cosine))
    shuffled = max(correlation(*ranks, rng.permutation(whole)) for _ in range(20))
    return len(live), correlation(*ranks, whole), bootstrap(whole, rho, draws=draws), shuffled
