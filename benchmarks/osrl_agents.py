"""OSRL's agents as they are trained by its own scripts, for comparison; needs a checkout of OSRL (OSRL_PATH=...).

Nothing of OSRL is changed. Its logger comes from a package that no longer imports (fsrl) and its weights go nowhere, so
a logger that keeps nothing stands in.
"""

import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from saferl.offline_data import OfflineDataset

LIMIT, HORIZON, BATCH = 10, 1_000, 512
SIZES = {"a_hidden_sizes": [256, 256], "c_hidden_sizes": [256, 256]}
CRITIC = {**SIZES, "num_q": 2, "num_qc": 2, "sample_action_num": 10, "vae_hidden_sizes": 400}
NAMES = ("bc", "bcq_lag", "bear_lag", "cpq", "coptidice", "cdt")


class _Silent:
    """A logger that keeps nothing."""

    def store(self, *_: Any, **__: Any) -> None:
        """Take and forget."""


def available() -> bool:
    """Whether OSRL_PATH names a checkout."""
    return os.path.isfile(os.path.join(os.environ.get("OSRL_PATH", ""), "osrl", "__init__.py"))


def _import_osrl() -> Any:
    fsrl = types.ModuleType("fsrl")
    utils: Any = types.ModuleType("fsrl.utils")
    utils.DummyLogger, utils.WandbLogger = _Silent, _Silent
    sys.modules.update({"fsrl": fsrl, "fsrl.utils": utils})
    sys.path.insert(0, os.environ["OSRL_PATH"])
    import osrl.algorithms

    return osrl


def update_of(name: str, dataset: OfflineDataset) -> Callable[[], object]:
    """One training step of OSRL's agent at its defaults, rows drawn in advance; "bc" with OSRL's own data path."""
    osrl = _import_osrl()
    algorithms = osrl.algorithms
    obs_dim, act_dim = dataset.obs_dim, dataset.act_dim
    sizes: dict[str, Any] = {"state_dim": obs_dim, "action_dim": act_dim, "max_action": 1.0, "device": "cpu"}
    trained: dict[str, Any] = {"env": None, "logger": _Silent(), "device": "cpu"}
    limits = {"cost_limit": LIMIT, "episode_len": HORIZON}
    if name == "cdt":
        return _cdt(algorithms, dataset, sizes)
    if name == "bc":
        model = algorithms.BC(**sizes, a_hidden_sizes=[256, 256], episode_len=HORIZON)
        trainer = algorithms.BCTrainer(model, **trained, actor_lr=1e-3)
        batches = _loader(dataset)

        def step() -> None:
            observations, _, actions, *_ = next(batches)
            trainer.train_one_step(observations, actions)

        return step
    batch = [each.clone() for each in next(_loader(dataset))]
    rates = {"actor_lr": 1e-3, "critic_lr": 1e-3}
    if name == "coptidice":
        starts = np.zeros(len(dataset), np.float32)
        starts[dataset.episode_starts] = 1
        model = algorithms.COptiDICE(
            **sizes, **SIZES, **limits, f_type="softchi", num_nu=2, num_chi=2, alpha=0.5, cost_ub_epsilon=0.01,
            init_state_propotion=float(starts.mean()),
            observations_std=dataset.observations.std(0, keepdims=True),
            actions_std=dataset.actions.std(0, keepdims=True),
        )  # fmt: skip
        dice = algorithms.COptiDICETrainer(model, **trained, **rates, scalar_lr=1e-4)
        rows = [*batch, torch.from_numpy(starts[:BATCH])]
        return lambda: dice.train_one_step(rows)
    if name == "cpq":
        cpq = algorithms.CPQTrainer(
            algorithms.CPQ(**sizes, **CRITIC, **limits), **trained, **rates, vae_lr=1e-3, alpha_lr=1e-4
        )
        return lambda: cpq.train_one_step(*batch)
    if name == "bcq_lag":
        bcq = algorithms.BCQLTrainer(algorithms.BCQL(**sizes, **CRITIC, **limits), **trained, **rates, vae_lr=1e-3)
        return lambda: bcq.train_one_step(*batch)
    bear_model = algorithms.BEARL(**sizes, **CRITIC, **limits, start_update_policy_step=0)
    bear = algorithms.BEARLTrainer(bear_model, **trained, **rates, vae_lr=1e-3, alpha_lr=1e-3)
    return lambda: bear.train_one_step(*batch)


def _loader(dataset: OfflineDataset) -> Iterator[Any]:
    """OSRL's data path: transitions one at a time, collated in the main process (its fastest setting on few cores)."""
    from osrl.common import TransitionDataset  # type: ignore[import-not-found, unused-ignore]

    arrays = {key: value for key, value in dataset.arrays().items() if key != "margins"}
    return iter(torch.utils.data.DataLoader(TransitionDataset(arrays, reward_scale=0.1), batch_size=BATCH))


def _cdt(algorithms: Any, dataset: OfflineDataset, sizes: dict[str, Any]) -> Callable[[], object]:
    """CDT at its defaults on random sequences: 2,048 of 10 steps."""
    rows, steps = 2_048, 10
    model = algorithms.CDT(
        state_dim=sizes["state_dim"], action_dim=sizes["action_dim"], max_action=1.0, embedding_dim=128, seq_len=steps,
        episode_len=HORIZON, num_layers=3, num_heads=8, attention_dropout=0.1, residual_dropout=0.1,
        embedding_dropout=0.1, time_emb=True, use_rew=True, use_cost=True, cost_transform=True, add_cost_feat=False,
        mul_cost_feat=False, cat_cost_feat=False, action_head_layers=1, cost_prefix=False, stochastic=True,
        init_temperature=0.1, target_entropy=-float(sizes["action_dim"]),
    )  # fmt: skip
    trainer = algorithms.CDTTrainer(
        model, None, _Silent(), learning_rate=1e-4, weight_decay=1e-4, clip_grad=0.25, lr_warmup_steps=500,
        loss_cost_weight=0.02, device="cpu",
    )  # fmt: skip
    index = np.arange(rows)[:, None] + np.arange(steps)
    states, actions = torch.from_numpy(dataset.observations[index]), torch.from_numpy(dataset.actions[index])
    to_go = torch.rand(rows, steps)
    costs = torch.from_numpy(dataset.costs[index])
    times = torch.arange(steps).expand(rows, steps).contiguous()
    mask = torch.ones(rows, steps)
    return lambda: trainer.train_one_step(states, actions, to_go, to_go, times, mask, to_go[:, 0], costs)
