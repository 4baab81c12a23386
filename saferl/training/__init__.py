"""The training loop, checkpoints and run folders; knows no agent by name."""
