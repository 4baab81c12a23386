"""Training against attacks on observations: what ``python -m saferl.harden`` does.

``observing`` (the agent's environments behind an adversary), ``smooth`` (SA-regularised policies), ``online_critics``
(Q_r and Q_c of a policy that is still learning), ``training`` (ATLA, RAT-ATLA, adversarial PPO-Lagrangian),
``augmentation`` (attacked observations for offline agents).
"""
