"""CudaGraph: a function of tensors that is recorded on a GPU once and then replayed, without a launch per kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UPS = 3  # calls that run as they are: libraries choose their kernels, optimisers make their state


class CudaGraph:
    """``function(**tensors) -> dict of scalar tensors``, recorded at its fourth call.

    The function must read its tensors from fixed places, draw from torch's global generator only and not look at a
    value on the host. Shapes must not change from call to call. Recording does not run it: each call is one run.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]]) -> None:
        self._function, self._calls = function, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._names: list[str] = []
        self._outputs = torch.empty(0)

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The function's scalars for these tensors."""
        self._calls += 1
        if self._calls <= _WARM_UPS:
            stream = torch.cuda.Stream()  # as recording will: the default stream can't be recorded
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                scalars = self._function(**inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return scalars
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        for name, tensor in inputs.items():
            self._inputs[name].copy_(tensor)
        self._graph.replay()
        return dict(zip(self._names, self._outputs.clone().unbind(), strict=True))

    def _record(self, inputs: dict[str, Tensor]) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            scalars = self._function(**self._inputs)
            self._names, self._outputs = list(scalars), torch.stack([value.float() for value in scalars.values()])
