"""Environments: everything that has reset and step."""
