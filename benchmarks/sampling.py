"""Sampling: saferl's Sampler against a per-item torch IterableDataset with a DataLoader, over the same arrays.

Both give batches of 512 transitions (obs 76, act 2) with the same seven fields, on one thread. The peer is what OSRL
uses: a dataset that yields one transition at a time, collated by the DataLoader in the main process, its fastest
setting on a few cores. Rates are per CPU-second, the best of three runs.

    python benchmarks/sampling.py [--rows 1000000] [--batches 200]
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from saferl.offline_data import OfflineDataset, Sampler

BATCH, OBS_DIM, ACT_DIM = 512, 76, 2
RUNS = 3


class Transitions(IterableDataset):
    """One transition after the other, drawn with replacement."""

    def __init__(self, dataset: OfflineDataset) -> None:
        self.columns = list(dataset.arrays().values())
        self.rows = len(dataset)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Without end."""
        while True:
            row = np.random.randint(self.rows)  # noqa: NPY002  as the peer draws
            yield tuple(column[row] for column in self.columns)


def example(rows: int) -> OfflineDataset:
    """Random transitions in episodes of 1,000 steps."""
    generator = np.random.default_rng(0)
    observations = generator.standard_normal((rows, OBS_DIM), dtype=np.float32)
    return OfflineDataset(
        observations=observations,
        next_observations=observations[::-1].copy(),
        actions=generator.uniform(-1, 1, (rows, ACT_DIM)).astype(np.float32),
        rewards=generator.standard_normal(rows, dtype=np.float32),
        costs=(generator.random(rows) < 0.1).astype(np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(rows) % min(rows, 1_000) == min(rows, 1_000) - 1,
    )


def rates(draws: dict[str, Callable[[], object]], batches: dict[str, int]) -> dict[str, float]:
    """Samples per CPU-second of the best run of each; they take turns, so that other load hits all alike."""
    best = dict.fromkeys(draws, 0.0)
    for name, draw in list(draws.items()) * RUNS:
        draw()  # not counted
        start = time.process_time()
        for _ in range(batches[name]):
            draw()
        best[name] = max(best[name], batches[name] * BATCH / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="transitions in the dataset")
    parser.add_argument(
        "--batches", type=int, default=200, help="batches of the peer in a run; saferl draws 20 times it"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = example(arguments.rows)
    print(f"{len(dataset):,} transitions, {dataset.nbytes / 1e6:.0f} MB, batch {BATCH}, one thread, CPU")
    loader = iter(DataLoader(Transitions(dataset), batch_size=BATCH))
    peer, ours = "IterableDataset + DataLoader", "saferl Sampler"
    best = rates(
        {peer: lambda: next(loader), ours: Sampler(dataset, BATCH).sample},
        {peer: arguments.batches, ours: 20 * arguments.batches},
    )
    for name, samples in best.items():
        print(f"{name:30s}{samples / 1e6:8.3f} M samples per CPU-second")
    print(f"ratio: {best[ours] / best[peer]:.1f} (aim: at least 30)")


if __name__ == "__main__":
    main()
