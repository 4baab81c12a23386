"""Loading a file needs hardly more memory than the data: peak of a fresh process, from the kernel's own count."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

LOAD = """
import sys
def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
from saferl.offline_data import load_hdf5
before = kib("VmHWM")
dataset = load_hdf5(sys.argv[1])
print(before * 1024, kib("VmHWM") * 1024, dataset.nbytes)
"""


def peak(path: Path) -> tuple[int, int, int]:
    """Peak bytes of a process before and after it loads the file, and the bytes of the dataset."""
    output = subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True, capture_output=True, text=True)
    before, after, size = map(int, output.stdout.split())
    return before, after, size


def write_large(path: Path, n: int, dtype: type) -> Path:
    """n transitions with 60 observed values, as DSRL writes them: gzip in h5py's own chunks."""
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key, columns in (("observations", 60), ("next_observations", 60), ("actions", 2)):
            piece = generator.integers(9, size=(1_000, columns)).astype(dtype)  # repeated: packs fast
            data = np.tile(piece, (n // 1_000, 1))
            file.create_dataset(key, data=data, chunks=True, compression="gzip", compression_opts=1)
        for key in ("rewards", "costs", "terminals", "timeouts"):
            column = np.zeros(n) if key != "timeouts" else np.arange(n) % 1_000 == 999
            file.create_dataset(key, data=column.astype(dtype), compression="gzip", chunks=True)
    return path


def test_loading_float64_needs_less_than_1_3_times_the_data(tmp_path):
    before, after, size = peak(write_large(tmp_path / "data.hdf5", 100_000, np.float64))
    assert after - before > 0.8 * size  # the count sees the data at all
    assert after - before < 1.3 * size


def test_a_million_transitions_need_less_than_1_3_times_the_data_with_the_interpreter(tmp_path):
    _, after, size = peak(write_large(tmp_path / "data.hdf5", 1_000_000, np.float32))
    assert size > 490e6
    assert after < 1.3 * size
