"""One script per claim: saferl and its peer in one run, the ratio printed last. Run from the repository root."""
