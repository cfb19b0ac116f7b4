"""Adversarial, reconstruction and consistency terms: values, and where their gradients go."""

import pytest
import torch
from torch import nn

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.adversarial import (
    gradient_penalty,
    lsgan_discriminator,
    lsgan_generator,
    wgan_critic,
    wgan_generator,
)
from evdistill_core.losses.consistency import as_judge, semantic_consistency
from evdistill_core.losses.divergence import log_posterior
from evdistill_core.losses.reconstruction import reconstruction_l1


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_least_squares_by_hand():
    scores = torch.tensor([[0.0, 0.5], [1.0, 2.0]])
    assert float(lsgan_generator(scores)) == pytest.approx((1 + 0.25 + 0 + 1) / 4)
    expected = 0.5 * ((1 + 0.25 + 0 + 1) / 4 + (0 + 0.25 + 1 + 4) / 4)
    assert float(lsgan_discriminator(scores, scores)) == pytest.approx(expected)
    assert float(lsgan_discriminator(torch.ones(3), torch.zeros(3))) == 0.0
    assert float(lsgan_generator(torch.ones(3))) == 0.0


def test_wasserstein_by_hand():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5])
    assert float(wgan_critic(real, fake)) == pytest.approx(-2.0)
    assert float(wgan_generator(fake)) == pytest.approx(0.0)
    assert float(wgan_generator(real)) == pytest.approx(-2.0)


def test_gradient_penalty_of_a_linear_critic_is_known():
    slope = torch.tensor([3.0, 4.0], requires_grad=True)  # norm 5: penalty (5 - 1)^2

    def critic(x):
        return (x.flatten(1) * slope).sum(1)

    real, fake = noise(4, 2, 1, 1), noise(4, 2, 1, 1, seed=1).requires_grad_()
    value = gradient_penalty(critic, real, fake, torch.rand(4))
    value.backward()
    assert value.item() == pytest.approx(16.0, rel=1e-5)
    # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(slope.grad, torch.tensor([4.8, 6.4]))
    assert fake.grad is None


def test_gradient_penalty_of_a_flat_critic_is_one_and_finite():
    weight = torch.zeros(2, requires_grad=True)
    value = gradient_penalty(
        lambda x: (x.flatten(1) * weight).sum(1),
        noise(3, 2, 1, 1),
        noise(3, 2, 1, 1),
        torch.rand(3),
    )
    value.backward()
    assert float(value.detach()) == pytest.approx(1.0, abs=1e-4)
    assert torch.isfinite(weight.grad).all()


def test_gradient_penalty_is_taken_on_the_line_between_real_and_fake():
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    gradient_penalty(
        critic, torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1), torch.tensor([0.25, 1])
    )
    assert seen[0].flatten().tolist() == [0.25, 1.0]
    with pytest.raises(ConfigError, match="must fit"):
        gradient_penalty(critic, torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 2), torch.rand(2))


def test_reconstruction_counts_weighted_pixels():
    made, true = torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 2, 2, 2)
    true[0, 1] = 3.0
    weight = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    value = reconstruction_l1(made, true, weight)
    value.backward()
    assert float(value.detach()) == pytest.approx(2.0)
    assert (made.grad[0, 0] != 0).tolist() == [[True, False], [False, True]]
    assert float(reconstruction_l1(true, true)) == 0.0
    with pytest.raises(ConfigError, match="shape"):
        reconstruction_l1(made, true[..., :1])


def test_reconstruction_without_a_valid_pixel_is_zero_with_a_gradient():
    made = noise(1, 2, 3, 3).requires_grad_()
    value = reconstruction_l1(made, noise(1, 2, 3, 3, seed=1), torch.zeros(1, 3, 3))
    value.backward()
    assert float(value.detach()) == 0.0
    assert float(made.grad.abs().sum()) == 0.0


@pytest.fixture
def networks():
    torch.manual_seed(0)
    generator = nn.Conv2d(1, 2, 3, padding=1)
    student = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    teacher = nn.Conv2d(1, 4, 3, padding=1)
    return generator, student, teacher


def test_consistency_moves_the_generator_and_nothing_else(networks):
    generator, student, teacher = networks
    image = noise(2, 1, 6, 6)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    with as_judge(student):
        after = student(generator(image))
    semantic_consistency(log_posterior(teacher(image)), log_posterior(after)).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in generator.parameters())
    assert all(p.grad is None for p in [*student.parameters(), *teacher.parameters()])
    for key, value in student.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_judging_gives_modes_and_gradients_back(networks):
    _, student, _ = networks
    student[0].bias.requires_grad_(False)
    student[1].eval()
    with as_judge(student):
        assert not any(p.requires_grad for p in student.parameters())
        assert not any(m.training for m in student.modules())
    assert not student[0].bias.requires_grad
    assert student[0].weight.requires_grad
    assert student.training
    assert student[2].training
    assert not student[1].training


def test_judging_inside_a_step_keeps_the_gradients_of_other_terms(networks):
    generator, student, _ = networks
    image = noise(2, 1, 6, 6)
    task = student(generator(image)).square().mean()
    with as_judge(student):
        after = student(generator(image))
    judged = semantic_consistency(log_posterior(noise(2, 4, 6, 6)), log_posterior(after))
    (expected,) = torch.autograd.grad(task, student[0].weight, retain_graph=True)
    (task + judged).backward()
    torch.testing.assert_close(student[0].weight.grad, expected)


def test_training_before_the_backward_pass_does_not_move_the_judge(networks):
    _, student, _ = networks
    image = noise(2, 2, 6, 6).requires_grad_()
    begin = {k: v.clone() for k, v in student.state_dict().items()}

    def gradient(train_after):
        student.load_state_dict(begin)
        with as_judge(student):
            judged = student(image).square().mean()
        if train_after:
            student(5 * noise(2, 2, 6, 6, seed=3) + 1)  # moves the running statistics
        return torch.autograd.grad(judged, image)[0]

    alone, before = gradient(False), student.state_dict()["1.running_mean"].clone()
    torch.testing.assert_close(gradient(True), alone, rtol=0, atol=0)
    assert not torch.equal(student.state_dict()["1.running_mean"], before)


def test_consistency_of_equal_predictions_is_zero():
    p = log_posterior(noise(1, 4, 3, 3))
    assert float(semantic_consistency(p, p)) == pytest.approx(0.0, abs=1e-7)
    q = log_posterior(noise(1, 4, 3, 3, seed=1)).requires_grad_()
    value = semantic_consistency(p, q, torch.zeros(1, 3, 3))
    value.backward()
    assert float(value.detach()) == 0.0
    assert q.grad is not None
