from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import AdversarialTrainer, SupervisedTrainer, Trainer
from monai.losses import DiceLoss
from monai.networks.nets import PatchDiscriminator
from monai.utils import AdversarialIterationEvents
from torch import nn

from mdl_monai.handlers.adversarial_shape import AdversarialShape
from mdl_monai.handlers.gradient_guard import GradientGuard
from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint
from mdl_monai.inferers.hard_labels import HardLabelInferer
from mdl_monai.losses.adversarial import DiscriminatorLoss, GeneratorLoss

SIZE, CLASSES, ITERATIONS = (8, 6, 5), 3, 3

State = dict[str, torch.Tensor]


class Training:
    """A segmenter of one convolution and a small discriminator, the adversarial way or, without weight, plainly."""

    def __init__(
        self,
        weight: float | None = 0.5,
        max_norm: float = 100.0,
        epochs: int = 1,
        folder: Path | None = None,
        resume: bool = False,
    ) -> None:
        torch.manual_seed(1)
        self.data = Dataset(
            [
                {"image": torch.randn(1, *SIZE), "label": torch.randint(CLASSES, (1, *SIZE)).float()}
                for _ in range(2 * ITERATIONS)
            ]
        )
        self.segmenter = nn.Sequential(nn.Conv3d(1, CLASSES, 3, padding=1), nn.Dropout3d(0.2))
        self.discriminator = PatchDiscriminator(
            3, 4, CLASSES, num_layers_d=2, kernel_size=3, norm=("group", {"num_groups": 2})
        )
        self.optimizer = torch.optim.Adam(self.segmenter.parameters(), lr=0.05)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer)
        handlers: list[Any] = [GradientGuard(self.segmenter, max_norm)]
        if folder is not None:
            further = {"discriminator": self.discriminator, "discriminator_optimizer": self.d_optimizer}
            handlers.append(
                TrainingCheckpoint(
                    str(folder), self.segmenter, self.optimizer, scheduler, self.data,
                    resume=resume, further=further,
                )
            )  # fmt: skip
        common: dict[str, Any] = {
            "device": torch.device("cpu"),
            "max_epochs": epochs,
            "train_data_loader": DataLoader(self.data, batch_size=2),
        }
        self.trainer: Trainer
        if weight is None:
            self.trainer = SupervisedTrainer(
                **common,
                network=self.segmenter,
                optimizer=self.optimizer,
                loss_function=DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True),
                train_handlers=handlers,
            )
        else:
            self.trainer = AdversarialTrainer(
                **common,
                g_network=self.segmenter,
                g_optimizer=self.optimizer,
                g_loss_function=GeneratorLoss(weight),
                recon_loss_function=DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True),
                d_network=self.discriminator,
                d_optimizer=self.d_optimizer,
                d_loss_function=DiscriminatorLoss(),
                d_inferer=HardLabelInferer(),
                event_names=[AdversarialIterationEvents],
                train_handlers=[AdversarialShape(), *handlers],
            )

    def at(self, event: Any, look: Callable[[], Any]) -> list[Any]:
        """What `look` sees at each of the events; filled when the training runs."""
        seen: list[Any] = []
        self.trainer.add_event_handler(event, lambda: seen.append(look()))
        return seen


def weights(module: nn.Module) -> State:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def equal(a: State, b: State) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def before_and_after() -> Sequence[Any]:
    """The weights of both networks before an iteration, between the two steps, and after it."""
    training = Training()
    seen = [
        training.at(event, lambda: (weights(training.segmenter), weights(training.discriminator)))
        for event in (
            Events.ITERATION_STARTED,
            AdversarialIterationEvents.GENERATOR_MODEL_COMPLETED,
            Events.ITERATION_COMPLETED,
        )
    ]
    training.trainer.run()
    assert len(seen[0]) == ITERATIONS
    return list(zip(*seen, strict=True))


def test_the_segmenters_step_leaves_the_discriminator_and_the_reverse(
    before_and_after: Sequence[Any],
) -> None:
    for before, between, after in before_and_after:
        assert not equal(before[0], between[0]) and equal(before[1], between[1])
        assert equal(between[0], after[0]) and not equal(between[1], after[1])


def test_the_discriminator_sees_one_hot_maps_of_the_fake_the_reference_and_the_fake_again() -> None:
    training = Training()
    seen: list[torch.Tensor] = []
    training.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    outputs = training.at(Events.ITERATION_COMPLETED, lambda: dict(training.trainer.state.output))
    training.trainer.run()
    assert len(seen) == 3 * ITERATIONS
    for n, output in enumerate(outputs):
        fake, real, same_fake = seen[3 * n : 3 * n + 3]
        assert torch.equal(real.argmax(1, keepdim=True), output["label"].long())
        assert torch.equal(fake.argmax(1), output["pred"].argmax(1)) and torch.equal(fake, same_fake)
        for label_map in (real, fake):
            torch.testing.assert_close(label_map.sort(1).values[:, -1], torch.ones(2, *SIZE))
            torch.testing.assert_close(label_map.sum(1), torch.ones(2, *SIZE))
            assert type(label_map) is torch.Tensor


def test_weight_zero_is_the_plain_training_and_another_is_not() -> None:
    trained: dict[float | None, State] = {}
    for weight in (None, 0.0, 0.5):
        training = Training(weight)
        training.trainer.run()
        trained[weight] = weights(training.segmenter)
    for name, plain in trained[None].items():
        torch.testing.assert_close(trained[0.0][name], plain, rtol=0, atol=1e-6)
        assert (trained[0.5][name] - plain).abs().max() > 1e-4


def test_the_segmenter_learns_to_pass_for_the_reference() -> None:
    """Against a discriminator that stands still, and with next to no Dice loss."""
    training = Training(weight=1000.0, epochs=10)
    training.d_optimizer.param_groups[0]["lr"] = 0.0
    losses = training.at(
        Events.ITERATION_COMPLETED, lambda: training.trainer.state.output["generator_loss"].item()
    )
    training.trainer.run()
    assert losses[-1] < 0.9 * losses[0]


def test_the_metrics_are_the_means_of_the_losses_over_the_epoch() -> None:
    training = Training(epochs=2)
    outputs = training.at(Events.ITERATION_COMPLETED, lambda: dict(training.trainer.state.output))
    training.trainer.run()
    for name, key in (
        ("segmentation_loss", "reconstruction_loss"),
        ("generator_loss", "generator_loss"),
        ("discriminator_loss", "discriminator_loss"),
    ):
        last = torch.stack([output[key].detach() for output in outputs[-ITERATIONS:]])
        assert last.std() > 0
        assert training.trainer.state.metrics[name] == pytest.approx(last.mean().item(), rel=1e-5)


def test_the_segmenters_gradient_is_clipped_before_its_step() -> None:
    training = Training(max_norm=1e-3)
    norms = training.at(
        AdversarialIterationEvents.GENERATOR_BACKWARD_COMPLETED,
        lambda: torch.stack([p.grad.norm() for p in training.segmenter.parameters()]).norm().item(),
    )
    training.trainer.run()
    assert norms == pytest.approx([1e-3] * ITERATIONS, rel=1e-2)


def test_a_resumed_training_ends_in_the_same_weights_of_both(tmp_path: Path) -> None:
    straight = Training(epochs=3, folder=tmp_path / "a")
    straight.trainer.run()
    Training(epochs=2, folder=tmp_path / "b").trainer.run()
    resumed = Training(epochs=3, folder=tmp_path / "b", resume=True)
    iterations = resumed.at(Events.ITERATION_COMPLETED, lambda: resumed.trainer.state.iteration)
    resumed.trainer.run()
    assert iterations == [7, 8, 9]
    assert equal(weights(straight.segmenter), weights(resumed.segmenter))
    assert equal(weights(straight.discriminator), weights(resumed.discriminator))
