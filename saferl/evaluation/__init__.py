"""Rollouts, normalised scores, statistics, tables and figures."""
