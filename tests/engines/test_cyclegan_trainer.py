from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents
from monai.handlers import LrScheduleHandler, StatsHandler, from_engine
from monai.networks.nets import PatchDiscriminator
from monai.transforms import Compose, RandGaussianNoised
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.engines.cyclegan_trainer import CycleGANTrainer
from mdl_monai.engines.image_pool import ImagePool
from mdl_monai.errors import InputError
from mdl_monai.handlers.gradient_guard import GradientGuard
from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint
from mdl_monai.losses.mind_loss import MindLoss
from mdl_monai.networks.resnet_generator import ResnetGenerator

SIZE = (16, 24)


class Stop(Exception):
    """A kill in mid-training."""


def generator() -> nn.Module:
    return ResnetGenerator(features=2, n_blocks=1)


def discriminator() -> nn.Module:
    return PatchDiscriminator(2, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE")


def masked_l1(pred: Tensor, reference: Tensor, mask: Tensor | None) -> Tensor:
    weight = torch.ones_like(pred) if mask is None else mask
    return ((pred - reference).abs() * weight).sum() / weight.sum()


def batch(size: int = 2, seed: int = 0) -> dict[str, Tensor]:
    make = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, size, 1, *SIZE, generator=make) * 2 - 1
    masks = (torch.rand(2, size, 1, *SIZE, generator=make) > 0.3).float()
    return {"image": a, "label": b, "mask_image": masks[0], "mask_label": masks[1]}


def trainer_of(
    loader: Any, epochs: int = 1, shared: bool = False, pool: int = 0, sgd: bool = True, **options: Any
) -> CycleGANTrainer:
    torch.manual_seed(3)
    first = generator()
    generators = nn.ModuleDict({"a_to_b": first, "b_to_a": first if shared else generator()})
    discriminators = nn.ModuleDict({"a": discriminator(), "b": discriminator()})
    optimizer: Any = torch.optim.SGD if sgd else torch.optim.Adam
    return CycleGANTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        generators=generators,
        g_optimizer=optimizer(generators.parameters(), lr=0.02),
        discriminators=discriminators,
        d_optimizer=optimizer(discriminators.parameters(), lr=0.03),
        pools={"a": ImagePool(pool, seed=1), "b": ImagePool(pool, seed=2)},
        **options,
    )


def test_one_iteration_equals_the_equations() -> None:
    data, structure = batch(), MindLoss()
    trainer = trainer_of(
        [data], structure_loss=structure, paired_loss=masked_l1, paired_weight=3.0, decollate=False
    )
    g, f = (copy.deepcopy(trainer.generators[name]) for name in ("a_to_b", "b_to_a"))
    d_a, d_b = (copy.deepcopy(trainer.discriminators[name]) for name in ("a", "b"))
    trainer.run()

    a, b, in_a, in_b = (data[key] for key in ("image", "label", "mask_image", "mask_label"))
    fake_b, fake_a = g(a), f(b)
    parts = {
        "generator_loss": ((d_b(fake_b)[-1] - 1) ** 2).mean() + ((d_a(fake_a)[-1] - 1) ** 2).mean(),
        "cycle_loss": 10 * ((f(fake_b) - a).abs().mean() + (g(fake_a) - b).abs().mean()),
        "structure_loss": 5 * (structure(fake_b, a, in_a) + structure(fake_a, b, in_b)),
        "paired_loss": 3 * (masked_l1(fake_b, b, in_b) + masked_l1(fake_a, a, in_a)),
    }
    output: Any = trainer.state.output
    for name, part in parts.items():
        torch.testing.assert_close(output[name], part.detach())
        assert part > 0.01
    torch.testing.assert_close(output["loss"], sum(parts.values()).detach())  # type: ignore[union-attr]
    torch.testing.assert_close(output["pred"], fake_b.detach())

    weights = [*g.parameters(), *f.parameters()]
    gradients = torch.autograd.grad(sum(parts.values()), weights)  # type: ignore[arg-type]
    for new, old, grad in zip(trainer.generators.parameters(), weights, gradients, strict=True):
        torch.testing.assert_close(new, old - 0.02 * grad)

    fake_a, fake_b = fake_a.detach(), fake_b.detach()
    judged = sum(
        0.5 * ((d(real)[-1] - 1) ** 2).mean() + 0.5 * (d(fake)[-1] ** 2).mean()
        for d, real, fake in ((d_a, a, fake_a), (d_b, b, fake_b))
    )
    assert isinstance(judged, Tensor)
    torch.testing.assert_close(output["discriminator_loss"], judged.detach())
    weights = [*d_a.parameters(), *d_b.parameters()]
    for new, old, grad in zip(
        trainer.discriminators.parameters(), weights, torch.autograd.grad(judged, weights), strict=True
    ):
        torch.testing.assert_close(new, old - 0.03 * grad)


def test_without_the_further_losses_there_are_two_parts_and_masks_are_not_needed() -> None:
    data = {key: value for key, value in batch().items() if "mask" not in key}
    trainer = trainer_of([data], decollate=False)
    trainer.run()
    output: Any = trainer.state.output
    assert set(output) == {
        "image", "label", "pred", "loss", "generator_loss", "cycle_loss", "discriminator_loss"
    }  # fmt: skip
    torch.testing.assert_close(output["loss"], output["generator_loss"] + output["cycle_loss"])
    structured = trainer_of([data], structure_loss=MindLoss(), decollate=False)
    structured.run()
    assert structured.state.output["structure_loss"] > 0  # type: ignore[index]


def test_neither_side_learns_in_the_others_step() -> None:
    trainer = trainer_of([batch()])
    seen: dict[str, bool] = {}

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def generators_done(engine: Any) -> None:
        seen["generators"] = all(p.grad is not None and p.grad.any() for p in trainer.generators.parameters())
        seen["no discriminators"] = all(p.grad is None for p in trainer.discriminators.parameters())
        trainer.saved = [p.grad.clone() for p in trainer.generators.parameters()]

    trainer.run()
    assert seen == {"generators": True, "no discriminators": True}
    assert all(p.grad.any() for p in trainer.discriminators.parameters())
    for p, before in zip(trainer.generators.parameters(), trainer.saved, strict=True):
        assert torch.equal(p.grad, before)


def test_discriminators_see_older_fakes_and_the_true_images() -> None:
    batches = [batch(1, seed=n) for n in range(12)]
    trainer = trainer_of(batches, pool=3)
    fakes: list[Tensor] = []
    judged: list[Tensor] = []

    @trainer.on(IterationEvents.FORWARD_COMPLETED)
    def remember(engine: Any) -> None:
        fakes.append(engine.state.output["pred"].clone())

    judge = trainer.discriminators["b"]
    judge.register_forward_pre_hook(lambda _, x: judged.append(x[0].detach().clone()))
    trainer.run()
    of_generators, reals, pooled = judged[0::3], judged[1::3], judged[2::3]
    assert all(torch.equal(x, y) for x, y in zip(of_generators, fakes, strict=True))
    assert all(torch.equal(x, y["label"]) for x, y in zip(reals, batches, strict=True))
    source = [next(k for k, fake in enumerate(fakes) if torch.equal(fake, x)) for x in pooled]
    assert source[:3] == [0, 1, 2] and any(k < n for n, k in enumerate(source))


def test_one_generator_may_serve_both_directions() -> None:
    trainer = trainer_of([batch()] * 2, shared=True, decollate=False)
    before = [p.clone() for p in trainer.network.parameters()]
    trainer.run()
    assert trainer.generators["a_to_b"] is trainer.generators["b_to_a"] is trainer.network
    assert len(list(trainer.generators.parameters())) == len(before)
    assert all(not torch.equal(p, q) for p, q in zip(before, trainer.network.parameters(), strict=True))


def test_half_precision_is_for_the_networks_alone() -> None:
    kinds: set[torch.dtype] = set()

    def structure(pred: Tensor, reference: Tensor, mask: Tensor | None) -> Tensor:
        kinds.add(pred.dtype)
        kinds.add((pred.flatten(1) @ pred.flatten(1).T).dtype)  # bfloat16 if autocast were on
        return MindLoss()(pred, reference, mask)

    outputs = []
    for amp in (False, True):
        trainer = trainer_of([batch()], structure_loss=structure, amp=amp, decollate=False)
        inner = trainer.network.layers[0][0]
        inner.register_forward_hook(lambda *x: outputs.append(x[-1].dtype))
        trainer.run()
        outputs.append(trainer.state.output)
    assert kinds == {torch.float32}
    full, half = (x for x in outputs if isinstance(x, dict))
    assert outputs[0] == torch.float32 and outputs[-2] == torch.bfloat16
    for name in ("loss", "generator_loss", "cycle_loss", "structure_loss", "discriminator_loss"):
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], full[name], rtol=0.05, atol=0)
        assert half[name] != full[name]


def test_pairs_are_learned() -> None:
    data = batch()
    data["image"] = functional.interpolate(data["image"][..., :4, :5], SIZE, mode="bilinear")
    data["label"] = -0.8 * data["image"]
    trainer = trainer_of([data], epochs=80, sgd=False, paired_loss=masked_l1, cycle_weight=1.0)
    losses: list[float] = []
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED,
        lambda engine: losses.append(float(engine.state.output["paired_loss"])),
    )
    trainer.run()
    assert losses[-1] < 0.4 * losses[0]


def train(
    folder: Path, epochs: int, resume: bool = False, stop_in_epoch: int = 0, pools: bool = True
) -> dict[str, Any]:
    """All that is trained, after a run of `epochs` whose learning rates fall over 4."""
    data = [{key: value[0] for key, value in batch(1, seed=n).items()} for n in range(5)]
    dataset = Dataset(data, Compose([RandGaussianNoised("image", prob=0.7)]))
    trainer = trainer_of(
        DataLoader(dataset, batch_size=2, shuffle=True),
        epochs,
        pool=3,
        sgd=False,
        structure_loss=MindLoss(stride=4),
    )
    schedules = {
        name: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=4)
        for name, optimizer in (("g", trainer.g_optimizer), ("d", trainer.d_optimizer))
    }
    further = {
        "discriminators": trainer.discriminators,
        "d_optimizer": trainer.d_optimizer,
        "d_lr_scheduler": schedules["d"],
        **({f"pool_{name}": pool for name, pool in trainer.pools.items()} if pools else {}),
    }
    checkpoint = TrainingCheckpoint(
        str(folder), trainer.generators, trainer.g_optimizer, schedules["g"], dataset, 5, resume, further
    )
    for handler in (*(LrScheduleHandler(s, print_lr=False) for s in schedules.values()), checkpoint):
        handler.attach(trainer)
    GradientGuard(trainer.generators, 10.0).attach(trainer)
    StatsHandler(output_transform=from_engine("loss", first=True), name="cyclegan").attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def stop(engine: Any) -> None:
        if stop_in_epoch and engine.state.epoch == stop_in_epoch and engine.state.iteration % 3 == 2:
            raise Stop

    trainer.run()
    return {name: part.state_dict() for name, part in checkpoint.parts.items()}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("killed", [False, True])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, killed: bool) -> None:
    """Bit for bit: networks, optimisers, schedules, pools. Without the pools it does not: they matter."""
    straight = train(tmp_path / "a", 4)
    if killed:
        with pytest.raises(Stop):
            train(tmp_path / "b", 4, stop_in_epoch=3)
    else:
        train(tmp_path / "b", 2)
    resumed = train(tmp_path / "b", 4, resume=True)
    assert straight.keys() == resumed.keys()
    for name, state in straight.items():
        assert equal(state, resumed[name]), name
    assert len(resumed["pool_a"]["images"]) == 3


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_an_emptied_pool_would_not_resume_exactly(tmp_path: Path) -> None:
    """So that the test above can fail."""
    straight = train(tmp_path / "a", 4, pools=False)
    train(tmp_path / "b", 2, pools=False)
    resumed = train(tmp_path / "b", 4, resume=True, pools=False)
    assert not equal(straight["discriminators"], resumed["discriminators"])


def test_the_decollated_output_serves_monais_handlers() -> None:
    data = batch(3)
    trainer = trainer_of([data])
    trainer.run()
    cases: Any = trainer.state.output
    assert len(cases) == 3 and torch.equal(cases[2]["label"], data["label"][2])
    loss, *parts = from_engine(["loss", "generator_loss", "cycle_loss"], first=True)(cases)
    assert float(loss) == pytest.approx(sum(map(float, parts)))


def test_broken_gradients_stop_the_training() -> None:
    data = batch()
    data["image"][0, 0, 3, 4] = float("nan")
    trainer = trainer_of([data])
    GradientGuard(trainer.generators).attach(trainer)
    before = [p.clone() for p in trainer.generators.parameters()]
    with pytest.raises(InputError, match="training broke down"):
        trainer.run()
    assert all(torch.equal(p, q) for p, q in zip(before, trainer.generators.parameters(), strict=True))


def test_missing_parts_are_named() -> None:
    parts: dict[str, Any] = {
        "generators": nn.ModuleDict({"a_to_b": generator(), "b_to_a": generator()}),
        "discriminators": nn.ModuleDict({"a": discriminator(), "b": discriminator()}),
        "pools": {"a": ImagePool(), "b": ImagePool()},
    }
    for name in parts:
        wrong = parts | {name: {"b": nn.Identity()}}
        with pytest.raises(ValueError, match=rf"{name} must be \['a.*found \['b'\]"):
            CycleGANTrainer("cpu", 1, [batch()], g_optimizer=None, d_optimizer=None, **wrong)  # type: ignore[arg-type]
