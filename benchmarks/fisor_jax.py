"""The peer in JAX: FISOR's whole update in one jitted function over plain pytrees, twins by vmap.

Used by benchmarks/fisor_update.py, and by the tests as a third opinion where JAX is installed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saferl.agents.fisor import FISOR, FISORConfig

Tree = Any


def weights_of(agent: FISOR) -> Tree:
    """The agent's weights as a pytree of arrays; dense kernels are (in, out)."""

    def dense(layer: Any) -> Tree:
        return {"w": jnp.asarray(layer.weight.detach().numpy().T), "b": jnp.asarray(layer.bias.detach().numpy())}

    def ensemble(network: Any, members: slice | int) -> Tree:
        pairs = zip(network.weights, network.biases, strict=True)
        return [
            {"w": jnp.asarray(w.detach().numpy()[members]), "b": jnp.asarray(b.detach().numpy()[:, 0][members])}
            for w, b in pairs
        ]

    net: Any = agent.score
    score = {name: dense(getattr(net, name)) for name in ("time_in", "time_out", "first", "last")}
    score["frequencies"] = jnp.asarray(net.frequencies.detach().numpy())
    score["blocks"] = [
        {
            "scale": jnp.asarray(block.norm.weight.detach().numpy()),
            "shift": jnp.asarray(block.norm.bias.detach().numpy()),
            "expand": dense(block.expand),
            "contract": dense(block.contract),
        }
        for block in net.blocks
    ]
    values = {"v_r": ensemble(agent.values, 0), "v_h": ensemble(agent.values, 1)}
    twins = {"q_r": ensemble(agent.critics, slice(0, 2)), "q_h": ensemble(agent.critics, slice(2, 4))}
    return jax.tree.map(lambda leaf: jnp.array(np.array(leaf)), {"score": score, **values, **twins})


def perceptron(layers: Tree, x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return (x @ layers[-1]["w"] + layers[-1]["b"])[:, 0]


twins = jax.vmap(perceptron, in_axes=(0, None))


def dense(layer: Tree, x: jax.Array) -> jax.Array:
    return x @ layer["w"] + layer["b"]


def score(p: Tree, x: jax.Array, s: jax.Array, steps: jax.Array, scales: Any = None) -> jax.Array:
    phase = 2 * jnp.pi * steps[:, None] * p["frequencies"]
    time = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
    time = dense(p["time_out"], jax.nn.mish(dense(p["time_in"], time)))
    hidden = dense(p["first"], jnp.concatenate([x, s, time], axis=1))
    for index, block in enumerate(p["blocks"]):
        y = hidden if scales is None else hidden * scales[index]
        mean, variance = y.mean(1, keepdims=True), y.var(1, keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(variance + 1e-6) * block["scale"] + block["shift"]
        hidden = hidden + dense(block["contract"], jax.nn.mish(dense(block["expand"], y)))
    return dense(p["last"], jax.nn.mish(hidden))


class JaxFISOR:
    """The update and the action choice for one agent's weights and settings ("hj" critic, labels from costs)."""

    def __init__(self, agent: FISOR) -> None:
        self.config, self.act_dim = agent.config, agent.act_dim
        schedule = agent.noise_schedule
        self.betas = jnp.asarray(schedule.betas.numpy())
        self.alpha_bars = jnp.asarray(schedule.alpha_bars.numpy())
        rate = optax.cosine_decay_schedule(self.config.actor_lr, self.config.actor_lr_decay)
        self.actor_adam, self.critic_adam = optax.adam(rate), optax.adam(self.config.critic_lr)
        p = weights_of(agent)
        fresh = jax.tree.map(jnp.copy, p)  # the state is donated: no two leaves may share memory
        self.state = {
            "p": p,
            "targets": {"q_r": fresh["q_r"], "q_h": fresh["q_h"], "score": fresh["score"]},
            "adam": {name: self.critic_adam.init(p[name]) for name in ("v_r", "v_h", "q_r", "q_h")}
            | {"score": self.actor_adam.init(p["score"])},
        }
        self._step = jax.jit(self._update, donate_argnums=0)
        self._draw_and_step = jax.jit(self._update_with_own_draws, donate_argnums=0)
        self._act = jax.jit(self._choose)
        self.key = jax.random.PRNGKey(0)

    def update(self, batch: dict[str, jax.Array], draws: Any = None) -> dict[str, jax.Array]:
        """Two actor updates and one of every critic; ``draws`` are (steps, noise, scales) of each actor update."""
        if draws is None:
            self.key, key = jax.random.split(self.key)
            self.state, metrics = self._draw_and_step(self.state, batch, key)
        else:
            self.state, metrics = self._step(self.state, batch, draws)
        return metrics

    def act(self, observations: jax.Array) -> jax.Array:
        """Actions (B, act_dim): the candidate of least Q_h."""
        self.key, key = jax.random.split(self.key)
        targets = self.state["targets"]
        return self._act(targets["score"], targets["q_h"], observations, key)

    def _update_with_own_draws(self, state: Tree, batch: Tree, key: jax.Array) -> Any:
        c, half, draws = self.config, self.config.batch_size // 2, []
        for half_key in jax.random.split(key):
            a, b, d = jax.random.split(half_key, 3)
            scales = jax.random.bernoulli(d, 1 - c.dropout, (c.blocks, half, c.hidden)) / (1 - c.dropout)
            steps = jax.random.randint(a, (half,), 0, c.diffusion_steps)
            draws.append((steps, jax.random.normal(b, (half, self.act_dim)), scales))
        return self._update(state, batch, draws)

    def _update(self, state: Tree, batch: Tree, draws: Any) -> Any:
        half, p = self.config.batch_size // 2, dict(state["p"])
        targets, adam, losses = dict(state["targets"]), dict(state["adam"]), []
        for index in range(2):
            rows = slice(index * half, (index + 1) * half)
            s, a = batch["observations"][rows], batch["actions"][rows]
            weights = feasibility_weights(self.config, p, targets, s, a)
            loss, gradient = jax.value_and_grad(self._policy_loss)(p["score"], s, a, weights, *draws[index])
            self._descend(p, adam, "score", self.actor_adam, gradient)
            targets["score"] = track(targets["score"], p["score"], self.config.actor_target_rate)
            losses.append(loss)
        self._update_critics(p, targets, adam, {k: v[: self.config.critic_batch_size] for k, v in batch.items()})
        return {"p": p, "targets": targets, "adam": adam}, {"policy/loss": (losses[0] + losses[1]) / 2}

    def _policy_loss(self, p: Tree, s: Any, a: Any, weights: Any, steps: Any, noise: Any, scales: Any) -> jax.Array:
        alpha_bars = self.alpha_bars[steps][:, None]
        noisy = jnp.sqrt(alpha_bars) * a + jnp.sqrt(1 - alpha_bars) * noise
        return (weights * jnp.square(score(p, noisy, s, steps, scales) - noise).sum(axis=1)).mean()

    def _update_critics(self, p: Tree, targets: Tree, adam: Tree, batch: Tree) -> None:
        c, s, after = self.config, batch["observations"], batch["next_observations"]
        sa = jnp.concatenate([s, batch["actions"]], axis=1)
        ends, h = jnp.maximum(batch["terminals"], batch["timeouts"]), jnp.where(batch["costs"] > 0, 25.0, -1.0)

        def bellman(name: str) -> jax.Array:
            ahead = perceptron(p[name], after)
            if name == "v_r":
                return batch["rewards"] + c.discount * (1 - ends) * ahead
            return (1 - ends) * ((1 - c.discount) * h + c.discount * jnp.maximum(h, ahead)) + ends * h

        for v, q, worst, sign in (("v_r", "q_r", jnp.min, 1), ("v_h", "q_h", jnp.max, -1)):
            expectile = c.reward_expectile if sign > 0 else c.safety_expectile
            goal = worst(twins(targets[q], sa), axis=0)

            def value_loss(v_: Tree, goal: Any = goal, sign: int = sign, expectile: float = expectile) -> jax.Array:
                u = goal - perceptron(v_, s)
                return (jnp.where(sign * u > 0, expectile, 1 - expectile) * u**2).mean()

            self._descend(p, adam, v, self.critic_adam, jax.grad(value_loss)(p[v]))
            target = bellman(v)

            def critic_loss(q_: Tree, target: Any = target) -> jax.Array:
                return jnp.square(twins(q_, sa) - target).mean()

            self._descend(p, adam, q, self.critic_adam, jax.grad(critic_loss)(p[q]))
            targets[q] = track(targets[q], p[q], c.target_rate)

    def _descend(self, p: Tree, adam: Tree, name: str, optimizer: Any, gradient: Tree) -> None:
        change, adam[name] = optimizer.update(gradient, adam[name], p[name])
        p[name] = optax.apply_updates(p[name], change)

    def _choose(self, p: Tree, q_h: Tree, observations: jax.Array, key: jax.Array) -> jax.Array:
        count, n = len(observations), self.config.candidates
        s = jnp.repeat(observations, n, axis=0)
        keys = jax.random.split(key, self.config.diffusion_steps + 1)
        x = jax.random.normal(keys[-1], (count * n, self.act_dim))
        for t in range(self.config.diffusion_steps - 1, -1, -1):
            beta, alpha_bar = self.betas[t], self.alpha_bars[t]
            eps = score(p, x, s, jnp.full(count * n, t))
            x = (x - beta / jnp.sqrt(1 - alpha_bar) * eps) / jnp.sqrt(1 - beta)
            x = jnp.clip(x + (t > 0) * jnp.sqrt(beta) * jax.random.normal(keys[t], x.shape), -1, 1)
        q = twins(q_h, jnp.concatenate([s, x], axis=1)).max(axis=0).reshape(count, n)
        return x.reshape(count, n, -1)[jnp.arange(count), q.argmin(axis=1)]


def feasibility_weights(config: FISORConfig, p: Tree, targets: Tree, s: jax.Array, a: jax.Array) -> jax.Array:
    sa = jnp.concatenate([s, a], axis=1)
    q_r, q_h = twins(targets["q_r"], sa).min(axis=0), twins(targets["q_h"], sa).max(axis=0)
    v_r, v_h = perceptron(p["v_r"], s), perceptron(p["v_h"], s)
    escape = jnp.minimum(jnp.exp(config.cost_temperature * (v_h - q_h)), config.cost_weight_clip)
    gain = jnp.minimum(jnp.exp(config.reward_temperature * (q_r - v_r)), config.reward_weight_clip)
    return jnp.where(v_h > 0, escape, jnp.where(q_h <= 0, gain, 0.0))


def track(copy_: Tree, source: Tree, share: float) -> Tree:
    return optax.incremental_update(source, copy_, share)
