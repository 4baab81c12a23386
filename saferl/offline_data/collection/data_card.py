"""What a collection is made of: the data card (JSON and Markdown) and the picture of its episodes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferl.offline_data.collection.config import CollectConfig
from saferl.offline_data.collection.files import write_atomically
from saferl.offline_data.collection.store import StageFile
from saferl.offline_data.dataset import OfflineDataset

Card = dict[str, Any]


def data_card(
    config: CollectConfig,
    dataset: OfflineDataset,
    sources: list[str],
    stages: list[StageFile],
    facts: dict[str, Any],
) -> Card:
    """Everything somebody needs to judge or repeat the collection.

    Args:
        config: its settings.
        dataset: what was written.
        sources: (E,) who made each episode, in the dataset's order, as "limit 25, stage 2, training".
        stages: every stage, with what its training reached.
        facts: versions, machine and command.
    """
    returns, costs = dataset.episode_returns()
    lengths = dataset.episode_lengths
    return {
        "env": config.env,
        "seed": config.seed,
        "settings": dataclasses.asdict(config),
        "filters": dataset.metadata.get("filters"),
        "transitions": len(dataset),
        "episodes": dataset.n_episodes,
        "episode_length": _spread(lengths),
        "obs_dim": dataset.obs_dim,
        "act_dim": dataset.act_dim,
        "margins": dataset.margins is not None,
        "reward_return": _spread(returns),
        "cost_return": _spread(costs),
        "episodes_without_cost": int(np.sum(costs == 0)),
        "best_return_within_cost": {
            f"{limit:g}": float(returns[costs <= limit].max()) for limit in (0, 20, 40, 80) if np.any(costs <= limit)
        },
        "terminal_episodes": int(dataset.terminals.sum()),
        "policies": _policies(sources, returns, costs),
        "stages": [{"file": stage.path.name, **stage.notes} for stage in stages],
        "wall_s": round(sum(stage.notes["wall_s"] for stage in stages), 1),
        "cpu_s": round(sum(stage.notes["cpu_s"] for stage in stages), 1),
        "made_with": facts,
        "episode_sources": sources,
    }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


def _policies(sources: list[str], returns: NDArray[np.float64], costs: NDArray[np.float64]) -> list[Card]:
    names = np.array(sources)
    return [
        {
            "policy": str(name),
            "episodes": int(np.sum(names == name)),
            "reward_return": _spread(returns[names == name]),
            "cost_return": _spread(costs[names == name]),
        }
        for name in dict.fromkeys(sources)
    ]


def write_card(card: Card, folder: Path) -> None:
    """Write ``data_card.json`` and ``data_card.md`` into ``folder``."""
    text = json.dumps(card, indent=1)
    write_atomically(folder / "data_card.json", lambda temporary: temporary.write_text(text))
    write_atomically(folder / "data_card.md", lambda temporary: temporary.write_text(markdown(card)))


def markdown(card: Card) -> str:
    """The card for people, without the list of episodes."""
    facts = card["made_with"]
    packages = facts.get("packages", {})
    shown = ("gymnasium", "mujoco", "safety-gymnasium", "stable_baselines3", "stable-baselines3", "torch", "numpy")
    versions = ", ".join(f"{name} {packages[name]}" for name in shown if name in packages)
    reward, cost, length = card["reward_return"], card["cost_return"], card["episode_length"]
    best = ", ".join(f"{value:.2f} (cost <= {limit})" for limit, value in card["best_return_within_cost"].items())
    lines = [
        f"# Data card: {card['env']}",
        "",
        f"{card['episodes']} episodes, {card['transitions']} transitions; observations {card['obs_dim']}, actions "
        f"{card['act_dim']}; margins {'included' if card['margins'] else 'not known to this environment'}.",
        "",
        "| | min | mean | max |",
        "|---|---|---|---|",
        f"| reward return | {reward['min']:.2f} | {reward['mean']:.2f} | {reward['max']:.2f} |",
        f"| cost return | {cost['min']:.2f} | {cost['mean']:.2f} | {cost['max']:.2f} |",
        f"| episode length | {length['min']:.0f} | {length['mean']:.1f} | {length['max']:.0f} |",
        "",
        f"Episodes without cost: {card['episodes_without_cost']}. Best reward return: {best or '-'}.",
        f"Episodes that the task ended: {card['terminal_episodes']}; the others ran out of time.",
        "",
        f"Filters: {card.get('filters') or 'none'}.",
        f"Seed {card['seed']}. Command: `{facts.get('command', '?')}`",
        f"Made with Python {facts.get('python', '?')}; {versions}; saferl {facts.get('saferl', '?')}, "
        f"commit {facts.get('commit') or 'unknown'}.",
        f"Took {card['wall_s'] / 60:.1f} min of wall time, {card['cpu_s'] / 60:.1f} min of CPU time.",
        "",
        "## Trainings",
        "",
        "Reward and cost: mean over the episodes that ended in the last rollout of the stage.",
        "",
        "| limit | stage | steps | reward | cost | multiplier | episodes seen | too costly |",
        "|---|---|---|---|---|---|---|---|",
        *(_stage_row(stage) for stage in card["stages"]),
        "",
        "## Policies in the data",
        "",
        "| policy | episodes | reward return | cost return |",
        "|---|---|---|---|",
        *(_policy_row(policy) for policy in card["policies"]),
        "",
    ]
    return "\n".join(lines)


def _stage_row(stage: Card) -> str:
    reached = [f"{stage[key]:.2f}" if stage[key] is not None else "-" for key in ("reward", "cost", "multiplier")]
    cells = [stage["limit"], stage["stage"] or "random", stage["steps"], *reached]
    return "| " + " | ".join(map(str, [*cells, stage["episodes_seen"], stage["episodes_too_costly"]])) + " |"


def _policy_row(policy: Card) -> str:
    reward, cost = policy["reward_return"], policy["cost_return"]
    return (
        f"| {policy['policy']} | {policy['episodes']} | {reward['min']:.2f} to {reward['max']:.2f} "
        f"| {cost['min']:.0f} to {cost['max']:.0f} |"
    )


def write_scatter(card: Card, dataset: OfflineDataset, path: Path) -> None:
    """Write a PNG with one dot an episode, reward return over cost return, coloured by the kind of policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    returns, costs = dataset.episode_returns()
    kinds = np.array([source.rpartition(", ")[2] for source in card["episode_sources"]])
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for kind in sorted(set(kinds)):
        chosen = kinds == kind
        axes.scatter(costs[chosen], returns[chosen], s=10, alpha=0.7, label=f"{kind} ({chosen.sum()})")
    axes.set_xlabel("cost return")
    axes.set_ylabel("reward return")
    axes.set_title(f"{card['env']}: {card['episodes']} episodes", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    pyplot.close(figure)
