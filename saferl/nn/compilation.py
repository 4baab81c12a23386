"""Compilation of a function of tensors, with the plain function where no compiler is at hand."""

import logging
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

_log = logging.getLogger(__name__)


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """``function`` through torch.compile, or itself after one warning where that can't work.

    The first call compiles: about a minute, later runs on the same machine find the result in torch's cache.
    """
    compiler = os.environ.get("CXX", "g++").split()[0]
    if device.type == "cpu" and shutil.which(compiler) is None:
        _log.warning("agent.compile: no C++ compiler %r on the PATH (set CXX); continuing without.", compiler)
        return function
    fast: Callable[..., Any] | None = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        nonlocal fast
        if fast is not None:
            try:
                return fast(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                fast = None
                reason = str(error).strip().splitlines()[0]
                _log.warning("agent.compile: compilation failed (%s); continuing without.", reason)
        return function(*arguments)

    return call
