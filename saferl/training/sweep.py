"""Sweeps (python -m saferl.train -m ...): what each job leaves for the table at the end."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from saferl.evaluation.report import as_text, show
from saferl.training.run_evaluation import tables
from saferl.training.run_folder import open_run, read_json, write_atomically, write_json

OUTCOMES: list[dict[str, Any]] = []  # of this process's command, for its exit code; a sweep fills it when it ends


def note_outcome(outcome: dict[str, Any]) -> None:
    """Keep how a job ended: {"run": path} or {"error": line, "code": exit code}.

    A sweep's jobs may run in other processes or on other machines, so each leaves a file in the sweep's folder.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        write_json(Path(hydra.sweep.dir) / f"job-{hydra.job.num}.json", outcome)
    else:
        OUTCOMES.append(outcome)


class SweepTable(Callback):
    """Prints the table over all runs of a sweep; keeps it and the list of runs in the sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook, called on the machine that started the sweep."""
        folder = Path(config.hydra.sweep.dir)
        files = sorted(folder.glob("job-*.json"), key=lambda path: int(path.stem.removeprefix("job-")))
        outcomes = [read_json(path) for path in files]
        OUTCOMES.extend(outcomes)
        runs = [open_run(outcome["run"]) for outcome in outcomes if "run" in outcome]
        runs = [run for run in runs if run.evaluation.exists()]  # not with eval_episodes=0
        for outcome in outcomes:
            if "error" in outcome:
                print(f"saferl.train: {outcome['error']}", file=sys.stderr)
        write_json(folder / "sweep.json", outcomes)
        for path in files:
            path.unlink()
        if runs:
            made = tables(runs, [read_json(run.evaluation) for run in runs])
            write_atomically(folder / "table.txt", as_text(*made).encode())
            show(*made)
