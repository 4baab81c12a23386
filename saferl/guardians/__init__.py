"""Guardians: where over (state, action) the data are, with a calibrated threshold."""

from saferl.guardians.fitting import fit_guardian, load_guardian
from saferl.guardians.guardian import Guardian, GuardianConfig

__all__ = ["Guardian", "GuardianConfig", "fit_guardian", "load_guardian"]
