"""Clusters by average linkage: two clusters join while their members are alike on average.

The nearest-neighbour chain (Murtagh 1983): from any cluster go to its nearest, on and on, until two are each other's
nearest; those join. For average linkage this gives the same clusters as joining the nearest pair of all each time, in
time n^2 instead of n^3. Equal similarities go to the lower index, so equal input gives equal clusters.
"""

import numpy as np

_GONE = -np.inf


def clusters(similarity: np.ndarray, least: float) -> list[list[int]]:
    """Groups of 0..n-1 from a symmetric [n, n], as large as the mean similarity of what joins is `least` or more.

    Everybody is in one group; members ascend, and groups go by their first member.
    """
    alike = np.array(similarity, dtype=np.float64)
    np.fill_diagonal(alike, _GONE)
    members: dict[int, list[int]] = {at: [at] for at in range(len(alike))}
    done: list[list[int]] = []
    chain: list[int] = []
    while members:
        if not chain:
            chain.append(min(members))
        tip = chain[-1]
        nearest = int(alike[tip].argmax())
        if alike[tip, nearest] < least:
            # others joining would only average what is too far already
            done.append(sorted(members.pop(tip)))
            alike[tip] = alike[:, tip] = _GONE
            chain.pop()
        elif len(chain) > 1 and alike[tip, chain[-2]] >= alike[tip, nearest]:
            _join(alike, members, chain.pop(), chain.pop())
        else:
            chain.append(nearest)
    return sorted(done)


def _join(alike: np.ndarray, members: dict[int, list[int]], one: int, other: int) -> None:
    kept, gone = min(one, other), max(one, other)
    sizes = len(members[kept]), len(members[gone])
    row = (alike[kept] * sizes[0] + alike[gone] * sizes[1]) / sum(sizes)
    alike[kept] = alike[:, kept] = row
    alike[gone] = alike[:, gone] = _GONE
    alike[kept, kept] = _GONE
    members[kept] += members.pop(gone)
