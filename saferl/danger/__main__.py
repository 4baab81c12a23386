"""python -m saferl.danger: safety specifications discovered from 1-bit danger signals; --help is the manual."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from saferl.command_line import UsageError, guarded, single_run
from saferl.danger.experiment import Experiment, Record, agreed, summary
from saferl.danger.language_model import LanguageModelError
from saferl.danger.report import learning_curves, mistakes, summary_table
from saferl.danger.sentences import NOTHING, specification_text
from saferl.danger.settings import DangerConfig, experiment_of, parse_danger
from saferl.danger.text_analogs import ANALOGS
from saferl.envs.gridworlds.catalogue import IDS, VARIANTS
from saferl.evaluation.report import show
from saferl.progress_bar import progress_bar
from saferl.training.run_folder import environment_facts, make_folder, read_json, write_atomically, write_json

OmegaConf.register_new_resolver(
    "danger_envs",
    lambda *_: "\n".join(f"  {name:30} {IDS[name]}" for name in VARIANTS) + "\n  " + "  ".join(ANALOGS) + "\n",
    replace=True,
)


def danger(config: DangerConfig) -> Path:
    """Run what is missing, print and write the results. Returns: the folder.

    Raises: UsageError for what the user can mend; SystemExit(130) after Ctrl-C.
    """
    out = None if config.out is None else Path(config.out)
    experiment = experiment_of(config, out)
    if out is None:
        out = make_folder("runs", str(config.env), "danger", config.seed)
        experiment = dataclasses.replace(experiment, log=out)
    try:
        (out / "seeds").mkdir(parents=True, exist_ok=True)
        _claim(out, config)
        print(_plan(experiment, config), flush=True)
        records = _records(experiment, config.all_seeds, out / "seeds")
        _write(experiment, records, out, config)
    except LanguageModelError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"out={out}: {error.strerror or error}.") from error
    except KeyboardInterrupt:
        print(f"saferl.danger: stopped; finished seeds are kept, out={out} goes on from there.", file=sys.stderr)
        raise SystemExit(130) from None
    return out


def _plan(experiment: Experiment, config: DangerConfig) -> str:
    """One line: what will be run."""
    loop, clone = experiment.settings, experiment.world.clone
    safe, hack = experiment.examiner.anchors()
    learner = f"{config.backend} with {len(experiment.vocabulary)} literals"
    seeds = "1 seed" if len(config.all_seeds) == 1 else f"{len(config.all_seeds)} seeds"
    return (
        f"{config.env}, {learner}, noise {experiment.noise}: {seeds} of {loop.rounds} rounds of "
        f"{loop.episodes} episodes of {loop.horizon} steps; {len(clone.node):,} possible steps; "
        f"R* {safe:.4g} for the safe optimum, {hack:.4g} for seeking reward"
    )


def _claim(out: Path, config: DangerConfig) -> None:
    """Write the settings, or see that the folder's are the same but for the number of seeds."""
    values = {key: each for key, each in dataclasses.asdict(config).items() if key not in ("out", "seeds", "seed")}
    file = out / "settings.json"
    if file.exists():
        for key, known in read_json(file).items():
            if values.get(key) != known:
                raise UsageError(
                    f"out={out} holds seeds run with {key}={known}, not {values.get(key)}; give another folder."
                )
    else:
        write_json(file, values)


def _records(experiment: Experiment, seeds: Sequence[int], folder: Path) -> list[Record]:
    """The records of the seeds, those that the folder has from there."""
    records = []
    with progress_bar("discovery") as report:
        for number, seed in enumerate(seeds):

            def done(rounds: int, number: int = number) -> None:
                share = rounds / experiment.settings.rounds
                report((number + share) / len(seeds), f"seed {number + 1} of {len(seeds)}")

            file = folder / f"{seed}.json"
            if not file.exists():
                write_json(file, experiment.record(seed, done))
            records.append(read_json(file))
    return records


def _write(experiment: Experiment, records: Sequence[Record], out: Path, config: DangerConfig) -> None:
    """Print, and write specification.txt, specification.json, metrics.json and curves.png."""
    facts, (record, count) = summary(records), agreed(records)
    specification = experiment.specification(record)
    title = f"{config.env}, noise {experiment.noise}"
    wrong = mistakes(experiment, specification) if specification.rules or config.backend == "builtin" else []
    truth = {"truth": experiment.with_truth(), "no rules": experiment.with_no_rule()}
    references = {
        name: {"safety": each.safety, "ratio": each.ratio, "danger": each.danger, "usefulness": each.usefulness}
        for name, each in truth.items()
    }
    print(f"\nSpecification of seed {record['seed']}; {count} of {len(records)} seeds ended with its rules:")
    told = [(specification.text or NOTHING).rstrip()]
    if config.backend == "llm" and specification.rules:
        told += ["In literals, what the warnings bear out:", specification_text(specification.rules).rstrip()]
    print("\n".join([*told, *wrong, ""]))
    show(summary_table(title, facts, references))
    write_atomically(out / "specification.txt", specification.text.encode())
    write_json(out / "specification.json", specification.as_json())
    settings: Mapping[str, Any] = dataclasses.asdict(config)
    write_json(
        out / "metrics.json",
        {**facts, "references": references, "settings": settings, "environment": environment_facts()},
    )
    learning_curves(records, out / "curves.png", title)
    print(f"written: {out}/ with specification.txt, specification.json, metrics.json, curves.png, seeds/")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return guarded("danger", lambda: single_run("danger", words, _config, job, "run it once for each value"))


def job(settings: DictConfig) -> None:
    """One experiment from Hydra's settings."""
    danger(_config(settings))


def _config(settings: DictConfig) -> DangerConfig:
    values: Mapping[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    return parse_danger(values)


if __name__ == "__main__":
    raise SystemExit(main())
