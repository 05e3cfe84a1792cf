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
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ctma.errors import CtmaError, SettingError
from ctma.models.layers import DepthwiseConv, resize_as
from ctma.models.pretrained import create_backbone, register_scale

STRIDE = 8


class Backbone(nn.Module):
    """Features of one date, (B, bands, H, W) to (B, channels, ceil(H/8), ceil(W/8)).

    Attributes:
        channels: Channels of the features.
    """

    channels: int


def find_backbone(
    name: str,
    bands: int,
    stages: int,
    strides: list[int],
    pretrained: bool | str | Path,
) -> Backbone:
    """Builds a backbone by the name of a timm network.

    Args:
        name: The network's name, such as ``"resnet34.tv_in1k"`` or ``"tf_efficientnet_lite0"``.
        bands: Input channels.
        stages: Number of the four residual stages to keep; only for a ResNet.
        strides: Strides of the features, 8 and coarser ones; only for other networks.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Raises:
        UnknownNameError: If timm has no such network.
        SettingError: If the network has no features at these strides, or no weights are available.
    """
    if strides[:1] != [STRIDE] or strides != sorted(set(strides)):
        raise SettingError(
            f"backbone_strides is {strides}, must begin with 8 and rise, such as [8, 16]"
        )
    if name.partition(".")[0] in timm.list_models(module="resnet"):
        if strides != [STRIDE]:
            raise SettingError(
                f"backbone_strides is {strides}: a ResNet gives features of stride 8 only"
            )
        return ResNetFeatures(name, bands, stages, pretrained)
    return TimmFeatures(name, bands, strides, pretrained)


class ResNetFeatures(Backbone):
    """A timm ResNet without its head, as in the CTMA paper: all stages, features at stride 8.

    The strides are conv1 2, max-pool 2, layer1 1, layer2 2, layer3 1 and layer4 1. No
    convolution is dilated.

    Args:
        name: Name of a timm ResNet.
        bands: Input channels.
        stages: Number of the four residual stages to keep.
        pretrained: See ``ctma.models.pretrained.create_backbone``.
    """

    def __init__(self, name: str, bands: int, stages: int, pretrained: bool | str | Path):
        super().__init__()
        # At output_stride 8, timm replaces strides by dilation; the loop below removes it.
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
    """The features of a timm network at stride 8, and coarser ones enlarged to it.

    See ``Pyramid`` for the arguments.
    """

    def __init__(
        self, name: str, bands: int, strides: Sequence[int], pretrained: bool | str | Path
    ):
        super().__init__()
        self.pyramid = Pyramid(name, bands, strides, pretrained)
        self.channels = sum(self.pyramid.channels)

    def forward(self, image: Tensor) -> Tensor:
        """Features of one date."""
        fine, *coarse = self.pyramid(image)
        features = torch.cat([fine, *(resize_as(level, fine) for level in coarse)], dim=1)
        # Rounded up this way, as graphs truncate the quotients of negative numbers.
        height, width = ((length + STRIDE - 1) // STRIDE for length in image.shape[-2:])
        return features[..., :height, :width]


class Pyramid(nn.Module):
    """The features of a timm network at chosen strides; normalises inputs as in its training.

    Args:
        name: Name of a timm network.
        bands: Input channels.
        strides: Strides of the features, from fine to coarse.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Attributes:
        channels: Channels of the features at each stride.

    Raises:
        SettingError: If the network has no features at these strides.
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
            # timm keeps the blocks after the last feature, which nobody uses.
            del self.body.blocks[self.body.feature_info.get_dicts()[-1]["stage"] :]
        _give_training_forms(self.body)
        self.channels: list[int] = self.body.feature_info.channels()
        register_scale(self, self.body.pretrained_cfg, bands)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of one date; pads images to multiples of the coarsest stride by edge values."""
        height, width = image.shape[-2:]
        filled = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features: list[Tensor] = self.body((filled - self.mean) / self.std)
        return features

    def settle_padding(self) -> None:
        """Fixes the padding of TensorFlow's "same" convolutions, otherwise computed at each call.

        ``forward`` pads inputs to multiples of the coarsest stride, so every size has the same
        padding.
        """
        for module, name, conv in _find_convs(self, Conv2dSame):
            missing = [k - s for k, s in zip(conv.kernel_size, conv.stride, strict=True)]
            (top, left), (rows, columns) = [length // 2 for length in missing], missing
            pad = nn.ZeroPad2d((left, columns - left, top, rows - top))
            setattr(module, name, nn.Sequential(pad, _copy_as(nn.Conv2d, conv, padding=0)))


class DepthwiseConvSame(DepthwiseConv, Conv2dSame):
    """A depthwise convolution with TensorFlow's "same" padding."""


def _give_training_forms(body: nn.Module) -> None:
    """Replaces depthwise convolutions with slow bf16 gradients: wide kernels or strides."""
    for module, name, conv in _find_convs(body, nn.Conv2d):
        is_depthwise = conv.groups == conv.in_channels > 1
        if is_depthwise and (max(conv.kernel_size) > 3 or max(conv.stride) > 1):
            kind = DepthwiseConvSame if isinstance(conv, Conv2dSame) else DepthwiseConv
            setattr(module, name, _copy_as(kind, conv, padding=conv.padding))


def _find_convs(
    body: nn.Module, kind: type[nn.Conv2d]
) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """Finds convolutions of a class: (parent module, name in the parent, convolution) each."""
    for module in [*body.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, kind):
                yield module, name, child


def _copy_as(kind: type[nn.Conv2d], conv: nn.Conv2d, padding: Any) -> nn.Conv2d:
    """A convolution of another class with the same weights."""
    with torch.device("meta"):  # saves the random initialisation
        copy = kind(
            conv.in_channels, conv.out_channels, cast(Any, conv.kernel_size),
            cast(Any, conv.stride), padding, cast(Any, conv.dilation), conv.groups,
            bias=conv.bias is not None,
        ).train(conv.training)  # fmt: skip
    copy.weight, copy.bias = conv.weight, conv.bias
    return copy


def _find_levels(name: str, strides: Sequence[int]) -> list[int]:
    """Indices of a network's features that have the strides."""
    try:
        with torch.device("meta"):
            reductions = create_backbone(name, False, features_only=True).feature_info.reduction()
        return [reductions.index(stride) for stride in strides]
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, CtmaError):
            raise
        stride_text = ", ".join(map(str, strides))
        raise SettingError(f"backbone {name}: has no features at stride {stride_text}") from error


class ResNetLevels(nn.Module):
    """The features of all four stages of a timm ResNet, with chosen strides.

    Args:
        name: Name of a timm ResNet of basic blocks, such as ``"resnet18.tv_in1k"``.
        bands: Input channels.
        strides: Four strides: of the first convolution and of stages 2 to 4. The max-pool keeps
            its stride 2, and stage 1 its stride 1.
        pretrained: See ``ctma.models.pretrained.create_backbone``.

    Attributes:
        channels: Channels of each stage.
    """

    def __init__(
        self, name: str, bands: int, strides: Sequence[int], pretrained: bool | str | Path
    ):
        super().__init__()
        resnet = create_backbone(name, pretrained, in_chans=bands, num_classes=0, global_pool="")
        blocks = {
            type(module)
            for module in resnet.modules()
            if isinstance(module, BasicBlock | Bottleneck)
        }
        if blocks != {BasicBlock} or not isinstance(resnet.conv1, nn.Conv2d):
            raise SettingError(
                f"backbone {name}: is no ResNet of basic blocks; take resnet18 or resnet34"
            )
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
