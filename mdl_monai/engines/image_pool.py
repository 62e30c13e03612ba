"""A history of translated images, of which a discriminator sees some again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdl_monai.errors import InputError


class ImagePool:
    """Until it is full it returns what it is given and keeps it; then, half the time, an older image in its place.

    So a discriminator does not learn the newest fakes only, which makes adversarial training swing. Shrivastava et
    al.: Learning from simulated and unsupervised images through adversarial training, CVPR 2017.

    Its `state_dict` holds the images and its random numbers, so that a resumed training goes on as it would have.

    Args:
        size: images kept; 0 returns every image as it comes.
        seed: of its random numbers.

    Raises:
        InputError: a negative size.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if size < 0:
            raise InputError("the image pool has a negative size", expected="0 or more", found=size)
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Fresh images [B, C, *spatial] to as many fresh or older ones, without gradient."""
        return torch.stack([self._exchanged(image) for image in images.detach()])

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if not self.size or torch.rand((), generator=self.generator) < 0.5:
            return image
        index = int(torch.randint(self.size, (), generator=self.generator))
        older, self.images[index] = self.images[index], image.clone()
        return older.to(image.device)

    def state_dict(self) -> dict[str, Any]:
        """Plain CPU tensors."""
        return {
            "images": [image.cpu().clone() for image in self.images],
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where another pool stood.

        Raises:
            ValueError: that one was larger.
        """
        if len(state["images"]) > self.size:
            raise ValueError(f"the state holds {len(state['images'])} images, and the pool {self.size}")
        self.images = [image.clone() for image in state["images"]]
        self.generator.set_state(state["generator"].cpu())
