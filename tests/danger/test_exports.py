"""Importing saferl.danger brings nothing heavy."""

import subprocess
import sys


def test_the_import_brings_neither_torch_nor_numba_nor_data():
    heavy = ("torch", "numba", "h5py", "saferl.offline_data", "saferl.reachability")
    code = f"import saferl.danger, sys; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "[]"
