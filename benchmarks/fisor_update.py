"""FISOR's full update and one action at the paper's settings: saferl against plain PyTorch and, where installed, JAX.

One update is two actor steps and one of every critic on 2,048 rows (obs 76, act 2, networks of the paper); one action
is the best of 16 candidates of 5 denoising steps for one observation. The peers are in fisor_plain.py and fisor_jax.py;
the tests check that all three compute the same update. Every version runs in a process of its own, and they take turns,
so that other load hits all alike. Figures are processor seconds, the best round of each.

    python -m benchmarks.fisor_update [--rounds 8] [--threads 1 2] [--device cpu]
"""

import argparse
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from benchmarks.fisor_plain import PlainFISOR
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


def serve(version: str, config: FISORConfig, threads: int, device: str, line: Connection) -> None:
    """Warm up, then time one round, (update, action) in (processor, wall) seconds, for each message."""
    if device == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    update, act = jax_work(config) if version == JAX else torch_work(version, config, device)
    for _ in range(3):
        update()
        act()
    line.send("ready")
    while line.recv() == "round":
        line.send([timed(update, UPDATES), timed(act, ACTIONS)])


def timed(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def best_of(versions: dict[str, tuple[str, FISORConfig]], threads: int, device: str, rounds: int) -> dict[str, list]:
    """For each label the least (processor, wall) seconds of an update and of an action."""
    context, lines, processes = multiprocessing.get_context("spawn"), {}, []
    for label, (version, config) in versions.items():
        lines[label], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(version, config, threads, device, theirs), daemon=True))
        processes[-1].start()
        lines[label].recv()  # one after the other: they compile
    seen: dict[str, list] = {label: [] for label in versions}
    for _ in range(rounds):
        for label, line in lines.items():
            line.send("round")
            seen[label].append(line.recv())
    for line, process in zip(lines.values(), processes, strict=True):
        line.send("stop")
        process.join()
    return {
        label: [tuple(min(r[kind][clock] for r in results) for clock in (0, 1)) for kind in (0, 1)]
        for label, results in seen.items()
    }


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
        best = best_of(versions, threads, arguments.device, arguments.rounds)
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
