"""Benchmarks: many trainings planned, cached and run side by side; knows no agent by name."""
