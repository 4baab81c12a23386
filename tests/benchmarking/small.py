"""Benchmarks small enough for tests: 2,000 PointRobot transitions, networks of 16 units, a few updates."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from saferl.benchmark import checked
from saferl.benchmarking.config import BenchmarkConfig, parse_benchmark, quoted
from saferl.benchmarking.data import DataCatalogue
from saferl.benchmarking.plan import Plan, make_plan
from saferl.command_line import composed
from tests.training.small import small_data

SMALL = "overrides=[agent.hidden=16,agent.batch_size=32,log_every=10,checkpoint_every=10]"


def words(folder: Path, *more: str) -> list[str]:
    """Arguments of a small benchmark in ``folder``/out; ``more`` is added."""
    path = small_data(folder).removeprefix("data.path=")
    common = ["agents=[bc]", "tasks=[point_robot]", f"data={{point_robot:{path}}}", "seeds=2", "steps=20", "episodes=3"]
    common += [SMALL, "workers=1", f"out={folder / 'out'}"]
    given = {word.split("=")[0] for word in more}
    return [*(word for word in common if word.split("=")[0] not in given), *more]


def config(folder: Path, *more: str) -> BenchmarkConfig:
    """The settings of a small benchmark."""
    values: Any = OmegaConf.to_container(composed("benchmark", quoted(words(folder, *more))))
    return parse_benchmark(values)


def planned(folder: Path, *more: str) -> Plan:
    """The plan of a small benchmark."""
    settings = config(folder, *more)
    tasks, agents = checked(settings, None)
    catalogue = DataCatalogue(Path(settings.out) / "data.json")
    facts = {task.name: catalogue.facts(task.env, task.data) for task in tasks}
    return make_plan(settings, agents, tasks, facts)
