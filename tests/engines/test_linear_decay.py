from __future__ import annotations

import pytest
import torch
from torch import nn

from mdl_monai.engines.linear_decay import LinearDecay


def optimizer() -> torch.optim.Optimizer:
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    return torch.optim.Adam([{"params": weights[:1], "lr": 0.2}, {"params": weights[1:], "lr": 0.05}], lr=1.0)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_rates_stay_for_half_of_the_steps_and_then_fall_to_zero() -> None:
    schedule = LinearDecay(optimizer(), 8)
    seen = []
    for _ in range(10):
        seen.append(schedule.get_last_lr())
        schedule.step()
    falling = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]  # beyond the end too
    for rates, factor in zip(seen, falling, strict=True):
        assert rates == pytest.approx([0.2 * factor, 0.05 * factor])


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_resumed_schedule_goes_on_and_tells_its_length() -> None:
    straight, first, second = (LinearDecay(optimizer(), 7) for _ in range(3))
    for _ in range(6):
        straight.step()
    for _ in range(4):
        first.step()
    assert first.state_dict()["total_steps"] == 7
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    assert second.get_last_lr() == straight.get_last_lr() == pytest.approx([0.2 * 2 / 7, 0.05 * 2 / 7])


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_longer_training_goes_on_at_its_own_rates() -> None:
    short, longer, straight = (
        LinearDecay(optimizer(), 4),
        LinearDecay(optimizer(), 12),
        LinearDecay(optimizer(), 12),
    )
    for _ in range(4):
        short.step()
    assert short.get_last_lr() == [0, 0]
    longer.load_state_dict(short.state_dict())
    for _ in range(5):
        longer.step()
    for _ in range(9):
        straight.step()
    assert longer.get_last_lr() == straight.get_last_lr() == pytest.approx([0.2 * 0.5, 0.05 * 0.5])
