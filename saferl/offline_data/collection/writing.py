"""collect: the whole collection, from settings to dataset.hdf5, data card and picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saferl.offline_data.collection.config import CollectConfig
from saferl.offline_data.collection.data_card import Card, data_card, write_card, write_scatter
from saferl.offline_data.collection.loop import Report, collect_stages, derived_seed
from saferl.offline_data.collection.recorder import Episode
from saferl.offline_data.collection.store import StageFile, thinned, transitions
from saferl.offline_data.dataset import OfflineDataset
from saferl.offline_data.filters import filtered_episodes
from saferl.offline_data.hdf5 import save_hdf5


@dataclass(frozen=True)
class Written:
    """What a collection left in its folder."""

    dataset: Path  # HDF5 as DSRL has it
    picture: Path
    card: Card  # also data_card.json and data_card.md


def collect(config: CollectConfig, folder: Path, facts: dict[str, Any], report: Report) -> Written:
    """Make or finish a collection in ``folder``.

    Args:
        config: its settings.
        folder: for its stages, policies and results; a folder begun with the same settings is continued.
        facts: versions, machine and command, for the data card.
        report: called as the work goes on.
    Raises: ValueError in one line for what the user can mend.
    """
    stages = collect_stages(config, folder, report)
    dataset, sources = assembled(config, stages)
    written = Written(
        folder / "dataset.hdf5", folder / "scatter.png", data_card(config, dataset, sources, stages, facts)
    )
    save_hdf5(dataset, written.dataset)
    write_scatter(written.card, dataset, written.picture)
    write_card(written.card, folder)
    return written


def assembled(config: CollectConfig, stages: list[StageFile]) -> tuple[OfflineDataset, list[str]]:
    """All stages thinned together to ``config.trajectories``, then under ``config.filters``.

    Returns: the dataset and, for each of its episodes, who made it.
    Raises: ValueError if no episode is left, or a filter finds too few.
    """
    totals = np.concatenate([stage.totals for stage in stages])  # (E, 2)
    if not len(totals):
        raise ValueError("no episode was kept; raise max_cost, or steps so that episodes end within a rollout.")
    generator = np.random.default_rng(derived_seed(config.seed, "thin"))
    rows = thinned(totals[:, 0], totals[:, 1], config.trajectories, generator)
    episodes: list[Episode] = []
    sources: list[str] = []
    first = 0
    for stage in stages:
        own = rows[(rows >= first) & (rows < first + len(stage.lengths))] - first
        episodes += stage.episodes(own)
        number = stage.notes["stage"]
        prefix = f"limit {stage.notes['limit']}, stage {number}, " if number else ""
        sources += [prefix + stage.sources[row] for row in own]
        first += len(stage.lengths)
    metadata: dict[str, str | int | float] = {
        "env": config.env,
        "seed": config.seed,
        "recipe": "saferl.collect: PPO with a PID Lagrangian multiplier at several cost limits; see the data card",
    }
    dataset = OfflineDataset(**transitions(episodes), metadata=metadata, source=config.env)
    seed = derived_seed(config.seed, "filters")
    dataset, stayed = filtered_episodes(dataset, config.filters, seed, config.env)
    return dataset, [sources[episode] for episode in stayed]
