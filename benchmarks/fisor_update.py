"""FISOR's full update and one action at the paper's settings: saferl against plain PyTorch and, where installed, JAX.

One update is two actor steps and one of every critic on 2,048 rows (obs 76, act 2, networks of the paper); one action
is the best of 16 candidates of 5 denoising steps for one observation. The peers are in fisor_plain.py and fisor_jax.py;
the tests check that all three compute the same update. Every version runs in a process of its own, and they take turns,
so that other load hits all alike. Figures are processor seconds, the best round of each.

    python -m benchmarks.fisor_update [--rounds 8] [--threads 1 2] [--device cpu]
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from benchmarks.fisor_plain import PlainFISOR
from benchmarks.turns import best_rounds
from saferl.agents import FISOR, FISORConfig
from saferl.offline_data.batch import Batch

OBS_DIM, ACT_DIM = 76, 2
UPDATES, ACTIONS = 3, 40  # in one round
OURS, PLAIN, JAX = "saferl", "plain PyTorch", "JAX"
Work = tuple[Callable[[], object], Callable[[], object]]  # one update, one action


def example_batch(rows: int, device: str = "cpu") -> Batch:
    """Random transitions; a tenth has a cost, one in a thousand ends."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    def share(part: float) -> torch.Tensor:
        return (torch.rand(rows, generator=generator) < part).float().to(device)

    return Batch(
        observations=normal(rows, OBS_DIM),
        actions=normal(rows, ACT_DIM).clamp(-1, 1),
        rewards=normal(rows),
        costs=share(0.1),
        next_observations=normal(rows, OBS_DIM),
        terminals=share(0.0),
        timeouts=share(0.001),
    )


def torch_work(version: str, config: FISORConfig, device: str) -> Work:
    agent, batch = FISOR(config, OBS_DIM, ACT_DIM, device), example_batch(config.batch_size, device)
    one = batch.observations[:1].clone()
    if version == OURS:
        return lambda: agent.update(batch)["policy/loss"].item(), lambda: agent.act(one).tolist()
    plain = PlainFISOR(agent)
    return lambda: plain.update(batch)["policy/loss"].item(), lambda: plain.act(one).tolist()


def jax_work(config: FISORConfig) -> Work:
    import jax

    from benchmarks.fisor_jax import JaxFISOR

    peer = JaxFISOR(FISOR(config, OBS_DIM, ACT_DIM))
    batch = {
        key: jax.numpy.asarray(value.numpy())
        for key, value in vars(example_batch(config.batch_size)).items()
        if value is not None
    }
    one = batch["observations"][:1]
    return lambda: peer.update(batch)["policy/loss"].block_until_ready(), lambda: peer.act(one).block_until_ready()


def calls(version: str, config: FISORConfig, device: str) -> list[tuple[Callable[[], object], int]]:
    """An update and an action, with their repeats in a round."""
    update, act = jax_work(config) if version == JAX else torch_work(version, config, device)
    return [(update, UPDATES), (act, ACTIONS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each version")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; on cuda the wall clock counts, and JAX is left out"
    )
    arguments = parser.parse_args()
    config = FISORConfig(compile=True)
    versions = {
        "saferl float32": (OURS, config),
        "saferl bfloat16": (OURS, replace(config, precision="bfloat16")),
        "saferl float32, eager": (OURS, replace(config, compile=False)),
    }
    if arguments.device == "cpu":
        versions["plain PyTorch"] = (PLAIN, config)
        if importlib.util.find_spec("jax") and importlib.util.find_spec("optax"):
            versions["JAX"] = (JAX, config)
        else:
            print("JAX is not installed (pip install saferl[bench]); compared with plain PyTorch only.")
    clock, unit = (0, "processor") if arguments.device == "cpu" else (1, "wall")
    for threads in arguments.threads:
        makers = {label: partial(calls, *version, arguments.device) for label, version in versions.items()}
        timings = best_rounds(makers, threads, arguments.rounds, pin=arguments.device == "cpu")
        best = {label: [(each.processor, each.wall) for each in both] for label, both in timings.items()}
        print(f"\n{threads} thread(s), {arguments.device}: ms of {unit} time (ms of wall time)")
        for label, (update, act) in best.items():
            print(
                f"  {label:24s} update {update[clock] * 1e3:7.1f} ({update[1] * 1e3:7.1f})   "
                f"action {act[clock] * 1e3:6.2f} ({act[1] * 1e3:6.2f})"
            )
        for peer in ("plain PyTorch", "JAX"):
            if peer in best:
                ratios = [best[label][0][clock] / best[peer][0][clock] for label in list(versions)[:2]]
                act = best["saferl float32"][1][clock] / best[peer][1][clock]
                print(f"  ratio to {peer}: update {ratios[0]:.2f} float32, {ratios[1]:.2f} bfloat16; action {act:.2f}")


if __name__ == "__main__":
    main()
