"""Guardians: where over (state, action) the data are, with a calibrated threshold.

``guardian``: the interface; ``density``, ``counts``, ``networks``: the kinds; ``coverage``: what a fitted one covers;
``acting``: run time. ``figures`` is not imported here, so that matplotlib is not either.
"""

from saferl.guardians.acting import GuardedAction, GuardedPolicy, RecordedBehaviour
from saferl.guardians.coverage import Coverage, coverage_report, guaranteed_share, rows_needed
from saferl.guardians.fitting import episode_numbers, fit_guardian, load_guardian
from saferl.guardians.guardian import Guardian, GuardianConfig

__all__ = [
    "Coverage",
    "GuardedAction",
    "GuardedPolicy",
    "Guardian",
    "GuardianConfig",
    "RecordedBehaviour",
    "coverage_report",
    "episode_numbers",
    "fit_guardian",
    "guaranteed_share",
    "load_guardian",
    "rows_needed",
]
