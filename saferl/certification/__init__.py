"""The release gate: whether a policy may be deployed, decided with a stated confidence."""
