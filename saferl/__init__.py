"""saferl: learn policies that stay inside the feasible region, from offline data.

Importing saferl registers its environment ids with gymnasium; no simulator is imported before one is made.
"""

from saferl import envs as envs

__version__ = "0.1.0"
