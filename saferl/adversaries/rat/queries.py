"""Which comparisons a teacher is asked: at random, or those about which the reward's members disagree most."""

import numpy as np
from torch import Tensor

from saferl.adversaries.rat.buffer import PreferenceBuffer
from saferl.adversaries.rat.preferences import RewardEnsemble
from saferl.adversaries.rat.teacher import ScriptedTeacher

OVERSAMPLED = 10  # candidates for each question, of which those of most disagreement are asked

Comparisons = tuple[Tensor, Tensor, Tensor]  # segments (M, L, in_dim) twice, labels (M,)


def asked(
    buffer: PreferenceBuffer,
    teacher: ScriptedTeacher,
    ensemble: RewardEnsemble | None,
    count: int,
    length: int,
    generator: np.random.Generator,
    since: int = 0,
) -> Comparisons | None:
    """Comparisons with the teacher's answers.

    Args:
        buffer: where the segments come from.
        teacher: answers.
        ensemble: whose disagreement chooses among ten times as many candidates; None: at random.
        count: M.
        length: L, steps of a segment.
        generator: of the candidates.
        since: time from which a comparison's first segment is; the second is from any. Members that never saw a
            region may agree about it, wrongly, so that their disagreement alone would not lead there.
    Returns: None while no episode is as long as a segment.
    """
    starts = buffer.segment_starts(length)
    if not len(starts):
        return None
    candidates = count if ensemble is None else OVERSAMPLED * count
    new = starts[starts[:, 0] >= since]
    pools = (new if len(new) else starts, starts)
    drawn = [pool[generator.integers(len(pool), size=candidates)] for pool in pools]
    (first, first_scores), (second, second_scores) = (buffer.segments(each, length) for each in drawn)
    rows = np.arange(count)
    if ensemble is not None:
        rows = np.argsort(-ensemble.disagreement(first, second).numpy(), kind="stable")[:count]
    labels = teacher.labels(first_scores[rows], second_scores[rows])
    return first[rows], second[rows], Tensor(labels)
