"""1-bit danger signals: oracles, noise, an environment wrapper, shields, and specifications learned from the bits.

    from saferl.danger import DangerSignal, MarginAbove, parse_noise
    env = DangerSignal(saferl.envs.make("point_robot"), MarginAbove(-0.1), parse_noise("fp", p=0.1))

What brings torch or a language model is imported from its module: ``saferl.danger.shield``,
``saferl.danger.text_analogs``, ``saferl.danger.language_model_backend``.
"""

from saferl.danger.noise import Noise, parse_noise
from saferl.danger.oracles import CleanBit, CostAbove, LeavesRegion, MarginAbove, Transition
from saferl.danger.specification import Episode, Rule, Specification, Step
from saferl.danger.wrapper import DangerSignal

__all__ = [
    "CleanBit",
    "CostAbove",
    "DangerSignal",
    "Episode",
    "LeavesRegion",
    "MarginAbove",
    "Noise",
    "Rule",
    "Specification",
    "Step",
    "Transition",
    "parse_noise",
]
