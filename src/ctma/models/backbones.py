"""Image backbones from timm: features at an eighth of the input size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from ctma.errors import CtmaError, SettingError
from ctma.models.layers import DepthwiseConv
from ctma.models.pretrained import create_backbone, register_scale

STRIDE = 8


class Backbone(nn.Module):
    """Features of one date, (B, bands, H, W) to (B, channels, ceil(H/8), ceil(W/8)).

    Attributes:
        channels: Of the features.
    """

    channels: int


def find_backbone(name: str, bands: int, stages: int, pretrained: bool | str | Path) -> Backbone:
    """A backbone by the name of one of timm's networks.

    Args:
        name: Such as ``"resnet34.tv_in1k"`` or ``"tf_efficientnet_lite0"``.
        bands: Input channels.
        stages: Of a ResNet, how many of the four residual stages to keep.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Raises:
        UnknownNameError: If timm has no such network.
        SettingError: If it has no features at stride 8, or its weights cannot be had.
    """
    if name.partition(".")[0] in timm.list_models(module="resnet"):
        return ResNetFeatures(name, bands, stages, pretrained)
    return TimmFeatures(name, bands, pretrained)


class ResNetFeatures(Backbone):
    """A timm ResNet without its head, as the paper has it: all stages, at an eighth of the size.

    Strides are conv1 2, max-pool 2, layer1 1, layer2 2, layer3 1, layer4 1, and no
    convolution is dilated.

    Args:
        name: Name of a timm ResNet.
        bands: Input channels.
        stages: How many of the four residual stages to keep.
        pretrained: See ``ctma.models.pretrained.create_backbone``.
    """

    def __init__(self, name: str, bands: int, stages: int, pretrained: bool | str | Path):
        super().__init__()
        # timm trades strides for dilation at output_stride 8, which is taken out below.
        resnet = create_backbone(
            name, pretrained, in_chans=bands, num_classes=0, global_pool="", output_stride=STRIDE
        )
        self.channels = resnet.feature_info[stages]["num_chs"]
        for stage in range(stages + 1, 5):
            setattr(resnet, f"layer{stage}", nn.Identity())
        for module in resnet.modules():
            if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
                module.dilation = (1, 1)
                module.padding = tuple(size // 2 for size in module.kernel_size)
        self.resnet: Any = resnet

    def forward(self, image: Tensor) -> Tensor:
        """Features of one date."""
        return self.resnet.forward_features(image)


class TimmFeatures(Backbone):
    """The features that a timm network has at stride 8; arguments as of ``Pyramid``."""

    def __init__(self, name: str, bands: int, pretrained: bool | str | Path):
        super().__init__()
        self.pyramid = Pyramid(name, bands, (STRIDE,), pretrained)
        (self.channels,) = self.pyramid.channels

    def forward(self, image: Tensor) -> Tensor:
        """Features of one date."""
        (features,) = self.pyramid(image)
        return features


class Pyramid(nn.Module):
    """The features that a timm network has at some strides, of inputs scaled as it was trained.

    Args:
        name: Name of a timm network.
        bands: Input channels.
        strides: Of the features, from fine to coarse.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Attributes:
        channels: Of the features at each stride.

    Raises:
        SettingError: If it has no such features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, bands: int, strides: Sequence[int], pretrained: bool | str | Path
    ):
        super().__init__()
        self.stride = strides[-1]
        levels = _find_levels(name, strides)
        self.body: Any = create_backbone(
            name, pretrained, in_chans=bands, features_only=True, out_indices=levels
        )
        if isinstance(self.body, EfficientNetFeatures):
            # timm leaves in what comes after the last of the features.
            del self.body.blocks[self.body.feature_info.get_dicts()[-1]["stage"] :]
        _give_training_forms(self.body)
        self.channels: list[int] = self.body.feature_info.channels()
        register_scale(self, self.body.pretrained_cfg, bands)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of one date; sizes that are no multiples are filled up by the edge."""
        height, width = image.shape[-2:]
        filled = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features: list[Tensor] = self.body((filled - self.mean) / self.std)
        return features

    def settle_padding(self) -> None:
        """Sets how much TensorFlow's "same" convolutions pad, which they else find out each time.

        Inputs are filled up to multiples of the coarsest stride, so the padding is the same at
        every size.
        """
        for module, name, conv in _find_convs(self, Conv2dSame):
            missing = [k - s for k, s in zip(conv.kernel_size, conv.stride, strict=True)]
            (top, left), (rows, columns) = [length // 2 for length in missing], missing
            pad = nn.ZeroPad2d((left, columns - left, top, rows - top))
            setattr(module, name, nn.Sequential(pad, _copy_as(nn.Conv2d, conv, padding=0)))


class DepthwiseConvSame(DepthwiseConv, Conv2dSame):
    """A convolution of each channel alone with TensorFlow's "same" padding."""


def _give_training_forms(body: nn.Module) -> None:
    """Replaces convolutions whose gradients are slow in bf16: wide or strided depthwise ones."""
    for module, name, conv in _find_convs(body, nn.Conv2d):
        is_depthwise = conv.groups == conv.in_channels > 1
        if is_depthwise and (max(conv.kernel_size) > 3 or max(conv.stride) > 1):
            kind = DepthwiseConvSame if isinstance(conv, Conv2dSame) else DepthwiseConv
            setattr(module, name, _copy_as(kind, conv, padding=conv.padding))


def _find_convs(
    body: nn.Module, kind: type[nn.Conv2d]
) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """Convolutions of a kind, each with what holds it and its name there."""
    for module in [*body.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, kind):
                yield module, name, child


def _copy_as(kind: type[nn.Conv2d], conv: nn.Conv2d, padding: Any) -> nn.Conv2d:
    """A convolution of another kind with the same weights."""
    with torch.device("meta"):  # no weights are drawn that nobody would use
        copy = kind(
            conv.in_channels, conv.out_channels, cast(Any, conv.kernel_size),
            cast(Any, conv.stride), padding, cast(Any, conv.dilation), conv.groups,
            bias=conv.bias is not None,
        ).train(conv.training)  # fmt: skip
    copy.weight, copy.bias = conv.weight, conv.bias
    return copy


def _find_levels(name: str, strides: Sequence[int]) -> list[int]:
    """Which of a network's features have the strides."""
    try:
        with torch.device("meta"):
            known = create_backbone(name, False, features_only=True).feature_info.reduction()
        return [known.index(stride) for stride in strides]
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, CtmaError):
            raise
        wanted = ", ".join(map(str, strides))
        raise SettingError(f"backbone {name}: has no features at stride {wanted}") from error


class ResNetLevels(nn.Module):
    """The features of all four stages of a timm ResNet, at strides of one's own.

    Args:
        name: Name of a timm ResNet of basic blocks, such as ``"resnet18.tv_in1k"``.
        bands: Input channels.
        strides: Of the first convolution and of the second to the fourth stage; the pooling
            between them and the first stage keep theirs, 2 and 1.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Attributes:
        channels: Of each stage.
    """

    def __init__(
        self, name: str, bands: int, strides: Sequence[int], pretrained: bool | str | Path
    ):
        super().__init__()
        resnet = create_backbone(name, pretrained, in_chans=bands, num_classes=0, global_pool="")
        first, *others = strides
        resnet.conv1.stride = (first, first)
        for stage, stride in zip(
            (resnet.layer2, resnet.layer3, resnet.layer4), others, strict=True
        ):
            for conv in (stage[0].conv1, stage[0].downsample[0]):
                conv.stride = (stride, stride)
        self.channels: list[int] = [info["num_chs"] for info in resnet.feature_info[1:]]
        self.resnet: Any = resnet

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of one date, from fine to coarse."""
        resnet = self.resnet
        x = resnet.maxpool(resnet.act1(resnet.bn1(resnet.conv1(image))))
        features = []
        for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            x = stage(x)
            features.append(x)
        return features
