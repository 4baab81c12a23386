"""Programs that use CUDA, on a card or in Numba's simulator."""

import json
import os
import subprocess
import sys
from typing import Any


def printed_by(program: str) -> Any:
    """The JSON that a program prints, run where ``device="cuda"`` is to be had."""
    from numba import cuda

    environment = dict(os.environ)
    if not cuda.is_available():
        environment["NUMBA_ENABLE_CUDASIM"] = "1"  # read when Numba is imported: hence a process of its own
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
