"""RAT: an adversary that makes a victim behave as a teacher prefers, whatever the victim's own reward is.

From the bottom: ``teacher`` (who prefers), ``preferences`` (rewards learned from comparisons), ``queries`` (which are
asked), ``buffer`` and ``novelty`` (what was seen, and how new it is), ``intention`` (SAC that behaves as preferred),
``distance`` (of the victim from it), ``adversary`` (perturbations and state weights), ``training`` (all together).

Source: RAT: Adversarial Attacks on Deep Reinforcement Agents for Targeted Behaviors, AAAI 2025, arXiv 2412.10713; the
preference side is PEBBLE (Lee et al., ICML 2021).
"""
