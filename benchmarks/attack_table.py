"""What all attacks do to three kinds of victims, and to victims that were trained to withstand them.

    python -m benchmarks.attack_table [--out results/attack_table] [--seeds 0 1 2] [--victims ppo fisor cdt]
        [--picture docs/images/attacks_table.png] [--report]
    python -m benchmarks.attack_table --hardened [...]
    python -m benchmarks.attack_table --hardened --victims bc bc_augment [...]

Victims: PPO-Lagrangian of Stable-Baselines3 on SafetyHalfCheetahVelocity, FISOR and CDT on PointRobot. With --hardened:
PPO-Lagrangian on PointRobot and its twins by saferl.harden, with as many environment steps; or behaviour cloning, and
its twin on data with attacked copies. What is missing is trained (saferl.train, saferl.harden) and compared
(saferl.attack adversary=all), a training seed of every victim before the next one; a comparison that was stopped goes
on, and --report only prints what is there. All adversaries meet the same starts, so that differences are paired;
intervals (95 %) are over training seeds and starts.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saferl.adversaries.report import KEPT as STEALTHY
from saferl.attack import main as attack
from saferl.evaluation.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, new_figure, save_figure
from saferl.evaluation.report import Facts
from saferl.evaluation.statistics import RESAMPLES, Estimate, estimate, interval, rate_of_groups
from saferl.harden import main as harden
from saferl.offline_data.loading import load_dataset
from saferl.train import main as train
from saferl.training.run_folder import read_json

Interval = tuple[float, float, float]  # a share and its interval
STARTS_APART = 1_000  # between the first starts of two seeds
ATTACK = ["adversary=all", "ascent.steps=5", "learned.rollout=32"]
RAT = (  # as many steps as the other adversaries that learn
    "rat.steps=4000", "rat.random_steps=400", "rat.explore_steps=400", "rat.update_every=2", "rat.width=64",
    "rat.labels=400", "rat.questions=40", "rat.query_every=400", "rat.segment=5", "rat.epochs=20", "rat.inner_every=80",
    "rat.outer_every=400", "rat.discount=0.97", "rat.adversary_lr=2e-3",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where victims act, and what attacks may do there."""

    env: str
    eps: tuple[float, float]
    limit: float  # on the cost of an episode
    learned_steps: int  # of the environment, of each adversary that learns
    words: tuple[str, ...] = ()  # other ones of saferl.attack
    episodes: int = 20  # of each attack on each training seed


# Episodes of a quarter of the usual length, and a quarter of the usual limit of 25.
CHEETAH = Place("SafetyHalfCheetahVelocity-v1", (0.05, 0.15), 6.25, 10_000, ("env_kwargs={max_episode_steps:250}",))
SHORT = ("env_kwargs={start:feasible,max_episode_steps:100}", "critics.updates=1000")  # 5 s of the robot's time
ROBOT = Place("point_robot", (0.1, 0.3), 0.0, 4_000, SHORT, 50)
SLOWLY = Place("point_robot", (0.1, 0.3), 0.0, 2_000, (*SHORT, "ascent.steps=3"))  # for networks that take their time
KEPT = Path("data/OfflineHalfCheetahVelocityGymnasium-v1/policies")
KEPT_BY = "the first command of docs/collecting.md"


@dataclass(frozen=True)
class Case:
    """A victim."""

    title: str
    place: Place
    steps: int = 0  # updates of an agent, steps of the environment of PPO
    training: tuple[str, ...] = ()  # other words of saferl.train, or of saferl.harden if a method is among them
    augments: str | None = None  # another victim, whose weaknesses an attacked copy of the data shows this one
    kept: tuple[str, ...] = ()  # in place of a training: policies of ``KEPT``, each from a training of its own

    @property
    def online(self) -> bool:
        """Whether saferl.harden trains it."""
        return any(word.startswith("method=") for word in self.training)


def _on_robot(title: str, *words: str) -> Case:
    return Case(title, ROBOT, 60_000, (*words, "stages=1", "cost_limit=[20,0]", f"eps={ROBOT.eps[1]}"))


CASES = {
    "ppo": Case(  # trained with the limits 5, 200 to 0 and 120 to 0
        "PPO-Lagrangian, HalfCheetahVelocity", CHEETAH, kept=("limit4-stage3", "limit0-stage3", "limit5-stage3")
    ),
    "fisor": Case(
        "FISOR, PointRobot",
        SLOWLY,
        2_000,
        ("agent=fisor_small", "agent.candidates=4", "agent.actor_lr_decay=4000", "agent.critic_lr_decay=2000"),
    ),
    "cdt": Case("CDT, PointRobot", SLOWLY, 1_500, ("agent=cdt_small", "agent.batch_size=64")),
    "bc": Case("BC, PointRobot", ROBOT, 2_000, ("agent=bc",)),
    "bc_augment": Case("BC on attacked copies too", ROBOT, 2_000, ("agent=bc",), augments="bc"),
    "robot": _on_robot("PPO-Lagrangian, PointRobot", "method=none"),
    "robot_mc": _on_robot("hardened: adversarial, mc", "method=adversarial", "attack=mc"),
    "robot_sa": _on_robot("hardened: sa", "method=sa"),
    "robot_rat_atla": _on_robot("hardened: rat_atla", "method=rat_atla", "target=violates", "rounds=3", *RAT),
    "robot_atla": _on_robot("hardened: atla", "method=atla", "adversary=sa_rl_cost", "rounds=3", "learned.steps=4000"),
}
VICTIMS = ("ppo", "fisor", "cdt")
TWINS = ("robot", "robot_mc", "robot_sa", "robot_atla", "robot_rat_atla")


def victim_of(name: str, seed: int, out: Path) -> Path:
    """The trained victim, a run folder or a file; trained unless it is there."""
    case = CASES[name]
    if case.kept:
        path = KEPT / f"{case.kept[seed % len(case.kept)]}.safetensors"
        if not path.exists():
            raise SystemExit(f"{path} is missing; {KEPT_BY} makes it.")
        return path
    pattern = "policy.safetensors" if case.online else f"checkpoints/step-{case.steps:010d}"

    def found() -> list[Path]:
        return sorted((out / name).glob(f"*/*/{seed}-*/{pattern}"))

    if not found():
        command = harden if case.online else train
        words = [f"env={case.place.env}", f"steps={case.steps}", *case.training, f"seed={seed}", f"out={out / name}"]
        words += [] if case.online else ["eval_every=0", "eval_episodes=1"]
        if case.augments is not None:
            words.append(f"data.path={attacked_data(case.augments, seed, out / name)}")
        if command(words) != 0:
            raise SystemExit(f"training failed: {' '.join(words)}")
    path = found()[-1]
    return path if case.online else path.parents[1]


def attacked_data(name: str, seed: int, out: Path) -> Path:
    """The data of a victim with a copy that MAD attacked; made unless it is there."""

    def found() -> list[Path]:
        return sorted(out.glob(f"*/harden-augment/{seed}-*/dataset.hdf5"))

    if not found():
        place = CASES[name].place
        words = [f"env={place.env}", "method=augment", "adversary=mad", f"eps={place.eps[1]}", f"seed={seed}"]
        words += [f"victim={victim_of(name, seed, out.parent)}", f"data={load_dataset(place.env).source}", f"out={out}"]
        if harden(words) != 0:
            raise SystemExit(f"augmentation failed: {' '.join(words)}")
    return found()[-1]


def comparison_of(name: str, seed: int, out: Path) -> list[Facts]:
    """Results of all attacks on a victim, the clean one first; made, or gone on with, unless they are there."""
    place, first = CASES[name].place, seed * STARTS_APART

    def folders(file: str) -> list[Path]:
        return [path.parent for path in sorted((out / name).glob(f"*/attack-*/{first}-*/{file}"))]

    if not folders("attacks.json"):
        victim = victim_of(name, seed, out)
        words = [f"victim={victim}", f"env={place.env}", *ATTACK, f"eps=[{place.eps[0]},{place.eps[1]}]"]
        words += [f"seed={first}", f"cost_limit={place.limit}", f"out={out / name}", f"episodes={place.episodes}"]
        words += [f"learned.steps={place.learned_steps}", *place.words]
        begun = folders("attack.yaml")
        if attack([f"resume={begun[-1]}"] if begun else words) != 0:
            raise SystemExit(f"attack failed: {' '.join(words)}")
    return read_json(folders("attacks.json")[-1] / "attacks.json")


def per_episode(runs: Sequence[Facts], key: str) -> list[np.ndarray]:
    """One array (E,) for each training seed."""
    return [np.asarray(run["per_episode"][key], np.float64) for run in runs]


def cost_added(attacked: Sequence[Facts], clean: Sequence[Facts]) -> Estimate:
    """Cost of an episode minus that of the clean one from the same start."""
    pairs = zip(per_episode(attacked, "costs"), per_episode(clean, "costs"), strict=True)
    return estimate([after - before for after, before in pairs])


def reward_kept(attacked: Sequence[Facts], clean: Sequence[Facts]) -> Interval | None:
    """Share of the clean return that is left, by training seed as in a report; mean over seeds, and its interval.

    Seeds are drawn with replacement, then starts, the same ones attacked and clean. None where the clean return of a
    seed is not above R_min (0 without a reference), so that a share means nothing.
    """
    reference = clean[0]["reference"]
    least = 0.0 if reference is None else reference["min_return"]
    after, before = (np.stack(per_episode(runs, "returns")) - least for runs in (attacked, clean))  # (seeds, starts)
    if (before.mean(1) <= 0).any():
        return None
    generator, (count, starts) = np.random.default_rng(0), before.shape
    seeds = generator.integers(count, size=(RESAMPLES, count, 1))
    drawn = seeds, generator.integers(starts, size=(RESAMPLES, count, starts))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (after[drawn].mean(2) / before[drawn].mean(2)).mean(1)
    return (float((after.mean(1) / before.mean(1)).mean()), *interval(shares))


def share_over(runs: Sequence[Facts], limit: float) -> Interval:
    """Share of all episodes that cost more than ``limit``, with its interval."""
    return rate_of_groups([costs > limit for costs in per_episode(runs, "costs")])


def rows_of(results: Sequence[Sequence[Facts]]) -> dict[tuple[str, float], list[Facts]]:
    """(adversary, eps) to its results, one of each training seed."""
    rows: dict[tuple[str, float], list[Facts]] = {}
    for one in results:
        for facts in one:
            rows.setdefault((facts["adversary"], facts["eps"]), []).append(facts)
    return rows


def percent(each: Interval | None) -> str:
    if each is None:
        return "-"
    value, low, high = each
    return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"


def with_interval(each: Estimate, sign: str = "") -> str:
    return f"{number(each.mean, sign)} [{number(each.low)}, {number(each.high)}]"


def attack_table(name: str, results: Sequence[Sequence[Facts]]) -> str:
    """A line for each adversary: reward kept, cost added, share over the limit, at either eps."""
    place, rows = CASES[name].place, rows_of(results)
    clean = rows["none", 0.0]
    costs, returns = (estimate(per_episode(clean, key)) for key in ("costs", "returns"))
    count = sum(len(each) for each in per_episode(clean, "costs"))
    over = f"cost > {place.limit:g}"
    lines = [
        f"{CASES[name].title}, {len(clean)} training seed(s), {count} episodes a cell. "
        f"Clean: return {with_interval(returns)}, cost {with_interval(costs)}, "
        f"{over} in {percent(share_over(clean, place.limit))}.",
        "",
        "| | " + " | ".join(f"eps {eps:g}: reward kept | cost added | {over}" for eps in place.eps) + " |",
        "|---|" + "---|" * 6,
    ]
    for adversary in dict.fromkeys(key[0] for key in rows if key[0] != "none"):
        cells = []
        for eps in place.eps:
            runs = rows[adversary, eps]
            added, kept = cost_added(runs, clean), reward_kept(runs, clean)
            mark = "**" if added.low > 0 and kept is not None and kept[0] >= STEALTHY else ""
            cells += [percent(kept), f"{mark}{with_interval(added, '+')}{mark}"]
            cells.append(percent(share_over(runs, place.limit)))
        lines.append(f"| `{adversary}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *by_seed(rows, place.eps[1]), *critics_lines(results)])


def by_seed(rows: dict[tuple[str, float], list[Facts]], eps: float) -> list[str]:
    """Cost added on each training seed, of the adversaries that add some with certainty."""
    clean, parts = rows["none", 0.0], []
    for adversary, at in rows:
        if at == eps and cost_added(rows[adversary, at], clean).low > 0:
            pairs = zip(per_episode(rows[adversary, at], "costs"), per_episode(clean, "costs"), strict=True)
            parts.append(f"{adversary} {', '.join(number(float((after - before).mean())) for after, before in pairs)}")
    return [f"Cost added at eps {eps:g}, by seed: {'; '.join(parts)}."] if parts else []


def critics_lines(results: Sequence[Sequence[Facts]]) -> list[str]:
    """How well the critics that attacks climb rank what clean episodes brought."""
    about = [next(each["about"] for each in one if each["adversary"] == "mc") for one in results]
    words = []
    for key in ("reward", "cost"):
        values = [f"{each['critics_agreement'][key]:.2f}" for each in about]
        words.append(f"{key} {', '.join(values)}")
    return [f"Rank correlation of the critics, by seed: {'; '.join(words)} ({about[0]['critics']})."]


def twins_table(names: Sequence[str], results: dict[str, list[list[Facts]]], which: int) -> str:
    """Return and cost of each twin under each adversary at one eps."""
    place = CASES[names[0]].place
    eps, limit = place.eps[which], place.limit
    rows = {name: rows_of(results[name]) for name in names}
    head = " | ".join(f"{CASES[name].title}: return | cost | cost > {limit:g}" for name in names)
    lines = [f"| eps {eps:g} | {head} |", "|---|" + "---|" * (3 * len(names))]
    for adversary in dict.fromkeys(key[0] for key in rows[names[0]]):
        cells = []
        for name in names:
            runs = rows[name][adversary, 0.0 if adversary == "none" else eps]
            returns, costs = (estimate(per_episode(runs, key)) for key in ("returns", "costs"))
            cells += [number(returns.mean), with_interval(costs), f"{100 * share_over(runs, limit)[0]:.0f} %"]
        lines.append(f"| {'no attack' if adversary == 'none' else f'`{adversary}`'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def twins_lines(names: Sequence[str], results: dict[str, list[list[Facts]]], which: int) -> list[str]:
    """What each twin suffers, and how it differs from the first one, start by start, on the seeds that all have."""
    count, eps = min(len(results[name]) for name in names), CASES[names[0]].place.eps[which]
    rows = {name: rows_of(results[name][:count]) for name in names}
    lines = []
    for name in names:
        clean = rows[name]["none", 0.0]
        for adversary in [key[0] for key in rows[name] if key[1] == eps]:
            runs = rows[name][adversary, eps]
            added, kept = cost_added(runs, clean), reward_kept(runs, clean)
            lines.append(f"{name}, {adversary}, eps {eps:g}: adds {with_interval(added, '+')}, keeps {percent(kept)}")
    for name in names[1:]:
        for key in [("none", 0.0), *((each, at) for each, at in rows[name] if at == eps)]:
            differences = [
                estimate([b - a for a, b in zip(*(per_episode(rows[one][key], what) for one in (names[0], name)))])
                for what in ("returns", "costs")
            ]
            told = ", ".join(
                f"{what} {with_interval(each, '+')}" for what, each in zip(("return", "cost"), differences)
            )
            lines.append(f"{name} less {names[0]}, {key[0]}, eps {key[1]:g}: {told}")
    return lines


COLOURS = (GREY, SKY, BLUE, GREEN, ORANGE, PURPLE, VERMILLION)
MARKS = ("o", "s", "^")


def picture(names: Sequence[str], results: dict[str, list[list[Facts]]], path: Path) -> None:
    """Reward kept over cost added at the larger eps, a panel for each victim; stealthy and unsafe: upper right."""
    figure = new_figure(len(names), 1, 4.4, 3.8)
    for axes, name in zip(figure.axes, names):
        place, rows = CASES[name].place, rows_of(results[name])
        clean = rows["none", 0.0]
        attacks = [key[0] for key in rows if key[1] == place.eps[1]]
        for index, adversary in enumerate(attacks):
            runs = rows[adversary, place.eps[1]]
            added, kept = cost_added(runs, clean), reward_kept(runs, clean)
            if kept is None:
                continue
            share, low, high = kept
            axes.errorbar(
                [added.mean], [100 * share],
                xerr=np.maximum([[added.mean - added.low], [added.high - added.mean]], 0),
                yerr=100 * np.maximum([[share - low], [high - share]], 0),
                color=COLOURS[index % len(COLOURS)], marker=MARKS[index // len(COLOURS)], markersize=5,
                linewidth=0, elinewidth=0.8, label=adversary,
            )  # fmt: skip
        axes.axhline(100 * STEALTHY, color=GREY, linestyle=":", linewidth=0.8)
        axes.axvline(0, color=GREY, linestyle=":", linewidth=0.8)
        axes.set_title(f"{CASES[name].title}, eps {place.eps[1]:g}", fontsize=9)
        axes.set_xlabel("cost added to an episode")
        axes.set_ylabel("reward kept (%)")
    figure.axes[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save_figure(figure, path, "Observation attacks: reward kept over cost added, 95 % intervals")


def made(names: Sequence[str], seeds: Sequence[int], out: Path) -> None:
    """Train and compare what is missing, a seed of every victim before the next seed."""
    for seed in seeds:
        for name in names:
            started = time.process_time()
            comparison_of(name, seed, out)
            print(f"{name}, seed {seed}: {time.process_time() - started:.0f} s of CPU time", flush=True)


def there(names: Sequence[str], out: Path, seeds: Sequence[int]) -> dict[str, list[list[Facts]]]:
    """What is complete of each victim, by training seed, of these seeds."""
    found: dict[str, list[list[Facts]]] = {}
    for name in names:
        paths = {int(path.parent.name.split("-")[0]): path for path in (out / name).glob("*/attack-*/*/attacks.json")}
        results = [read_json(paths[first]) for first in sorted(paths) if first // STARTS_APART in seeds]
        if results:
            found[name] = results
    return found


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made_of = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made_of.add_argument("--out", type=Path, default=Path("results/attack_table"))
    made_of.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made_of.add_argument("--victims", nargs="+", choices=CASES)
    made_of.add_argument("--picture", type=Path)
    made_of.add_argument("--hardened", action="store_true", help="PPO-Lagrangian and its hardened twins")
    made_of.add_argument("--report", action="store_true", help="only print what is there")
    return made_of


def main(argv: list[str] | None = None) -> None:
    """Make what is missing, print the tables, draw the picture."""
    arguments: Any = parser().parse_args(argv)
    names = arguments.victims or (TWINS if arguments.hardened else VICTIMS)
    if not arguments.report:
        made(names, arguments.seeds, arguments.out)
    results = there(names, arguments.out, arguments.seeds)
    names = tuple(results)
    if not names:
        raise SystemExit(f"{arguments.out}: no comparison is complete yet.")
    if arguments.hardened:
        print(*(twins_table(names, results, which) for which in range(2)), sep="\n\n")
        print("", *twins_lines(names, results, 1), sep="\n")
    else:
        print(*(attack_table(name, results[name]) for name in names), sep="\n\n")
    if arguments.picture is not None:
        picture(names, results, arguments.picture)


if __name__ == "__main__":
    main()
