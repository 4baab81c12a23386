"""Corrected against published forms of the offline agents: the same data, seeds and settings, side by side.

Trains each agent in both forms on one task for one cost limit, draws docs/images/published_forms.png and writes a table
of docs/published_forms.md to standard output. Data first, see docs/collecting.md.

    python -m benchmarks.published_forms [--task CarCircle1] [--limit 20] [--seeds 3] [--steps 3000]
                                         [--agents cpq coptidice]
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.small_table import AGENTS, TASKS
from saferl.command_line import composed
from saferl.evaluation.figures import BLUE, GREY, VERMILLION, new_figure
from saferl.training.config import parse_training
from saferl.training.parts import make_parts
from saferl.training.run_evaluation import Protocol

EVERY = 10  # updates between two points of a curve
FORMS = {"corrected": BLUE, "published": VERMILLION}
# What to draw over the updates: metric and axis label.
CURVES = {
    "cpq": ("critics/unknown_cost_q", "Q_c of unknown actions"),
    "coptidice": ("multiplier/value", "multiplier of the cost"),
    "bcq_lag": ("critics/cost_q", "Q_c of the data's actions"),
    "bear_lag": ("critics/cost_q", "Q_c of the data's actions"),
    "ccac": ("critics/cost_q", "Q_c of the data's actions"),
    "cdt_small": ("policy/negative_log_likelihood", "- log likelihood of the drawn actions"),
}


def trained(name: str, form: str, seed: int, task: str, limit: float, steps: int) -> tuple[dict[str, list[float]], Any]:
    """Curves of the metrics over the updates, and the episodes of the trained policy at the limit."""
    settings = {**AGENTS[name], "form": form}
    path = Path(TASKS[task])
    env = path.parent.name
    overrides = [f"agent={name}", f"env={env}", f"data.path={path}", f"steps={steps}", f"seed={seed}"]
    overrides += [f"agent.cost_limit={limit}", *(f"agent.{key}={value}" for key, value in settings.items())]
    values: Any = OmegaConf.to_container(composed("config", overrides))
    _, box, _, agent, sampler = make_parts(parse_training(values))
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(()))
    curves: dict[str, list[float]] = defaultdict(list)
    for step in range(1, steps + 1):
        for key, value in agent.update(sampler.sample()).items():
            sums[key] = sums[key] + value
        if step % EVERY == 0:
            for key in list(sums):
                curves[key].append(float(sums.pop(key)) / EVERY)
    return curves, Protocol(episodes=20).run(agent.policy(*box, cost_limit=limit), env)


def draw(curves: Mapping[tuple[str, str], list[list[float]]], names: list[str], path: Path) -> None:
    """A panel for each agent: the mean over seeds of its metric, and their range, in both forms."""
    figure = new_figure(min(3, len(names)), -(-len(names) // 3), 4.4, 3.0)
    for axes, name in zip(figure.axes, names):
        for form, colour in FORMS.items():
            runs = np.array(curves[name, form])  # (seeds, points)
            steps = EVERY * np.arange(1, runs.shape[1] + 1)
            axes.fill_between(steps, runs.min(0), runs.max(0), color=colour, alpha=0.2, linewidth=0)
            axes.plot(steps, runs.mean(0), color=colour, linewidth=1.2, label=form)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("updates")
        axes.set_ylabel(CURVES[name][1], fontsize=9, color=GREY)
        axes.legend(fontsize=8, frameon=False)
    for axes in figure.axes[len(names) :]:
        axes.remove()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="PointCircle1", choices=list(TASKS))
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument(
        "--agents", nargs="+", default=[name for name in CURVES if name in AGENTS], choices=list(CURVES)
    )
    parser.add_argument("--picture", type=Path, default=Path("docs/images/published_forms.png"))
    arguments = parser.parse_args()
    curves: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    task, limit, steps = arguments.task, arguments.limit, arguments.steps
    print(f"{task}, cost limit {limit:g}, {steps} updates, {arguments.seeds} seeds, 20 episodes each\n")
    print("| agent | form | return | cost | seeds within the limit |\n|---|---|---|---|---|")
    for name in arguments.agents:
        for form in FORMS:
            returns, costs = [], []
            for seed in range(arguments.seeds):
                seen, episodes = trained(name, form, seed, task, limit, steps)
                curves[name, form].append(seen[CURVES[name][0]])
                returns.append(episodes.returns.mean())
                costs.append(episodes.costs.mean())
            spread = f"{np.mean(costs):.1f} ({min(costs):.1f} to {max(costs):.1f})"
            kept = sum(cost <= limit for cost in costs)
            print(f"| {name} | {form} | {np.mean(returns):.1f} | {spread} | {kept} of {len(costs)} |", flush=True)
    draw(curves, arguments.agents, arguments.picture)


if __name__ == "__main__":
    main()
