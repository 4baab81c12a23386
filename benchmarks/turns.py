"""Versions of one piece of work, each in a process of its own, timed in turn so that other load hits all alike."""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

Call = Callable[[], object]
Make = Callable[[], Sequence[tuple[Call, int]]]  # made in the process: calls, and how often each is repeated in a round


@dataclass(frozen=True)
class Timing:
    """The best round of one call."""

    processor: float  # s for one call
    wall: float  # s for one call
    memory: float  # greatest resident set so far, MB
    own_memory: float  # what of it came after torch was imported, MB


def best_rounds(versions: Mapping[str, Make], threads: int = 1, rounds: int = 3, pin: bool = True) -> dict[str, list]:
    """For each version the best Timing of each of its calls.

    Args:
        versions: label to a picklable function that makes the calls.
        threads: of torch, and cores the process is pinned to.
        rounds: turns of each version.
        pin: whether to pin at all.
    """
    context, lines, processes = multiprocessing.get_context("spawn"), {}, []
    for label, make in versions.items():
        lines[label], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(make, threads, pin, theirs), daemon=True))
        processes[-1].start()
        lines[label].recv()  # one after the other: some compile
    seen: dict[str, list[list[tuple[float, float, float, float]]]] = {label: [] for label in versions}
    for _ in range(rounds):
        for label, line in lines.items():
            line.send("round")
            seen[label].append(line.recv())
    for line, process in zip(lines.values(), processes, strict=True):
        line.send("stop")
        process.join()
    return {
        label: [
            Timing(min(t[0] for t in turns), min(t[1] for t in turns), turns[-1][2], turns[-1][3])
            for turns in zip(*results, strict=True)
        ]
        for label, results in seen.items()
    }


def _serve(make: Make, threads: int, pin: bool, line: Connection) -> None:
    """Warm up, then time one round for each message."""
    if pin:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    before = _resident()
    calls = make()
    for call, repeats in calls:
        for _ in range(min(3, repeats)):
            call()
    line.send("ready")
    while line.recv() == "round":
        line.send([_timed(call, repeats, before) for call, repeats in calls])


def _timed(call: Call, repeats: int, before: float) -> tuple[float, float, float, float]:
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    spent = time.process_time() - processor, time.perf_counter() - wall
    memory = _resident()
    return spent[0] / repeats, spent[1] / repeats, memory, memory - before


def _resident() -> float:
    """Greatest resident set of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
