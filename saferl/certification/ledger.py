"""Two halves of the data: one to choose a policy with, as often as one likes, one to test it with, once.

What keeps the test half from being used twice are three files of a folder: ``split.json`` says which episodes belong to
which half, with a hash of both; ``claim.json`` is written before the first episode of the test half is looked at and
says what is tested; ``certificate.json`` is the verdict. A claim without a certificate is a test that was interrupted:
only the same claim can go on with it. A folder can't see another one: that the seeds of two folders differ is up to
``seed``.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saferl.command_line import UsageError
from saferl.training.run_folder import read_json, write_json

# How to get episodes that nobody has seen, for messages.
ANEW = "out=FOLDER with another seed= or none (recorded data: episodes that were not in it, split into another folder)"


@dataclass(frozen=True)
class Split:
    """Which episodes are whose: seeds of episodes that are still to be rolled out, or numbers of recorded ones.

    Attributes:
        candidate: of the half that chooses.
        test: of the half that tests.
        origin: what they are taken from, plain values.
    """

    candidate: tuple[int, ...]
    test: tuple[int, ...]
    origin: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of both halves and their origin."""
        return digest({"candidate": self.candidate, "test": self.test, "origin": self.origin})


def split_seeds(entropy: int, episodes: int, origin: Mapping[str, Any]) -> Split:
    """Two halves of seeds, drawn from 2^31 with replacement, so that the episodes are independent.

    They are not counted from 0, as those of trainings' own evaluations are: no choice that was made with these can
    have seen an episode of the test. Of one entropy, another environment or number of episodes gives other seeds, so
    that a larger split does not choose with what a smaller one has tested with.

    Args:
        entropy: of the draw, >= 0.
        episodes: of both halves together, even.
        origin: what the episodes are of, plain values; noted beside the entropy.
    """
    origin = {**origin, "entropy": str(entropy)}
    source = np.random.SeedSequence(int(digest([origin, episodes]), 16))
    halves = np.random.default_rng(source).integers(2**31, size=(2, episodes // 2)).tolist()
    return Split(tuple(halves[0]), tuple(halves[1]), origin)


def split_recorded(entropy: int, episodes: int, origin: Mapping[str, Any]) -> Split:
    """Two halves, each in rising order, of E recorded episodes, drawn without replacement; the candidate's is smaller.

    Args:
        entropy: of the draw, >= 0.
        episodes: E, at least 2.
        origin: noted beside the entropy.
    """
    order = np.random.default_rng(np.random.SeedSequence(entropy)).permutation(episodes)
    first, second = np.sort(order[: episodes // 2]), np.sort(order[episodes // 2 :])
    return Split(tuple(first.tolist()), tuple(second.tolist()), {**origin, "entropy": str(entropy)})


@dataclass(frozen=True)
class Ledger:
    """The folder that remembers what was done with a split."""

    folder: Path

    @property
    def split_file(self) -> Path:
        """Which episodes are whose."""
        return self.folder / "split.json"

    @property
    def claim_file(self) -> Path:
        """What is tested; its presence says that the test half has been opened."""
        return self.folder / "claim.json"

    @property
    def certificate_file(self) -> Path:
        """The verdict."""
        return self.folder / "certificate.json"

    def split(self, origin: Mapping[str, Any], make: Callable[[], Split]) -> Split:
        """The split of this folder; made, and kept for good, if there is none.

        Args:
            origin: what it must be taken from.
            make: gives a new one, whose origin holds at least these.
        Raises: UsageError if the one that is there does not have its own hash, or another origin.
        """
        if self.split_file.exists():
            split = self.read_split()
            for key, value in origin.items():
                if split.origin.get(key) != value:
                    raise UsageError(
                        f"{self.folder} holds a split with {key}={split.origin.get(key)}; got {key}={value}. Give that "
                        "one, or split new episodes: out=FOLDER."
                    )
            return split
        made = make()
        values = {"origin": dict(made.origin), "candidate": made.candidate, "test": made.test}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.split_file, {**values, "sha256": made.digest})
        return made

    def read_split(self) -> Split:
        """The split that is there. Raises: UsageError if the file is not readable or does not have its own hash."""
        values = read_json(self.split_file)
        try:
            split = Split(tuple(values["candidate"]), tuple(values["test"]), values["origin"])
            intact = split.digest == values["sha256"]
        except (KeyError, TypeError):
            intact = False
        if not intact:
            raise UsageError(f"{self.split_file} was changed since it was written; certify with new episodes: {ANEW}.")
        return split

    def verdict_on(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The certificate that was given for this request, None as long as the test half is not spent.

        Args:
            request: plain values: everything that was asked for and decides the verdict.
        Raises: UsageError if the test half has given its verdict on another request.
        """
        if not self.certificate_file.exists():
            return None
        certificate: dict[str, Any] = read_json(self.certificate_file)
        changed = _changed(certificate.get("request", {}), request)
        if changed:
            raise UsageError(
                f"the test half of {self.folder} is spent (verdict: {certificate.get('verdict', '?')}, see "
                f"{self.certificate_file}) on another request (it differs in {', '.join(changed)}); a second look at "
                f"it would void delta. Another policy, or another limit, needs new episodes: {ANEW}."
            )
        return certificate

    def open_test(self, claim: Mapping[str, Any]) -> None:
        """Note what is tested, before anything of the test half is looked at.

        Args:
            claim: plain values: policy, constraints, split.
        Raises: UsageError if the half was opened for another claim.
        """
        content = (json.dumps(claim, indent=1) + "\n").encode()
        try:
            _create(self.claim_file, content)
        except FileExistsError:
            changed = _changed(read_json(self.claim_file), claim)
            if changed:
                raise UsageError(
                    f"the test half of {self.folder} was opened for another claim (it differs in "
                    f"{', '.join(changed)}); only that one can be finished. For this one: {ANEW}."
                ) from None

    def close_test(self, certificate: Mapping[str, Any]) -> None:
        """Write the verdict; from now on the test half is spent."""
        write_json(self.certificate_file, certificate)


def _create(path: Path, content: bytes) -> None:
    """Write a file that is not there yet. Raises: FileExistsError if it is, whichever process made it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    try:
        os.link(temporary, path)  # whole or not at all, and unlike a rename it never replaces another process's file
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links (exFAT, some network drives)
        with path.open("xb") as file:
            file.write(content)
    finally:
        temporary.unlink()


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys at which a record that was read from JSON is not what is asked now."""
    asked = json.loads(json.dumps(now))
    return sorted(key for key in {*then, *asked} if then.get(key) != asked.get(key))


def digest(value: Any) -> str:
    """SHA-256 of plain values, by their JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(*paths: Path) -> str:
    """SHA-256 of the contents of files, in this order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()
