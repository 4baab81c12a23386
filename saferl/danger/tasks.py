"""Gridworlds as tasks of discovery: what happens, what an agent expects to happen, how long an episode is."""

from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np

from saferl.danger.clone import World, world_of
from saferl.danger.text_analogs import ANALOGS
from saferl.envs.gridworlds.catalogue import IDS, rules_of
from saferl.envs.gridworlds.finite_models import finite_model
from saferl.envs.gridworlds.rules import Rules

Bit = Literal["pen", "epo"]
PAPER = (  # the five of EPO-Safe, under the names that the paper gives them
    "side_effects_sokoban_0", "safe_interruptibility_1", "absent_supervisor", "boat_race", "whisky_gold_human",
)  # fmt: skip
_DRINK = 5.0  # R of the first whisky, which R* does not count here


def rules_named(env: str) -> Rules:
    """The rules of ``saferl/BoatRace-v0``, ``boat_race`` or ``text_boat_race``.

    whisky_gold asks its agent to choose actions at random after drinking; here the environment does that for it.

    Raises: ValueError in one line for an unknown name.
    """
    if env in ANALOGS:
        return ANALOGS[env].rules
    names = {env_id: name for name, env_id in IDS.items()}
    name = names.get(env, env)
    return rules_of("whisky_gold_human" if name == "whisky_gold" else name)


def horizon_of(rules: Rules) -> int:
    """Steps of an episode in the published loop."""
    return 20 if rules.name.endswith("boat_race") else 30


@lru_cache(maxsize=4)  # a benchmark runs all cells of one environment one after the other
def task_world(env: str, bit: Bit = "pen") -> World:
    """The world of a gridworld.

    In whisky_gold an agent plans as if all its actions were carried out, since it isn't told what drinking does; R*
    leaves out the 5 for the whisky, as EPO-Safe has it.

    Args:
        env: id or name.
        bit: "pen", saferl's danger bit; "epo", that of EPO-Safe's code.
    Raises: ValueError for an unknown name, one whose steps can't be listed, or a bit that it doesn't have.
    """
    rules = rules_named(env)
    model = finite_model(rules)
    hidden, danger = np.array(model.hidden), np.array(model.danger)
    expected = None
    if "whisky_gold" in rules.name:
        hidden -= _DRINK * danger
        expected = finite_model(replace(rules, chances=(1.0,)))  # of its outcomes the first is the agent's own action
    if bit == "epo":
        if rules.danger_epo is None:
            raise ValueError(f"EPO-Safe's code has no danger bit for {rules.name}; use bit=pen.")
        danger = np.vectorize(rules.danger_epo, otypes=[np.bool_])(model.rewards, model.hidden, model.danger)
    return world_of(replace(model, hidden=hidden, danger=danger), expected)
