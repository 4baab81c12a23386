"""Denoising diffusion over actions: noise schedules, the weighted denoising loss and two samplers."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

NoisePrediction = Callable[[Tensor, int], Tensor]  # (noisy actions (..., act_dim), step index) -> noise, same shape
Noise = torch.Generator | Iterator[Tensor] | None  # where a sampler's standard normal draws come from, see ``drawn``


def vp_betas(steps: int) -> Tensor:
    """Variance-preserving schedule (T,): beta_t = 1 - exp(-0.1 / T - 0.5 * 9.9 (2 t - 1) / T^2), t = 1..T.

    The discretisation of the VP-SDE whose rate grows linearly from 0.1 to 10. Source: Xiao et al., Tackling the
    Generative Learning Trilemma (2022), appendix.
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return 1 - torch.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)


def cosine_betas(steps: int) -> Tensor:
    """Cosine schedule (T,): abar(u) ~ cos^2(pi/2 (u + 0.008) / 1.008), beta <= 0.999. Source: Nichol, Dhariwal 2021."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bars = torch.cos(math.pi / 2 * (u + 0.008) / 1.008) ** 2
    return (1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=0.999)


def linear_betas(steps: int) -> Tensor:
    """Linear schedule (T,) from 1e-4 to 2e-2. Source: Ho et al., Denoising Diffusion Probabilistic Models (2020)."""
    return torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)


SCHEDULES = {"vp": vp_betas, "cosine": cosine_betas, "linear": linear_betas}


class NoiseSchedule(nn.Module):
    """The numbers of a schedule, index t = 0..T-1: ``betas`` (T,) and ``alpha_bars`` (T,), the product of 1 - beta.

    Raises: ValueError if ``name`` is not a schedule or ``steps`` is not positive.
    """

    betas: Tensor
    alpha_bars: Tensor
    signal: Tensor
    noise: Tensor

    def __init__(self, name: str, steps: int) -> None:
        super().__init__()
        if name not in SCHEDULES or steps < 1:
            raise ValueError(f"no schedule {name!r} of {steps} steps; known: {', '.join(SCHEDULES)}, with steps >= 1.")
        betas = SCHEDULES[name](steps)
        alpha_bars = torch.cumprod(1 - betas, dim=0)
        # Rebuilt from the settings, so none of it belongs in a checkpoint.
        self.register_buffer("betas", betas.float(), persistent=False)
        self.register_buffer("alpha_bars", alpha_bars.float(), persistent=False)
        self.register_buffer("signal", alpha_bars.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - alpha_bars).sqrt().float(), persistent=False)

    def __len__(self) -> int:
        return len(self.betas)

    def noisy_actions(self, actions: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) a + sqrt(1 - abar_t) eps: (B, act_dim) from actions, step indices (B,) and noise."""
        return self.signal[steps, None] * actions + self.noise[steps, None] * noise


def weighted_denoising_loss(predicted: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """Mean over rows of w * sum over dimensions of (predicted - noise)^2; (B, act_dim), (B, act_dim), (B,) -> ()."""
    return (weights * (predicted - noise).square().sum(dim=1)).mean()


def drawn(shape: tuple[int, ...], source: Noise, device: torch.device) -> Tensor:
    """Standard normal values ``shape`` from a generator, or the next of an iterator's."""
    if isinstance(source, Iterator):
        return next(source)
    return torch.randn(shape, generator=source, device=device)


def _cut(values: Tensor, bound: float, straight: bool) -> Tensor:
    cut = values.clamp(-bound, bound)
    return values + (cut - values).detach() if straight else cut


def ddpm_sample(
    noise_prediction: NoisePrediction,
    schedule: NoiseSchedule,
    shape: tuple[int, ...],
    generator: Noise = None,
    temperature: float = 1.0,
    clip: float | None = 1.0,
    straight: bool = False,
) -> Tensor:
    """Draw actions by ancestral sampling, every step's result cut to [-clip, clip] (None: not cut).

    Args:
        noise_prediction: maps (noisy actions ``shape``, step index) to the noise in them.
        schedule: T steps, gone through from the last to the first.
        shape: (..., act_dim) of the result.
        generator: of the noise; None for torch's global one; or the draws themselves.
        temperature: factor on the noise that each step but the last adds.
        clip: bound of the action box.
        straight: whether gradients pass the cut as if it were not there; beyond the box they would be 0.
    Returns: actions ``shape``, float32, on the schedule's device.
    Source: Ho et al. (2020), algorithm 2, with variance beta_t.
    """
    device = schedule.betas.device
    x = drawn(shape, generator, device)
    betas, deviations = schedule.betas.tolist(), schedule.noise.tolist()
    for t in range(len(schedule) - 1, -1, -1):
        x = (x - betas[t] / deviations[t] * noise_prediction(x, t)) / math.sqrt(1 - betas[t])
        if t > 0:
            scale = temperature * math.sqrt(betas[t])
            x = x + scale * drawn(shape, generator, device)
        if clip is not None:
            x = _cut(x, clip, straight)
    return x


def dpm_solver_sample(
    noise_prediction: NoisePrediction,
    schedule: NoiseSchedule,
    shape: tuple[int, ...],
    generator: Noise = None,
    temperature: float = 1.0,
    clip: float | None = 1.0,
    straight: bool = False,
) -> Tensor:
    """Draw actions by the first-order DPM-Solver: noise only at the start, then the probability-flow equation.

    From t to s < t, with a = sqrt(abar), b = sqrt(1 - abar), l = log(a / b) and h = l_s - l_t, the step is
    x_s = a_s / a_t x_t - b_s (exp(h) - 1) eps, which is a_s x_0 + b_s eps for the predicted clean action
    x_0 = (x_t - b_t eps) / a_t; x_0 is cut to the action box, and is the result at the last step, where b_s = 0.

    Args and Returns: as ``ddpm_sample``; ``temperature`` scales the noise at the start.
    Source: Lu et al., DPM-Solver (2022), equation 3.7.
    """
    x = temperature * drawn(shape, generator, schedule.betas.device)
    signal, deviation = schedule.signal.tolist(), schedule.noise.tolist()
    for t in range(len(schedule) - 1, -1, -1):
        eps = noise_prediction(x, t)
        clean = (x - deviation[t] * eps) / signal[t]
        if clip is not None:
            clean = _cut(clean, clip, straight)
        x = signal[t - 1] * clean + deviation[t - 1] * eps if t > 0 else clean
    return x


SAMPLERS = {"ddpm": ddpm_sample, "dpm_solver": dpm_solver_sample}
