"""Pictures that explain a label fusion: which atlas answered where, and how sure the answer is."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.inferers import Inferer
from monai.networks import eval_mode
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor, nn

from mdl_monai.handlers.case_pictures import CasePictures, case_name
from mdl_monai.handlers.segmentation_pictures import label_colours
from mdl_monai.handlers.upright_cuts import cut_panels, draw_mask, draw_values, upright_cuts
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.networks.deep_fusion_net import DeepFusionNet
from mdl_monai.networks.fusion_evidence import undecided_tiles

logger = logging.getLogger(__name__)

# Searched for: any two of all 13 differ by 25 (CIE76) and more to normal and to each kind of colour-blind vision.
ATLAS_COLOURS = ["#ff6611", "#6600ff", "#ffbbff", "#774477", "#00ff88"]
ATLAS_COLOURS += ["#aa00bb", "#aa0000", "#aaff00", "#66aa66", "#ff66ff"]
AGREED_COLOUR, PRIOR_COLOUR, FURTHER_COLOUR = "#8c8c8c", "#ffffff", "#000000"


class FusionPictures(CasePictures):
    """Draws a case's fused labels, the atlas with the largest weight, the label's probability, the prior's weight.

    Painted are voxels with a label or on which atlases differ, on the network's grid, which is cut to them. Of these,
    ``<case>.json`` has the share that each atlas and the prior answered: where its weight, summed over the window, is
    the largest, unless all atlases hold one label in all of it. A network that is no `DeepFusionNet` is not drawn.

    Args:
        network, inferer: of the evaluator.
        output_dir, count: see `CasePictures`.
        labels, names: values of the network's labels without background, and their names for the legend.
        registration_dir: of the ``<case>.csv`` in which `RegisterAtlasesd` names the atlases; else numbers do.
    """

    def __init__(
        self, network: nn.Module, inferer: Inferer, output_dir: str, labels: Sequence[int],
        names: Mapping[Any, str] | None = None, registration_dir: str = "", count: int | str | None = 1,
    ) -> None:  # fmt: skip
        super().__init__(output_dir, count)
        self.network: Any = getattr(network, "module", network)  # out of DistributedDataParallel
        self.inferer, self.values, self.registration_dir = inferer, [0, *labels], Path(registration_dir)
        self.names = {int(n): str(name) for n, name in (names or {}).items()}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output is decollated."""
        if isinstance(self.network, DeepFusionNet):
            return super().attach(engine)
        logger.info("no pictures of the fusion: %s has no weights", type(self.network).__name__)

    def figure(self, item: Mapping[str, Any]) -> Figure:
        """Draw one case and write its shares; the item holds the network's ``image`` [1 + K (L + 2), *spatial]."""
        case, net = case_name(item), self.network
        image = torch.as_tensor(item["image"]).as_subclass(Tensor)[None]
        with eval_mode(net):
            fused, weights = (self.inferer(image, of)[0].cpu() for of in (net, self.weights))
            parts = net.split(image.cpu())
        probability, label = fused.max(dim=0)
        differ, weighed = (undecided_tiles(parts.labels, parts.valid > 0, r, 1)[0] for r in (0, net.radius))
        painted, answer = (label > 0) | differ, torch.where(weighed, 1 + weights.argmax(dim=0), 0)

        path = self.registration_dir / f"{case}.csv"
        rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [])
        known = [f" ({row['atlas']})" for row in rows] + [""] * len(weights)
        atlases = [f"atlas {k}{name}" for k, name in zip(range(1, len(weights)), known, strict=False)]
        answers = ["all atlases agree", *atlases, "prior" if net.prior else "no atlas"]
        count = torch.bincount(answer[painted], minlength=len(answers))
        share = dict(zip(answers, (count / count.sum().clamp_min(1)).tolist(), strict=True))
        told = json.dumps({"voxels": int(count.sum()), "share": share}, indent=2)
        atomic_write_text(self.output_dir / f"{case}.json", told + "\n")

        maps = {"input": parts.target[0, 0], "painted": painted, "label": torch.tensor(self.values)[label]}
        maps |= {"answer": answer, "probability of the label": probability}
        if net.prior:
            maps["weight of the prior"] = weights[-1]
        maps = {key: m[None] for key, m in maps.items()}
        figure = self.panels(maps, item["image"].affine, share)
        figure.suptitle(f"{case}, painted where there is a label or the atlases do not all agree")
        return figure

    def weights(self, image: Tensor) -> Tensor:
        """Input [B, 1 + K (L + 2), *spatial] to the summed weights of atlases and prior [B, K + 1, *spatial]."""
        parts = self.network.split(image)
        k = parts.images.shape[1]
        which = torch.eye(k, device=image.device).view(1, k, k, *[1] * (image.dim() - 2))
        which = which.expand(len(image), k, k, *image.shape[2:])
        return self.network.fuse(parts, *self.network.describe(parts), which)

    def panels(self, maps: Mapping[str, Tensor], affine: Any, share: Mapping[str, float]) -> Figure:
        """Draw `figure`'s maps [1, *spatial], the fifth and later ones in a scale of 0 to 1, a row a cut."""
        if maps["painted"].any():
            ends = generate_spatial_bounding_box(maps["painted"], margin=6, allow_smaller=True)
            maps = {key: m[:, *map(slice, *ends)] for key, m in maps.items()}
        cuts = upright_cuts(maps, affine, "label" if maps["label"].any() else "painted")
        heat = list(maps)[4:]
        figure, axes = cut_panels(cuts, ["fused labels", "atlas of the largest weight", *heat], maps["input"])

        further = [FURTHER_COLOUR] * len(share)
        colours = [AGREED_COLOUR, *(ATLAS_COLOURS + further)[: len(share) - 2], PRIOR_COLOUR]
        structures = label_colours(maps["label"].unique().tolist())
        for cut, (first, *others) in zip(cuts, axes, strict=True):
            for n, colour in structures.items():
                draw_mask(first, cut.arrays["label"] == n, cut, colour, opacity=0.35, outline=True)
            for axis, key in zip(others, ["answer", *heat], strict=True):
                axis.set_facecolor("black")
                axis.images[0].set_alpha(0.5)
                values = to_rgba_array(colours)[cut.arrays[key]] if key == "answer" else cut.arrays[key]
                draw_values(axis, values, cut, alpha=cut.arrays["painted"].T.astype(float), vmin=0, vmax=1)
                draw_mask(axis, cut.arrays["label"] != 0, cut, "black", opacity=0, outline=True)
        for column in range(2, 2 + len(heat)):
            figure.colorbar(ScalarMappable(), ax=axes[:, column], location="bottom", shrink=0.8)

        below = [Patch(color=c, label=self.names.get(n, f"label {n}")) for n, c in structures.items()]
        axes[-1, 0].legend(handles=below, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)
        entries = zip(share.items(), colours, strict=True)
        beside = [Patch(facecolor=c, edgecolor="black", label=f"{a}: {part:.1%}") for (a, part), c in entries]
        figure.legend(handles=beside, title="share of voxels", loc="outside right center", frameon=False)
        figure.set_size_inches(figure.get_figwidth() + 3, max(figure.get_figheight(), 1 + len(beside) / 4))
        return figure
