"""The README's table: every agent on four tasks with data collected here, two limits, three seeds, on two CPU cores.

Networks of 128 units, batches of 256 (CDT and FISOR: their small presets) and 2,000 updates, a fiftieth of the usual
budget, with learning rates and target copies that move faster for it. Data first, see docs/collecting.md; the command
goes on where it was stopped.

    python -m benchmarks.small_table [key=value ...]     settings of saferl.benchmark, such as agents=[bc,cpq]
                                                         tasks=[CarCircle1] steps=1000 workers=1
"""

import sys

import saferl.benchmark
from saferl.command_line import unknown

STEPS = 2_000
TASKS = {
    "PointCircle1": "data/OfflinePointCircle1Gymnasium-v0/dataset.hdf5",
    "CarCircle1": "data/OfflineCarCircle1Gymnasium-v0/dataset.hdf5",
    "HalfCheetahVelocity": "data/OfflineHalfCheetahVelocityGymnasium-v1/dataset.hdf5",
    "BallCircle": "data/OfflineBallCircle-v0/dataset.hdf5",
}
SMALL: dict[str, object] = {"hidden": 128, "batch_size": 256}
FAST: dict[str, object] = {**SMALL, "actor_lr": "1e-3", "critic_lr": "1e-3", "target_rate": 0.02}
VAE = {**FAST, "vae_hidden": 128}
IMITATION = ("bc", "bc_safe", "bc_risky", "bc_frontier", "bc_boundary", "bc_conditioned")


def settings(steps: int = STEPS) -> dict[str, dict[str, object]]:
    """Each agent's settings for so many updates."""
    return {
        **{name: SMALL for name in IMITATION},
        "coptidice": {**SMALL, "actor_lr": "1e-3", "critic_lr": "1e-3", "multiplier_lr": "1e-2"},
        "carl": FAST,
        "o3srl": FAST,
        "iql_lag": {**FAST, "lr_decay": steps},
        "caps": {**FAST, "lr_decay": steps},
        "cpq": VAE,
        "bcq_lag": VAE,
        "bear_lag": VAE,
        "cql": {**FAST, "candidates": 4},
        "cql_lag": {**FAST, "candidates": 4},
        "ccac": {**VAE, "vae_latent_dim": 16, "warm_up": steps // 3, "log_multiplier_limit": 1.5},
        "cdt_small": {},
        **{
            name: {"critic_lr_decay": steps, "actor_lr_decay": 2 * steps}
            for name in ("fisor_small", "fisor_qc_small", "fisor_awr_small", "fisor_plus_small")
        },
    }


AGENTS = settings()


def words(agents: list[str], tasks: list[str], steps: int = STEPS) -> list[str]:
    """The command's words for these agents, tasks and so many updates."""
    chosen = {name: [f"agent.{key}={value}" for key, value in settings(steps)[name].items()] for name in agents}
    inner = ",".join(f"{name}:[{','.join(values)}]" for name, values in chosen.items())
    return [
        f"agents=[{','.join(agents)}]",
        f"tasks=[{','.join(tasks)}]",
        "data={" + ",".join(f"{task}:{TASKS[task]}" for task in tasks) + "}",
        "limits=[20,40]",
        "seeds=3",
        f"steps={steps}",
        f"agent_overrides={{{inner}}}",
        "out=results/small_table",
    ]


def taken(given: list[str], key: str, known: list[str]) -> list[str]:
    """The names of the word ``key=[...]``, which leaves the list; all that are known if there is none."""
    chosen = [word for word in given if word.startswith(f"{key}=")]
    given[:] = [word for word in given if word not in chosen]
    names = chosen[-1].partition("=")[2].strip("[]").split(",") if chosen else known
    for name in names:
        if name not in known:
            raise SystemExit(unknown(key.removesuffix("s"), name, known))
    return names


if __name__ == "__main__":
    given = sys.argv[1:]
    agents, tasks = taken(given, "agents", list(AGENTS)), taken(given, "tasks", list(TASKS))
    steps = [int(word.partition("=")[2]) for word in given if word.startswith("steps=")]
    raise SystemExit(saferl.benchmark.main([*words(agents, tasks, *steps[-1:]), *given]))
