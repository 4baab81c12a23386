"""How often policies leave the data: CQL, BCQ-Lag and FISOR (small), unguarded, guarded in training, and at run time.

    python -m benchmarks.guardian_table [env=point_robot] [data=FILE] [steps=2000] [episodes=20] [kind=density_ratio]
                                        [agents=cql,bcq_lag,fisor_small] [out=results/guardian_table]

Each agent is trained twice at the small table's settings, without and with ``agent.guardian=kind``. One guardian of
another kind judges all of them, k nearest neighbours on 20,000 rows, so that no guard is asked about itself. Columns:
share of visited pairs that are outside, with and without the judge as a wrapper that falls back to the nearest recorded
action; return and cost of an episode.
"""

import hashlib
import sys
from pathlib import Path

from benchmarks.small_table import AGENTS
from saferl.guard import visited_share
from saferl.guardians import (
    GuardedPolicy,
    Guardian,
    GuardianConfig,
    RecordedBehaviour,
    episode_numbers,
    fit_guardian,
)
from saferl.offline_data import OfflineDataset
from saferl.offline_data.loading import load_dataset
from saferl.train import main as train
from saferl.training.run_folder import find_runs
from saferl.training.trained import load_policy

SETTINGS = {
    "env": "point_robot",
    "data": "",
    "steps": "2000",
    "episodes": "20",
    "kind": "density_ratio",
    "agents": "cql,bcq_lag,fisor_small",
    "out": "results/guardian_table",
}
JUDGE = GuardianConfig(kind="knn", rows=20_000)


def trained(agent: str, guardian: str, settings: dict[str, str]) -> Path:
    """Folder of the run, made unless it is there."""
    data = hashlib.sha256(settings["data"].encode()).hexdigest()[:8] if settings["data"] else "built-in"
    out = Path(settings["out"]) / f"{data}-{settings['steps']}" / guardian
    pattern = out / settings["env"].replace("/", "-") / agent
    if not list(pattern.glob(f"*/checkpoints/step-{int(settings['steps']):010d}")):
        words = [f"agent={agent}", f"env={settings['env']}", f"steps={settings['steps']}", f"out={out}", "eval_every=0"]
        words += [f"agent.{key}={value}" for key, value in AGENTS[agent].items()] + ["eval_episodes=1"]
        words += [f"agent.guardian={guardian}"] + ([f"data.path={settings['data']}"] if settings["data"] else [])
        if train(words) != 0:
            raise SystemExit(f"training failed: {' '.join(words)}")
    return find_runs(str(pattern))[-1].path


def row(label: str, run: Path, judge: Guardian, dataset: OfflineDataset, settings: dict[str, str]) -> str:
    """A line of the table."""
    behaviour = RecordedBehaviour(dataset.observations, dataset.actions)
    cells = [label]
    for wrapped in (False, True):
        policy = load_policy(run)
        shown = GuardedPolicy(policy, judge, behaviour) if wrapped else policy
        facts = visited_share(shown, judge, settings["env"], int(settings["episodes"]))
        interval = f"[{100 * facts['low']:.2f}, {100 * facts['high']:.2f}]"
        cells += [f"{100 * facts['share']:.2f} % {interval}", f"{facts['return']:.3g}", f"{facts['cost']:.3g}"]
    return "| " + " | ".join(cells) + " |"


def main(words: list[str]) -> None:
    """Train what is missing, print the table."""
    settings = dict(SETTINGS)
    for word in words:
        key, _, value = word.partition("=")
        if key not in settings:
            raise SystemExit(f"no setting {key}; known: {', '.join(settings)}.")
        settings[key] = value
    dataset = load_dataset(settings["env"], settings["data"] or None)
    episodes = episode_numbers(dataset.episode_lengths)
    judge = fit_guardian(dataset.observations, dataset.actions, JUDGE, episodes=episodes)
    print("| agent | outside | return | cost | outside, with fallback | return | cost |\n|---|---|---|---|---|---|---|")
    for agent in settings["agents"].split(","):
        for guardian in ("null", settings["kind"]):
            label = agent if guardian == "null" else f"{agent}, guarded ({guardian})"
            print(row(label, trained(agent, guardian, settings), judge, dataset, settings), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
