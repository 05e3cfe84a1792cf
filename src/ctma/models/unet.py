"""U-Net on any encoder of segmentation_models_pytorch: a plain but strong baseline.

I. Corley, C. Robinson, A. Ortiz, "A Change Detection Reality Check", arXiv 2402.06994, 2024, after
O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", arXiv 1505.04597, 2015. With ``dates="concat"``, the network is the released
``cdp_unet``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ctma.errors import UnknownNameError, extras
from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.pretrained import begin_with_weights, find_repository, register_scale

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder levels, from coarse to fine."""

DATES = ("concat", "early")
"""What the network stacks: ``"concat"`` the features of both dates, ``"early"`` the images."""

TIMMS = "tu-"
"""Prefix of the names of encoders that come from timm."""

IMAGENET = "imagenet"


class UNet(ChangeNetwork):
    """A U-Net for change detection.

    Args:
        bands: Input channels of one date.
        backbone: Name of an encoder of segmentation_models_pytorch. The prefix ``tu-`` selects a
            timm network, as in ``"tu-tf_efficientnet_lite0"``.
        dates: ``"concat"`` encodes each date and stacks the features (siamese); ``"early"``
            stacks the images.
        pretrained: ImageNet weights for the encoder: ``True``, or a file.
        normalised: Whether to normalise inputs by the mean and deviation of the encoder's
            training data.
    """

    stride = 32
    backbone_part = "encoder."
    released = Released(((r"^head\.", "segmentation_head.0."),), arguments={"normalised": False})

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        bands: int = 3,
        backbone: str = "resnet18",
        dates: str = "concat",
        pretrained: bool | str | Path = False,
        normalised: bool = True,
    ):
        super().__init__()
        with extras():
            from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        if bands < 1:
            raise ValueError(f"bands is {bands}, must be at least 1")
        if dates not in DATES:
            raise UnknownNameError("way to join dates", dates, DATES)
        self.bands = bands
        self.normalised = normalised
        self.siamese = dates == "concat"
        self.encoder = create_encoder(backbone, bands * (1 if self.siamese else 2), pretrained)
        channels = [count * (2 if self.siamese else 1) for count in self.encoder.out_channels]
        self.decoder = UnetDecoder(channels, WIDTHS)
        self.head = nn.Conv2d(WIDTHS[-1], 2, 3, padding=1)
        register_scale(self, find_scale(backbone), bands)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        height, width = before.shape[-2:]
        images = [self._prepare(image) for image in (before, after)]
        if self.siamese:
            dates = zip(*map(self.encoder, images), strict=True)
            features = [torch.cat(levels, dim=1) for levels in dates]
        else:
            features = self.encoder(torch.cat(images, dim=1))
        logits = self.head(self.decoder(features))
        return ChangeLogits.from_classes(logits[..., :height, :width])

    def _prepare(self, image: Tensor) -> Tensor:
        """Pads the image to multiples of the stride by edge values, and normalises its values."""
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return (image - self.mean) / self.std if self.normalised else image


def create_encoder(name: str, channels: int, pretrained: bool | str | Path) -> Any:
    """Builds an encoder of segmentation_models_pytorch.

    Args:
        name: The encoder's name.
        channels: Input channels of the encoder.
        pretrained: See ``UNet``.

    Raises:
        MissingExtraError: If the library is not installed.
        UnknownNameError: If the library has no such encoder.
        SettingError: If the weights are not available, or do not fit.
    """
    with extras():
        from segmentation_models_pytorch.encoders import encoders, get_encoder

    def make(from_hub: bool) -> Any:
        return get_encoder(name, channels, weights=IMAGENET if from_hub else None)

    if name.startswith(TIMMS):
        timms = name.removeprefix(TIMMS)
        if timms.partition(".")[0] not in timm.list_models():
            raise UnknownNameError("timm network", timms, timm.list_models())
        return begin_with_weights(make, timms, pretrained, find_repository(timms), "model")
    if name not in encoders:
        raise UnknownNameError("encoder", name, encoders)
    settings = encoders[name]["pretrained_settings"].get(IMAGENET, {})
    return begin_with_weights(make, name, pretrained, settings.get("repo_id"))


def find_scale(name: str) -> dict[str, Any]:
    """Mean and deviation of an encoder's training data; those of ImageNet if timm has none."""
    config = timm.get_pretrained_cfg(name.removeprefix(TIMMS))
    imagenet = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    return imagenet if config is None else config.to_dict()
