"""Policies that a word of the command line names: an SB3 .zip, or package.module:function."""

from typing import Any

import gymnasium

from saferl.command_line import UsageError, imported
from saferl.evaluation.sb3_zip import load_sb3
from saferl.policy import Policy, as_policy


def load_policy_word(word: str, env: gymnasium.Env[Any, Any]) -> Policy:
    """The policy that ``policy=`` names: an SB3 .zip, or package.module:function (also :instance of a Policy).

    Args:
        word: what was typed.
        env: the environment it will act in.
    Raises: UsageError, or ValueError in one line for a file that is no such model.
    """
    space = env.action_space
    if word.endswith(".zip"):
        if not isinstance(space, gymnasium.spaces.Box) or env.observation_space.shape is None:
            raise UsageError(f"policy={word}: only environments with Box actions and flat observations are supported.")
        return load_sb3(word, space.low, space.high, env.observation_space.shape[0])
    thing = imported("policy", word, "FILE.zip or package.module:function")
    try:
        return as_policy(thing)
    except TypeError as error:
        raise UsageError(f"policy={word}: {error}") from error
