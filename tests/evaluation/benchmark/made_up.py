"""Results made up by hand."""

from saferl.evaluation.benchmark import Result


def result(agent="bc", task="PointCircle1", seed=0, limit=20.0, gain=0.5, cost=10.0, **more):
    facts = {
        "env": f"Offline{task}Gymnasium-v0", "family": "safety_gymnasium_navigation", "returns": (gain * 50,) * 2,
        "costs": (cost - 1, cost + 1), "violations": (int(cost),) * 2, "start_seeds": (0, 1),
        "normalised_returns": (gain,) * 2, "steps": 10, "train_seconds": 1.0, "run": "runs/x",
    }  # fmt: skip
    return Result(agent=agent, task=task, seed=seed, limit=limit, **(facts | more))


def benchmark(agents=("bc", "cpq", "fisor"), tasks=("CarPush1", "CarPush2"), seeds=3, limits=(20.0, 40.0), **more):
    """Agents one better than the other, and safe but for the first."""
    return [
        result(agent, task, seed, limit, gain=0.8 - 0.2 * place + 0.02 * seed, cost=50.0 / (1 + 3 * place), **more)
        for place, agent in enumerate(agents)
        for task in tasks
        for seed in range(seeds)
        for limit in limits
    ]
