"""Training of two translators against two discriminators, by cycle consistency and, if wanted, structure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import IterationEvents, Trainer
from monai.utils import AdversarialKeys, CommonKeys
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.engines.image_pool import ImagePool
from mdl_monai.errors import InputError
from mdl_monai.handlers.processes import world_size
from mdl_monai.losses.adversarial import DiscriminatorLoss, GeneratorLoss

MASKS = ("mask_image", "mask_label")

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class CycleGANTrainer(Trainer):
    r"""Learns G from A to B and F from B to A, from images that are not of the same subjects.

    The generators minimise

    .. math::
        (D_B(G(a)) - 1)^2 + (D_A(F(b)) - 1)^2 + \lambda (|F(G(a)) - a| + |G(F(b)) - b|)
        + \mu (S(G(a), a) + S(F(b), b))

    with the structure loss S (`MindLoss`), the discriminators half of (D(real) - 1)^2 + D(fake)^2 on fakes from a
    pool of older ones. Zhu et al.: Unpaired image-to-image translation using cycle-consistent adversarial networks,
    ICCV 2017, doi:10.1109/ICCV.2017.244, with lambda = 10; Yang et al.: Unsupervised MR-to-CT synthesis using
    structure-constrained CycleGAN, IEEE TMI 2020, doi:10.1109/TMI.2020.3015379, with mu = 5.

    A batch holds ``image`` a and ``label`` b, [B, 1, *spatial] in [-1, 1], and perhaps ``mask_image`` and
    ``mask_label``, where the structure and paired losses count. The output of an iteration is ``image``, ``label``,
    ``pred`` = G(a), and the generators' ``loss``, which is the sum of ``generator_loss``, ``cycle_loss``,
    ``structure_loss`` and ``paired_loss`` (the latter two where there are such), each with its weight; beside them
    ``discriminator_loss``. Events are those of a `SupervisedTrainer` of the generators, whose ``network`` is G; the
    discriminators' step comes behind theirs, before ``MODEL_COMPLETED``.

    Args:
        device: where to train.
        max_epochs: number of epochs.
        train_data_loader: gives the batches.
        generators: ``a_to_b``, G, and ``b_to_a``, F; one module under both names for self-inverse training.
        g_optimizer: of the generators' parameters.
        discriminators: ``a`` and ``b``, judges of real and translated images of A and of B. Of a list of outputs, as
            MONAI's PatchDiscriminator gives, the last counts.
        d_optimizer: of the discriminators' parameters.
        pools: ``a`` and ``b``, of translated images of A and of B. Checkpoints need them too.
        cycle_weight: lambda.
        structure_loss: S of translation, origin and its mask (None without one), a scalar.
        structure_weight: mu.
        paired_loss: of translation, true image and its mask, for pairs of the same subject and grid.
        paired_weight: of the paired losses both ways.
        amp: networks in bfloat16, losses in float32.
        key_train_metric, train_handlers, arguments: as in MONAI's trainers.

    Raises:
        ValueError: a generator, discriminator or pool is missing.
        InputError: several processes, which would not agree on the four networks.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        generators: nn.ModuleDict,
        g_optimizer: torch.optim.Optimizer,
        discriminators: nn.ModuleDict,
        d_optimizer: torch.optim.Optimizer,
        pools: Mapping[str, ImagePool],
        cycle_weight: float = 10.0,
        structure_loss: Loss | None = None,
        structure_weight: float = 5.0,
        paired_loss: Loss | None = None,
        paired_weight: float = 10.0,
        amp: bool = False,
        key_train_metric: dict[str, Any] | None = None,
        train_handlers: Sequence | None = None,
        **arguments: Any,
    ) -> None:
        for what, given, names in (
            ("generators", generators, {"a_to_b", "b_to_a"}),
            ("discriminators", discriminators, {"a", "b"}),
            ("pools", pools, {"a", "b"}),
        ):
            if set(given) != names:
                raise ValueError(f"{what} must be {sorted(names)}, found {sorted(given)}")
        if world_size() > 1:
            raise InputError(
                "a CycleGAN trains in one process",
                found=f"{world_size()}",
                remedy="use `make train`, or GPUS=1",
            )
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            key_metric=key_train_metric,
            handlers=train_handlers,
            amp=False,  # MONAI's means float16 with a gradient scaler, which bfloat16 does without
            **arguments,
        )
        self.generators, self.g_optimizer = generators, g_optimizer
        self.discriminators, self.d_optimizer = discriminators, d_optimizer
        self.network = generators["a_to_b"]
        self.pools, self.bfloat16 = pools, amp
        self.cycle_weight = cycle_weight
        self.structure_loss, self.structure_weight = structure_loss, structure_weight
        self.paired_loss, self.paired_weight = paired_loss, paired_weight
        self.generator_loss, self.discriminator_loss = GeneratorLoss(), DiscriminatorLoss()

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        device, non_blocking = engine.state.device, engine.non_blocking
        a, b = (image.as_subclass(Tensor) for image in engine.prepare_batch(batchdata, device, non_blocking))
        masks = [
            batchdata[key].to(device, non_blocking=non_blocking) if key in batchdata else None
            for key in MASKS
        ]
        engine.state.output = {CommonKeys.IMAGE: a, CommonKeys.LABEL: b}
        fake_a, fake_b = self._train_generators(engine, a, b, masks)
        self._train_discriminators(engine, {"a": (a, fake_a), "b": (b, fake_b)})
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _train_generators(
        self, engine: Any, a: Tensor, b: Tensor, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """One step; returns F(b) and G(a)."""
        self.generators.train()
        self.discriminators.train().requires_grad_(False)
        self.g_optimizer.zero_grad()
        a_to_b, b_to_a = self.generators["a_to_b"], self.generators["b_to_a"]
        with self._autocast():
            fake_b, fake_a = a_to_b(a).float(), b_to_a(b).float()
            again_a, again_b = b_to_a(fake_b).float(), a_to_b(fake_a).float()
            score_a, score_b = self._score("a", fake_a), self._score("b", fake_b)
        output = engine.state.output
        output[CommonKeys.PRED] = fake_b.detach()
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)

        cycle = functional.l1_loss(again_a, a) + functional.l1_loss(again_b, b)
        parts = {
            AdversarialKeys.GENERATOR_LOSS: self.generator_loss(score_a) + self.generator_loss(score_b),
            "cycle_loss": self.cycle_weight * cycle,
        }
        mask_a, mask_b = masks
        if self.structure_loss is not None:
            structure = self.structure_loss(fake_b, a, mask_a) + self.structure_loss(fake_a, b, mask_b)
            parts["structure_loss"] = self.structure_weight * structure
        if self.paired_loss is not None:
            paired = self.paired_loss(fake_b, b, mask_b) + self.paired_loss(fake_a, a, mask_a)
            parts["paired_loss"] = self.paired_weight * paired
        loss = torch.stack(list(parts.values())).sum()
        output |= {name: part.detach() for name, part in parts.items()}
        output[CommonKeys.LOSS] = loss.detach()
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.g_optimizer.step()
        return fake_a, fake_b

    def _train_discriminators(self, engine: Any, images: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """One step on real images and on those of the pools."""
        self.discriminators.requires_grad_(True)
        self.d_optimizer.zero_grad()
        losses = []
        for name, (real, fake) in images.items():
            with self._autocast():
                scores = self._score(name, real), self._score(name, self.pools[name](fake))
            losses.append(self.discriminator_loss(*scores))
        loss = torch.stack(losses).sum()
        loss.backward()
        self.d_optimizer.step()
        engine.state.output[AdversarialKeys.DISCRIMINATOR_LOSS] = loss.detach()

    def _score(self, name: str, images: Tensor) -> Tensor:
        scores = self.discriminators[name](images)
        return (scores if isinstance(scores, Tensor) else scores[-1]).float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.state.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)
