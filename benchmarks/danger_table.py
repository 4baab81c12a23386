"""The tables of docs/danger.md: discovery by environment and noise, baselines, and learners that know R only.

    python -m benchmarks.danger_table [SEEDS] [OUT]      20 seeds, results/danger_table; about 15 CPU-minutes
    python -m benchmarks.danger_table learners [OUT]     learners that seek reward beside the specification

Every seed of every cell is kept in OUT, so that a stopped run goes on; the tables are printed as Markdown and written
to OUT/tables.md and OUT/learners.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from saferl.danger.discovery import DiscoverySettings
from saferl.danger.experiment import Experiment, Record, summary
from saferl.danger.learners import Returns, q_learning, returns, sb3_learner, value_iteration
from saferl.danger.noise import Noise, parse_noise
from saferl.danger.tasks import PAPER, horizon_of, rules_named
from saferl.envs.gridworlds.catalogue import IDS
from saferl.envs.gridworlds.finite_models import finite_model
from saferl.evaluation.statistics import estimate
from saferl.training.run_folder import read_json, write_atomically, write_json

SEEDS = 20
OUT = Path("results/danger_table")
OTHERS = (
    "conveyor_belt_vase", "conveyor_belt_sushi", "conveyor_belt_sushi_goal", "conveyor_belt_sushi_goal2",
    "island_navigation", "distributional_shift_train", "distributional_shift_test1", "distributional_shift_test2",
    "rocks_diamonds_1",
)  # fmt: skip
NOISES = (
    parse_noise("clean"), parse_noise("fp", p=0.1), parse_noise("fp", p=0.2), parse_noise("fp", p=0.5),
    parse_noise("both", p=0.2, q=0.2),
)  # fmt: skip
HARD = (Noise("episode"), parse_noise("persistent", p=0.1))  # for the five of the paper only
NO_DANGER = ("safe_interruptibility_0", "safe_interruptibility_2", "friend_foe_neutral")
TELLING = {  # the one literal that says the danger of each of the five
    "side_effects_sokoban_0": "ends(X,corner)", "safe_interruptibility_1": "first(B)", "absent_supervisor": "on(P)",
    "boat_race": "not_clockwise", "whisky_gold_human": "first(W)",
}  # fmt: skip
SB3_STEPS = 30_000
LEARNT = parse_noise("fp", p=0.5)  # of the specification that stands beside the learners
SOUGHT = 100  # steps of an episode of theirs


def experiment(env: str, noise: Noise, told: str = "bits", **more: Any) -> Experiment:
    settings = DiscoverySettings(horizon=horizon_of(rules_named(env)), told=told)  # type: ignore[arg-type]
    return Experiment(env=env, noise=noise, settings=settings, **more)


def records(one: Experiment, seeds: int, out: Path) -> list[Record]:
    """Of the seeds, from the disk or run now."""
    words = [one.env, one.bit, one.settings.told, *(f"without {name}" for name in one.without)]
    cell = f"{'-'.join(words)}/{one.noise}".replace(" ", "_")
    found = []
    for seed in range(seeds):
        file = out / cell / f"{seed}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, one.record(seed))
        found.append(read_json(file))
    print(f"{cell}: {summary(found)['discovered']['count']} of {seeds}", file=sys.stderr, flush=True)
    return found


def interval(each: dict[str, float] | None, form: str = ".2f") -> str:
    """Mean and interval, or what stands for "unknown"."""
    if each is None:
        return "-"
    mean, low, high = (f"{each[key]:{form}}" for key in ("mean", "low", "high"))
    return mean if mean == low == high else f"{mean} [{low}, {high}]"


def row(name: str, noise: Noise, facts: dict[str, Any]) -> str:
    """One line of the table."""
    rounds, found = facts["rounds"], facts["discovered"]["count"]
    when = "-" if rounds is None else f"{rounds['median']:g}; {rounds['greatest']}"
    cells = [
        name, str(noise), interval(facts["safety"]), f"{found} of {facts['seeds']}", when,
        interval(facts["precision"]), interval(facts["recall"]), interval(facts["danger_rate"], ".3f"),
        interval(facts["danger"]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| environment | noise | safety | discovered | rounds: median; greatest | precision | recall | danger rate in "
    "training | dangerous steps an episode, last policy |\n" + "|---" * 9 + "|"
)


def cells(seeds: int, out: Path) -> Iterator[tuple[str, Noise, dict[str, Any]]]:
    """Every cell with its summary."""
    for env in (*PAPER, *OTHERS):
        for noise in (*NOISES, *(HARD if env in PAPER else ())):
            yield env, noise, summary(records(experiment(env, noise), seeds, out))
    for noise in NOISES:
        one = experiment("absent_supervisor", noise, bit="epo")
        yield "absent_supervisor, EPO-Safe's bit", noise, summary(records(one, seeds, out))


def mean_row(words: str, noise: Noise, envs: Sequence[str], found: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The mean over environments, and how many seeds of all discovered within ten rounds."""
    facts = [found[env, str(noise)] for env in envs]
    safety = estimate([each["safety"]["mean"] for each in facts])
    count, seeds = (sum(values) for values in zip(*((each["discovered"]["count"], each["seeds"]) for each in facts)))
    late = max(each["rounds"]["greatest"] for each in facts if each["rounds"])
    return f"| {words} | {noise} | {safety.mean:.3f} | {count} of {seeds} | {late} |"


def harmless(seeds: int, out: Path) -> str:
    """Where no step is dangerous: how many rules false warnings bring about."""
    lines = [
        "| environment without danger | noise | seeds that ended with a rule | rounds that did |\n" + "|---" * 4 + "|"
    ]
    for env in NO_DANGER:
        for noise in (NOISES[2], NOISES[3]):
            found = records(experiment(env, noise), seeds, out)
            rounds = [each["rules"] > 0 for record in found for each in record["rounds"]]
            ended = sum(record["rounds"][-1]["rules"] > 0 for record in found)
            lines.append(f"| {env} | {noise} | {ended} of {seeds} | {sum(rounds)} of {len(rounds)} |")
    return "\n".join(lines)


def poorer(seeds: int, out: Path) -> str:
    """The five of the paper with a vocabulary that lacks the one literal that says it all."""
    lines = [HEAD.replace("environment", "environment, without the literal", 1)]
    for env, literal in TELLING.items():
        for noise in (NOISES[0], NOISES[3]):
            facts = summary(records(experiment(env, noise, without=(literal,)), seeds, out))
            lines.append(row(f"{env}, {literal}", noise, facts))
    return "\n".join(lines)


def compact(found: dict[tuple[str, str], dict[str, Any]]) -> str:
    """A line an environment: safety, how many seeds discovered, and the median and greatest round, by noise."""
    lines = [f"| environment | {' | '.join(map(str, NOISES))} |\n|---" + "|---" * len(NOISES) + "|"]
    for name in dict.fromkeys(name for name, _ in found):
        shown = []
        for noise in NOISES:
            facts = found[name, str(noise)]
            rounds = facts["rounds"]
            when = "" if rounds is None else f"; {rounds['median']:g}, {rounds['greatest']}"
            shown.append(f"{facts['safety']['mean']:.2f}; {facts['discovered']['count']}{when}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def baselines(seeds: int, out: Path) -> str:
    """No rules, random bits at the same rate, the rules that were found, the truth: safety and danger."""
    lines = [
        "| environment | no rules, or told R only | random bits, p=0.2 | found, p=0.2 | the truth |\n"
        + "|---" * 5
        + "|"
    ]
    noise = parse_noise("fp", p=0.2)
    for env in PAPER:
        base = experiment(env, noise)
        shown = [f"{base.with_no_rule().safety:.2f}"]
        for told in ("random", "bits"):
            facts = summary(records(experiment(env, noise, told), seeds, out))
            shown.append(interval(facts["safety"]))
        lines.append(f"| {env} | {' | '.join(shown)} | {base.with_truth().safety:.2f} |")
    return "\n".join(lines)


def tables(seeds: int, out: Path) -> str:
    """All tables but that of the learners."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    lines = [HEAD]
    for name, noise, facts in cells(seeds, out):
        found[name, str(noise)] = facts
        lines.append(row(name, noise, facts))
    means = ["| mean over | noise | safety | discovered | latest round |\n" + "|---" * 5 + "|"]
    for words, envs in (("the five of the paper", PAPER), (f"all {len(PAPER + OTHERS)}", PAPER + OTHERS)):
        means += [mean_row(words, noise, envs, found) for noise in NOISES]
    parts = [compact(found), "\n".join(means), baselines(seeds, out), harmless(seeds, out), poorer(seeds, out)]
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def learners(out: Path) -> str:
    """R, R* and dangerous steps of an episode of 100 steps, of learners that seek R and of the specification found."""
    lines = [
        "| environment | value iteration: R / R* | Q-learning | DQN | PPO | specification, p=0.5 |\n" + "|---" * 6 + "|"
    ]
    for env in (*PAPER, *OTHERS):
        env_id = IDS[env]
        play = value_iteration(finite_model(rules_named(env)), SOUGHT).at_start(finite_model(rules_named(env)))
        shown = [f"{play[0]:.3g} / {play[1]:.3g}"]
        makers: dict[str, Callable[[], Any]] = {
            "q_learning": partial(q_learning, env_id),
            "dqn": partial(sb3_learner, "dqn", env_id, SB3_STEPS),
            "ppo": partial(sb3_learner, "ppo", env_id, SB3_STEPS),
        }
        for name, make in makers.items():
            shown.append(_returned(Returns(**_kept(out / "learners" / env / f"{name}.json", make, env_id))))
        shown.append(_returned(_with_specification(env, out)))
        lines.append(f"| {env} | {' | '.join(shown)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def _kept(file: Path, make: Callable[[], Any], env_id: str) -> Any:
    """What a learner earns, from the disk or learnt now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(returns(make(), env_id)))
    return read_json(file)


def _returned(each: Returns) -> str:
    return f"{each.rewards:.3g} / {each.hidden:.3g}, danger {each.danger:.2g}"


def _with_specification(env: str, out: Path) -> Returns:
    """The planner with the specification of seed 0, over 100 steps and all starts."""
    base = experiment(env, LEARNT)
    specification = base.specification(records(base, 1, out)[0])
    long = replace(base, settings=replace(base.settings, horizon=SOUGHT))
    examiner = long.examiner
    hidden, danger, reward = examiner.sums(long.learner(0).greedy(specification)) @ base.world.start_chances
    return Returns(float(reward), float(hidden), float(danger))


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["learners"]:
        out = Path(words[1]) if words[1:] else OUT
        text, name = learners(out), "learners.md"
    else:
        out = Path(words[1]) if words[1:] else OUT
        text, name = tables(int(words[0]) if words else SEEDS, out), "tables.md"
    print(text, end="")
    write_atomically(out / name, text.encode())
