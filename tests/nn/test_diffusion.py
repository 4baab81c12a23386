"""Schedules against their formulas, samplers against a mixture whose exact score is known."""

import math

import pytest
import torch

from saferl.nn.diffusion import NoiseSchedule, ddpm_sample, dpm_solver_sample, weighted_denoising_loss

WEIGHTS, MEANS, DEVIATIONS = (0.3, 0.7), (-0.6, 0.5), (0.1, 0.15)
SAMPLERS = pytest.mark.parametrize("sample", [ddpm_sample, dpm_solver_sample])


def test_vp_schedule_has_the_published_numbers():
    schedule = NoiseSchedule("vp", 5)
    assert schedule.betas.tolist() == pytest.approx([0.19587, 0.45882, 0.63578, 0.75488, 0.83503], abs=6e-6)
    assert schedule.alpha_bars.tolist() == pytest.approx([0.80413, 0.43518, 0.15850, 0.03885, 0.00641], abs=6e-6)


def test_vp_schedule_samples_the_continuous_process():  # abar(u) = exp(-0.1 u - 9.9 u^2 / 2), the integral of the rate
    schedule = NoiseSchedule("vp", 40)
    u = torch.arange(1, 41) / 40
    torch.testing.assert_close(schedule.alpha_bars, torch.exp(-0.1 * u - 4.95 * u**2), atol=1e-6, rtol=1e-4)


def test_cosine_schedule_follows_a_squared_cosine():
    schedule = NoiseSchedule("cosine", 50)
    start = math.cos(math.pi / 2 * 0.008 / 1.008) ** 2
    expected = [math.cos(math.pi / 2 * (t / 50 + 0.008) / 1.008) ** 2 / start for t in range(1, 50)]
    assert schedule.alpha_bars[:-1].tolist() == pytest.approx(expected, abs=1e-5)
    assert schedule.betas[-1].item() == pytest.approx(0.999)


def test_linear_schedule_is_linear():
    assert NoiseSchedule("linear", 3).betas.tolist() == pytest.approx([1e-4, 0.01005, 2e-2])


@pytest.mark.parametrize(("name", "steps"), [("sigmoid", 5), ("vp", 0)])
def test_an_impossible_schedule_is_refused(name, steps):
    with pytest.raises(ValueError, match=r"known: vp, cosine, linear"):
        NoiseSchedule(name, steps)


def test_noisy_actions_keep_unit_variance():
    torch.manual_seed(0)
    schedule, steps = NoiseSchedule("vp", 5), torch.arange(5).repeat_interleave(20_000)
    noisy = schedule.noisy_actions(torch.randn(100_000, 1), steps, torch.randn(100_000, 1)).reshape(5, 20_000)
    assert noisy.var(dim=1).tolist() == pytest.approx([1] * 5, abs=0.04)
    moved = schedule.noisy_actions(torch.full((5, 1), 2.0), torch.arange(5), torch.zeros(5, 1))
    assert moved[:, 0].tolist() == pytest.approx([2 * math.sqrt(a) for a in schedule.alpha_bars.tolist()])


def test_weighted_loss_by_hand():
    predicted = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, -3.0]], requires_grad=True)
    noise = torch.tensor([[0.0, 4.0], [1.0, 1.0], [0.0, 0.0]])
    loss = weighted_denoising_loss(predicted, noise, torch.tensor([3.0, 0.5, 0.0]))
    assert loss.item() == pytest.approx((3 * (1 + 4) + 0.5 * (1 + 1) + 0) / 3)
    loss.backward()
    # 2 w (predicted - noise) / B; a row of weight zero moves nothing
    torch.testing.assert_close(predicted.grad, torch.tensor([[2.0, -4.0], [-1 / 3, -1 / 3], [0.0, 0.0]]))


def exact_noise(schedule):
    """eps(x, t) = -sqrt(1 - abar) d/dx log p_t(x) of the mixture, whose noisy versions are mixtures again."""

    def prediction(x, t):
        abar = schedule.alpha_bars[t].item()
        density, slope = torch.zeros_like(x), torch.zeros_like(x)
        for weight, mean, deviation in zip(WEIGHTS, MEANS, DEVIATIONS, strict=True):
            variance = abar * deviation**2 + 1 - abar
            part = weight / math.sqrt(variance) * torch.exp(-((x - math.sqrt(abar) * mean) ** 2) / (2 * variance))
            density, slope = density + part, slope - part * (x - math.sqrt(abar) * mean) / variance
        return -math.sqrt(1 - abar) * slope / density.clamp(min=1e-30)

    return prediction


@SAMPLERS
def test_samplers_reproduce_a_known_mixture(sample):
    schedule = NoiseSchedule("vp", 300)
    generator = torch.Generator().manual_seed(0)
    x = sample(exact_noise(schedule), schedule, (20_000, 1), generator, clip=None)[:, 0]
    left = x < -0.1  # six and four deviations from the two means
    assert left.double().mean().item() == pytest.approx(WEIGHTS[0], abs=0.015)  # four deviations of the count: 0.013
    for side, mean, deviation in zip((x[left], x[~left]), MEANS, DEVIATIONS, strict=True):
        assert side.mean().item() == pytest.approx(mean, abs=0.02)
        assert side.std().item() == pytest.approx(deviation, rel=0.06)


def test_dpm_solver_error_falls_linearly_with_its_steps():  # first order, against a Gaussian's exact flow
    def error(steps):
        schedule = NoiseSchedule("vp", steps)
        start = torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
        last = schedule.alpha_bars[-1].item()
        exact = start * 0.2 / math.sqrt(last * 0.2**2 + 1 - last)  # N(0, 0.2^2): the flow only rescales

        def prediction(x, t):
            abar = schedule.alpha_bars[t].item()
            return math.sqrt(1 - abar) * x / (abar * 0.2**2 + 1 - abar)

        generator = torch.Generator().manual_seed(1)
        return (dpm_solver_sample(prediction, schedule, (1000, 1), generator, clip=None) - exact).abs().mean().item()

    # The step in sqrt(1 / abar - 1) next to abar = 1 shrinks as the root of 1 / T: halved steps, order >= 1/2.
    assert error(100) / error(400) > 1.9


@SAMPLERS
def test_actions_stay_in_the_box(sample):
    generator = torch.Generator().manual_seed(0)
    actions = sample(lambda x, t: -3 * torch.ones_like(x), NoiseSchedule("vp", 5), (64, 3, 2), generator)
    assert actions.shape == (64, 3, 2)
    assert actions.abs().max() <= 1


def test_ddpm_without_temperature_repeats_and_with_it_spreads():
    schedule = NoiseSchedule("vp", 5)

    def spread(temperature):
        generator = torch.Generator().manual_seed(0)
        return ddpm_sample(
            lambda x, t: x * schedule.noise[t], schedule, (4000, 1), generator, temperature, clip=None
        ).std()

    assert spread(1.0) > 2 * spread(0.0)
