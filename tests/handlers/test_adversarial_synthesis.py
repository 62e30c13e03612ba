from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import AdversarialTrainer
from monai.networks.nets import PatchDiscriminator
from monai.utils import AdversarialIterationEvents
from torch import Tensor, nn

from mdl_monai.handlers.adversarial_synthesis import AdversarialSynthesis
from mdl_monai.losses.adversarial import DiscriminatorLoss, GeneratorLoss
from mdl_monai.losses.masked_l1 import MaskedL1

SIZE = (12, 17)


def trainer_of(weight: float, judge: Callable[[Tensor], Any] | None = None) -> AdversarialTrainer:
    torch.manual_seed(1)
    mask = torch.zeros(1, *SIZE)
    mask[:, 2:10, 3:14] = 1
    data = [
        {"image": torch.rand(1, *SIZE) * 2 - 1, "label": torch.cat((torch.rand(1, *SIZE) * 2 - 1, mask))}
        for _ in range(4)
    ]
    generator = nn.Conv2d(1, 1, 3, padding=1)
    discriminator = PatchDiscriminator(2, 4, 1, num_layers_d=1, norm="instance")
    if judge is not None:
        discriminator.register_forward_pre_hook(lambda _, inputs: judge(inputs[0].detach().clone()))
    return AdversarialTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(data), batch_size=2),
        g_network=generator,
        g_optimizer=torch.optim.SGD(generator.parameters(), lr=0.05),
        g_loss_function=GeneratorLoss(weight),
        recon_loss_function=MaskedL1(),
        d_network=discriminator,
        d_optimizer=torch.optim.SGD(discriminator.parameters(), lr=0.05),
        d_loss_function=DiscriminatorLoss(),
        event_names=[AdversarialIterationEvents],
        train_handlers=[AdversarialSynthesis()],
    )


def test_the_discriminator_compares_result_and_reference_where_they_count() -> None:
    seen: list[Tensor] = []
    trainer = trainer_of(0.5, seen.append)
    outputs: list[dict[str, Tensor]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output))
    )
    trainer.run()
    assert len(outputs) == 2 and len(seen) == 6
    for n, output in enumerate(outputs):
        fake, real, same_fake = seen[3 * n : 3 * n + 3]
        inside = output["label"][:, 1:] > 0
        assert torch.equal(fake, same_fake) and not torch.equal(fake, real)
        assert torch.equal(fake[inside], output["pred"].detach()[inside])
        assert torch.equal(real[inside], torch.as_tensor(output["label"][:, :1])[inside])
        assert (fake[~inside] == -1).all() and (real[~inside] == -1).all()
        assert (output["pred"][~inside] != -1).all()


def test_the_generator_learns_from_the_discriminator() -> None:
    trained = {}
    for weight in (0.0, 5.0):
        trainer = trainer_of(weight)
        trainer.run()
        trained[weight] = trainer.state.g_network.weight.detach()
    assert (trained[0.0] - trained[5.0]).abs().max() > 1e-4
