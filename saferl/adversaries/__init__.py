"""Observation attacks on a policy: ``threat`` is what they may do, ``catalogue`` lists them, ``runner`` compares them.

From the bottom: ``threat`` (the ball), ``victim`` and ``white_box`` (what a policy would do), ``critics`` and
``objectives`` (what is climbed), ``ascent`` (how), ``attacks`` and ``learned`` (adversaries as objects), ``targets``
(behaviours to bring about), ``rat`` (those learned from preferences), ``robust`` (training against all this). A new
adversary is an object with ``perturbations`` and ``reset`` (``attacks.Attack``), or for PPO a ``turn`` of
``learned.AdversaryEnvs``, and one line in ``catalogue``.
"""
