"""Noise on danger bits: what a monitor, a supervisor or a log makes of the truth, as a pure function of a key.

    noise = parse_noise("fp", p=0.5)                       # the words of a setting: noise=fp p=0.5
    y = noise.bits(danger, seed=0, episodes=3, steps=np.arange(len(danger)))

With D the true bit of a step and y the bit that is given:

| kind | P(y=1 given D=1) | P(y=1 given D=0) |
|---|---|---|
| clean | 1 | 0 |
| fp, false positives | 1 | p |
| fn, false negatives | 1 - q | 0 |
| both | 1 - q | p |
| episode | one bit an episode, given at its end: the OR over the episode of bits as "both" | |
| persistent | as "both", but drawn once for each pair (observation, action) and kept | |

Nothing is drawn from a stream. The uniform number of a step is a hash of (seed, episode, step), that of a pair a hash
of (seed, pair), so that two learners see the same noise at the same place, whatever else they do. The hash is
SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators", section 5), taken over the
words of the key one after the other; a pair's word is the BLAKE2b digest of its bytes.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = ("clean", "fp", "fn", "both", "episode", "persistent")
_TAKES = {"clean": "", "fp": "p", "fn": "q", "both": "pq", "episode": "pq", "persistent": "pq"}
_STEP, _PAIR = 1, 2  # first word of a key, so that steps and pairs have numbers of their own
_MASK = 0xFFFFFFFFFFFFFFFF

Bits = NDArray[np.bool_]


def splitmix64(state: Any) -> Any:
    """SplitMix64's output for a generator whose state before the call is ``state``: an int, or uint64 (N, ...)."""
    z = (state + 0x9E3779B97F4A7C15) & _MASK  # arrays wrap around by themselves
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniforms(*words: Any) -> Any:
    """Numbers in [0, 1), uniform over multiples of 2^-53, one for each key.

    Args:
        words: of the key, in an order that counts; whole numbers >= 0 below 2^64, ints or arrays that broadcast.
    Returns: float if all words are ints, else float64 of the common shape.
    """
    key: Any = 0
    for word in words:
        key = splitmix64(key ^ word)
    return (key >> 11) * 2.0**-53


def pair_words(observations: ArrayLike, actions: ArrayLike) -> NDArray[np.uint64]:
    """A hash of each pair (observation, action), for the persistent noise.

    Numbers count as float32, so that an environment and a data set of it give the same pairs.

    Args:
        observations: (N, ...) real numbers.
        actions: (N, ...) real numbers.
    Returns: (N,) uint64.
    Raises: ValueError if they differ in length.
    """
    seen, done = (_rows(each) for each in (observations, actions))
    if len(seen) != len(done):
        raise ValueError(f"pairs need as many observations as actions; got {len(seen)} and {len(done)}.")
    data = np.concatenate([seen, done], axis=1)
    head = seen.shape[1].to_bytes(8, "little")  # which of the numbers are the observation
    digests = (hashlib.blake2b(head + row.tobytes(), digest_size=8).digest() for row in data)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _rows(values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values, dtype="<f4")
    return array.reshape(len(array), -1) + np.float32(0)  # -0.0 becomes 0.0


@dataclass(frozen=True)
class Noise:
    """A noise model of the table above; ``parse_noise`` makes one from the words of a setting.

    Args:
        kind: one of ``KINDS``.
        p: probability of a warning at a step without danger.
        q: probability of none at a dangerous step.
    Raises: ValueError for an unknown kind, a probability outside of [0, 1], or one that the kind does not take.
    """

    kind: str = "clean"
    p: float = 0.0
    q: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no noise named {self.kind!r}; allowed: {', '.join(KINDS)}.")
        for name in ("p", "q"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"noise: {name} must be a probability, 0 to 1; got {value!r}.")
            if value and name not in _TAKES[self.kind]:
                takes = _TAKES[self.kind] or "neither p nor q"
                raise ValueError(f"noise={self.kind} takes {takes}; got {name}={value:g}. noise=both takes p and q.")

    @property
    def rates(self) -> tuple[float, float]:
        """P(y=1 given D=1) and P(y=1 given D=0) of a single step, 1 - q and p."""
        return 1 - self.q, self.p

    def bits(
        self,
        danger: ArrayLike,
        *,
        seed: int,
        episodes: ArrayLike,
        steps: ArrayLike,
        pairs: NDArray[np.uint64] | None = None,
    ) -> Bits:
        """Noisy bits of single steps; for kind "episode" those that ``given`` takes the OR of.

        Args:
            danger: (N,), true bits.
            seed: >= 0, of the noise.
            episodes: of each step, >= 0; (N,) or one for all.
            steps: number of each step in its episode, from 0; (N,) or one for all.
            pairs: (N,) ``pair_words`` of the steps; only "persistent" uses them.
        Returns: (N,) bool.
        Raises: ValueError if kind is "persistent" and there are no pairs, or for a negative number in a key.
        """
        true = np.asarray(danger, dtype=np.bool_)
        if not (self.p or self.q):
            return true
        if self.kind == "persistent":
            drawn = uniforms(_PAIR, _word(seed, "seed"), _pairs(pairs))
        else:
            key = (_word(seed, "seed"), _word(episodes, "episode"), _word(steps, "step"))
            drawn = uniforms(_STEP, *key)
        return np.where(true, drawn >= self.q, drawn < self.p)

    def bit(self, danger: bool, *, seed: int, episode: int, step: int, pair: int | None = None) -> bool:
        """``bits`` of one step, without arrays."""
        if self.kind == "persistent":
            drawn = uniforms(_PAIR, seed, int(_pairs(pair)))
        else:
            drawn = uniforms(_STEP, seed, episode, step)
        return drawn >= self.q if danger else drawn < self.p

    def given(self, bits: ArrayLike, ends: ArrayLike) -> Bits:
        """What a learner gets of the noisy ``bits`` (N,) of whole episodes, one after the other.

        Args:
            bits: (N,) of single steps.
            ends: (N,) bool, whether a step was the last of its episode; the last one must be.
        Returns: (N,) bool; for kind "episode" the OR over the episode at its last step and 0 before, else ``bits``.
        """
        single, last = np.asarray(bits, dtype=np.bool_), np.flatnonzero(ends)
        if self.kind != "episode":
            return single
        warned = np.zeros(len(single), np.bool_)
        warned[last] = np.logical_or.reduceat(single, np.concatenate([[0], last[:-1] + 1]))
        return warned

    def __str__(self) -> str:
        """As in a setting: "fp p=0.5"."""
        return " ".join([self.kind, *(f"{name}={getattr(self, name):g}" for name in _TAKES[self.kind])])


def parse_noise(kind: str, p: float | None = None, q: float | None = None) -> Noise:
    """The noise of the settings ``noise=kind p=... q=...``; None where one was not given.

    ``episode`` and ``persistent`` may leave out p, q or both, which are 0 then; the others need what they take.

    Raises: ValueError, one line, for an unknown kind, a probability outside of [0, 1], one that is missing, or one that
        the kind does not take.
    """
    values = {"p": p, "q": q}
    needed = _TAKES.get(kind, "") if kind in ("fp", "fn", "both") else ""
    missing = [name for name in needed if values[name] is None]
    if missing:
        raise ValueError(f"noise={kind} needs {' and '.join(missing)}, a probability, as {missing[0]}=0.1.")
    return Noise(kind, **{name: value for name, value in values.items() if value is not None})


def _pairs(pairs: Any) -> Any:
    if pairs is None:
        raise ValueError("noise=persistent needs the pairs (observation, action) of the steps.")
    return pairs


def _word(numbers: ArrayLike, name: str) -> Any:
    """A word of a key: an int, or uint64 (N,)."""
    array = np.asarray(numbers)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"noise: the {name} must be a whole number >= 0; got {np.ravel(array)[:3].tolist()}.")
    return array.astype(np.uint64) if array.ndim else int(array)
