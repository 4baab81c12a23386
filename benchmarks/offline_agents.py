"""Updates of the offline agents against OSRL's, at OSRL's defaults on one thread: steps per CPU-second and memory.

Synthetic data of DSRL's shape (obs 76, act 2), batch 512; CDT 2,048 sequences of 10 steps. Our side draws its batches
in the measured time, OSRL's has its rows at hand, except for BC, where both use their data path. With OSRL_PATH=... (a
checkout) OSRL runs in the same rounds; without it the ratios are to figures measured once on a machine of this kind.
Memory is the greatest resident set, and in brackets what of it came after torch (and the data) were there.

    OSRL_PATH=../OSRL python -m benchmarks.offline_agents [--agents cpq bcq_lag] [--rounds 3]
"""

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import osrl_agents
from benchmarks.sampling import ACT_DIM, OBS_DIM, example
from benchmarks.turns import Timing, best_rounds
from saferl.agents import AGENTS

ROWS = 20_000
# OSRL on one thread of a shared two-core machine of this kind: steps per CPU-second and resident MB.
REFERENCE = {
    "bc": (80.0, 358), "coptidice": (22.0, 388), "cpq": (6.0, 450), "bear_lag": (3.6, 465), "bcq_lag": (3.2, 441),
    "cdt": (0.08, 4_153),
}  # fmt: skip
AIMS = {"bc": 3, "coptidice": 3, "cpq": 5, "bear_lag": 5, "bcq_lag": 5, "cdt": 3}
REPEATS = {"bc": 200, "coptidice": 40, "cpq": 20, "bear_lag": 12, "bcq_lag": 12, "cdt": 1}
OTHERS = ("iql_lag", "caps", "cql", "carl", "o3srl")  # OSRL has none of these


def ours(name: str, precision: str) -> list[tuple[Callable[[], object], int]]:
    """saferl's update, batches drawn on the way."""
    config_class, agent_class = AGENTS[name]
    fields = _fields(name)
    given = {"cost_limit": 10.0, "episode_length": 1_000, "precision": precision, "batch_size": 512}
    if name == "cdt":
        given.pop("batch_size")
    config = config_class(**{key: value for key, value in given.items() if key in fields})
    torch.manual_seed(0)
    agent = agent_class(config, OBS_DIM, ACT_DIM)
    sampler = agent.sampler(example(ROWS), seed=0, action_low=-1.0, action_high=1.0)
    return [(lambda: agent.update(sampler.sample()), REPEATS.get(name, 20))]


def theirs(name: str) -> list[tuple[Callable[[], object], int]]:
    """OSRL's update."""
    torch.manual_seed(0)
    return [(osrl_agents.update_of(name, example(ROWS)), REPEATS[name])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=[*REPEATS, *OTHERS], choices=sorted(AGENTS))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each version; the best one counts")
    arguments = parser.parse_args()
    here = osrl_agents.available()
    print("OSRL in the same rounds" if here else "OSRL_PATH is not set: ratios are to recorded figures of OSRL")
    print(f"{'agent':10s} {'version':18s} {'ms':>8s} {'steps/CPU-s':>12s} {'MB (own)':>12s}  ratio  memory (own)  aim")
    lines = []
    for name in arguments.agents:
        versions = {
            "saferl float32": partial(ours, name, "float32"),
            "saferl bfloat16": partial(ours, name, "bfloat16"),
        }
        if "precision" not in _fields(name):
            versions.pop("saferl bfloat16")
        if here and name in osrl_agents.NAMES:
            versions["OSRL"] = partial(theirs, name)
        timings = {label: best[0] for label, best in best_rounds(versions, 1, arguments.rounds).items()}
        peer = timings.get("OSRL")
        if peer is None and name in REFERENCE:
            rate, memory = REFERENCE[name]
            peer = Timing(1 / rate, 1 / rate, memory, float("nan"))
        for label, timing in timings.items():
            rate = 1 / timing.processor
            memory_text = f"{timing.memory:.0f} ({timing.own_memory:.0f})"
            line = f"{name:10s} {label:18s} {1e3 * timing.processor:8.1f} {rate:12.1f} {memory_text:>12s}"
            if peer is not None and label != "OSRL":
                own = timing.own_memory / peer.own_memory
                line += f"  {peer.processor * rate:5.2f}  {timing.memory / peer.memory:6.2f} ({own:.2f})  {AIMS[name]}"
            print(line, flush=True)
        if peer is not None:
            best = max(peer.processor / timing.processor for label, timing in timings.items() if label != "OSRL")
            lines.append(f"{name} {best:.1f}")
    print("ratio of steps per CPU-second, saferl to OSRL, better precision: " + ", ".join(lines))


def _fields(name: str) -> set[str]:
    return {each.name for each in dataclasses.fields(AGENTS[name][0])}


if __name__ == "__main__":
    main()
