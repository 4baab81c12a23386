"""Averaging of weights: target copies that follow their networks slowly."""

import torch


@torch.no_grad()
def average_into(copy: torch.nn.Module, module: torch.nn.Module, share: float) -> None:
    """Move the copy's weights by ``share`` towards the module's."""
    torch._foreach_lerp_(list(copy.parameters()), list(module.parameters()), share)
