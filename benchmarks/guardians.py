"""Searches for the nearest rows of a large store against each other, and what a guardian of each kind takes per query.

    python -m benchmarks.guardians [rows]     of the store, 200,000 unless given

Synthetic rows: smooth functions of 6 hidden numbers plus 2 % noise, in 28 + 2 and 76 + 2 columns, since a robot's
observations have far fewer degrees of freedom than columns. Processor time on one thread, 256 new pairs at a time.
Packages that are not installed are left out (scikit-learn and hnswlib are no dependencies of saferl).
"""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from saferl.guardians import GuardianConfig, fit_guardian
from saferl.guardians.neighbours import Neighbours, nearest_of_all

Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]  # points (B, d) to the row numbers (B, K) of the nearest
QUERIES, K = 256, 8
KINDS = (
    GuardianConfig(kind="autoencoder", updates=200),
    GuardianConfig(kind="density_ratio", updates=200),
    GuardianConfig(kind="ensemble", updates=200),
    GuardianConfig(kind="kde", rows=20_000, bandwidth=0.1),
    GuardianConfig(kind="kde", neighbours=50, bandwidth=0.1, search="faiss"),
    GuardianConfig(kind="knn", rows=20_000),
    GuardianConfig(kind="knn", search="faiss"),
)


def rows_of(count: int, columns: int, seed: int = 0) -> Array:
    """Scaled rows (count, columns)."""
    maps, rng = np.random.default_rng(5), np.random.default_rng(seed)
    hidden = np.tanh(rng.uniform(-1, 1, (count, 6)) @ maps.normal(size=(6, 64)))
    rows = hidden @ maps.normal(size=(64, columns)) / 8 + 0.02 * rng.normal(size=(count, columns))
    return (2 * (rows - rows.min(0)) / np.ptp(rows, axis=0) - 1).astype(np.float32)


def torch_blocks(rows: Array) -> Search:
    """All distances, by products of blocks, as saferl's search=exact of more than 20 columns; no index."""
    return lambda points: nearest_of_all(points, rows, K)


def scipy_tree(rows: Array) -> Search:
    """scipy's k-d tree."""
    tree = cKDTree(rows)
    return lambda points: tree.query(points, K)[1]


def sklearn_tree(rows: Array) -> Search:
    """scikit-learn's k-d tree."""
    from sklearn.neighbors import KDTree

    tree = KDTree(rows)
    return lambda points: tree.query(points, K)[1]


def faiss_flat(rows: Array) -> Search:
    """faiss, all distances."""
    import faiss

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    return lambda points: index.search(points, K)[1]


def faiss_lists(rows: Array) -> Search:
    """faiss, inverted lists, as saferl's search=faiss."""
    near = Neighbours(rows, "faiss")
    return lambda points: near.query(points, K)[1]


def faiss_graph(rows: Array) -> Search:
    """faiss, a navigable graph."""
    import faiss

    index = faiss.IndexHNSWFlat(rows.shape[1], 16)
    index.hnsw.efConstruction, index.hnsw.efSearch = 60, 32
    index.add(rows)
    return lambda points: index.search(points, K)[1]


def hnswlib_graph(rows: Array) -> Search:
    """hnswlib, a navigable graph."""
    import hnswlib

    index = hnswlib.Index("l2", rows.shape[1])
    index.init_index(len(rows), M=16, ef_construction=60)
    index.add_items(rows, num_threads=1)
    index.set_ef(32)
    return lambda points: index.knn_query(points, K, num_threads=1)[0].astype(np.int64)


SEARCHES: tuple[tuple[str, str, Callable[[Array], Search]], ...] = (
    ("torch, all distances", "torch", torch_blocks),
    ("faiss flat, all distances", "faiss", faiss_flat),
    ("scipy cKDTree", "scipy", scipy_tree),
    ("scikit-learn KDTree", "sklearn", sklearn_tree),
    ("faiss HNSW", "faiss", faiss_graph),
    ("hnswlib HNSW", "hnswlib", hnswlib_graph),
    ("faiss inverted lists", "faiss", faiss_lists),
)


def searches(rows: Array, points: Array) -> Iterator[tuple[str, float, float, float]]:
    """Label, seconds to build, milliseconds for the points, share of the true nearest that are found."""
    true = torch_blocks(rows)(points)
    for label, package, make in SEARCHES:
        if importlib.util.find_spec(package) is None:
            continue
        start = time.process_time()
        search = make(rows)
        built = time.process_time() - start
        start = time.process_time()
        found = search(points)
        taken = time.process_time() - start
        yield label, built, 1e3 * taken, float(np.mean([np.isin(f, t).mean() for f, t in zip(found, true)]))


def guardians(rows: Array, points: Array) -> Iterator[tuple[str, float]]:
    """Label and milliseconds for the points of each kind."""
    for config in KINDS:
        if config.search == "faiss" and importlib.util.find_spec("faiss") is None:
            continue
        seen, following = rows[:20_000], np.roll(rows[:20_000, :-2], -1, axis=0)
        fitted = fit_guardian(seen[:, :-2], seen[:, -2:], config, next_observations=following)
        if config.search == "faiss":  # searches of the whole store; its threshold would take minutes more
            fitted.neighbours = Neighbours(rows, "faiss")  # type: ignore[attr-defined]
        start = time.process_time()
        fitted.score(points[:, :-2], points[:, -2:])
        size = len(rows) if config.search == "faiss" else config.rows
        yield (
            f"{config.kind}" + (f", {size:,} rows, {config.search}" if size else ""),
            1e3 * (time.process_time() - start),
        )


def main(count: int) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(1)
    for columns in (30, 78):
        rows = rows_of(count + QUERIES, columns)
        store, points = rows[:count], rows[count:]
        print(f"\n{count:,} rows of {columns} columns\n")
        print(f"| search | build, s | {QUERIES} queries, ms | found |\n|---|---|---|---|")
        for label, built, taken, found in searches(store, points):
            print(f"| {label} | {built:.1f} | {taken:.0f} | {found:.4f} |", flush=True)
        print(f"\n| guardian | {QUERIES} pairs, ms |\n|---|---|")
        for label, taken in guardians(store, points):
            print(f"| {label} | {taken:.1f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
