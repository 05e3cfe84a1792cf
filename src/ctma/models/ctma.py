"""CTMA: coarse-grained temporal foregrounds mining.

X. Wang et al., "Treat Stillness with Movement: Remote Sensing Change Detection via
Coarse-grained Temporal Foregrounds Mining", arXiv 2408.08078, 2024. The code follows the
paper's figure: pseudo-video, temporal encoder, two spatial branches, two decoders.
Docstrings give shapes for B pairs of H x W images and N frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import find_backbone
from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.difference import DifferencePath
from ctma.models.layers import JoinConv, conv_bn, resize_as
from ctma.models.video import Stem, TemporalAggregation


class Stages(NamedTuple):
    """All intermediate results of CTMA, for losses, figures and analysis.

    Attributes:
        coarse_logits: Logits of the coarse head, (B, 1, H/8, W/8).
        coarse_mask: 1 where the coarse probability exceeds 0.5, (B, 1, H, W).
        motion: Motion features M1 (B, 256, H/4, W/4) and M2 (B, 512, H/8, W/8).
        difference: Difference features F, (B, 128, H/8, W/8).
        spatial: Level-3 feature of the unmasked branch, (B, 128, H/8, W/8).
        unmasked_logits: Logits of the unmasked branch, (B, 1, H, W).
        masked_logits: Logits of the masked branch, (B, 1, H, W).
        fused_logits: Weighted sum of both branches' logits, (B, 1, H, W).
    """

    coarse_logits: Tensor
    coarse_mask: Tensor
    motion: tuple[Tensor, Tensor]
    difference: Tensor
    spatial: Tensor
    unmasked_logits: Tensor
    masked_logits: Tensor
    fused_logits: Tensor


RELEASED_NAMES = (
    (r"^temporal_encoder\.stem\.", "encoder_v.stem."),
    (r"^temporal_encoder\.t_blocks\.0\.", "encoder_v.layer1."),
    (r"^temporal_encoder\.t_blocks\.1\.", "encoder_v.layer2."),
    (r"\.reduce\.(\d)\.", r".conv1.seq.\1."),
    (r"\.conv\.0\.", ".conv2.seq.1."),
    (r"\.conv\.1\.", ".conv2.seq.2."),
    (r"\.expand\.(\d)\.", r".conv3.seq.\1."),
    (r"\.shortcut\.(\d)\.", r".ds.seq.\1."),
    (r"^coarse_head\.", "conv_out_v.seq.0."),
    (r"^tams\.(\d)\.mix\.", r"convs_video.\1.seq."),
    (r"^difference_path\.backbone\.resnet\.", "encoder_p1.backbone.resnet."),
    (r"^difference_path\.project\.", "encoder_p1.backbone.conv_out.seq.1."),
    (r"^unmasked_branch\.levels\.0\.", "encoder_p1.conv1."),
    (r"^unmasked_branch\.levels\.1\.", "encoder_p1.conv2."),
    (r"^unmasked_branch\.levels\.2\.", "encoder_p1.conv3."),
    (r"^masked_branch\.levels\.0\.", "encoder_p2.conv1."),
    (r"^masked_branch\.levels\.1\.", "encoder_p2.conv2."),
    (r"^masked_branch\.levels\.2\.", "encoder_p2.conv3."),
    (r"^unmasked_decoder\.", "decoder1."), (r"^masked_decoder\.", "decoder2."),
    (r"\.bottom\.0\.", ".conv_bottom.seq.1."), (r"\.bottom\.1\.", ".conv_bottom.seq.2."),
    (r"\.s_blocks\.(\d)\.", r".blocks.\1.conv_fuse."),
    (r"\.out\.", ".conv_out.seq.0."),
    (r"\.conv([123])\.0\.(?!seq)", r".conv\1.seq.1."),
    (r"\.conv([123])\.1\.(?!seq)", r".conv\1.seq.2."),
)  # fmt: skip


class CTMA(ChangeNetwork):
    """CTMA, the network of the paper.

    Args:
        bands: Input channels of one date.
        video_len: Frames N of the pseudo-video, at least 2.
        fusion: Weight of the unmasked branch in the fused logits, in [0, 1]; the weight of the
            masked branch is 1 - ``fusion``.
        backbone: Name of a timm network with features at stride 8. The tag in the name selects
            the ImageNet weights.
        backbone_stages: Number of ResNet stages that the backbone keeps, 1 to 4.
        backbone_strides: Strides of the features that a backbone other than a ResNet gives, 8 and
            coarser ones.
        pretrained: ImageNet weights for the backbone: ``True``, or a file.
        temporal_width: Channels of the temporal stem. The two T-Blocks II have 4 and 8 times as
            many output channels.
        spatial_widths: Channels of the three spatial levels.
        joint_statistics: Whether the backbone's batch statistics in training cover both dates
            together, instead of each date alone.
    """

    backbone_part = "difference_path.backbone."
    released = Released(
        RELEASED_NAMES, unsaid={"fusion": "0.5 for SVCD, 0.67 for LEVIR-CD, 0.7 for WHU-CD"}
    )

    def __init__(
        self,
        bands: int = 3,
        video_len: int = 8,
        fusion: float = 0.5,
        backbone: str = "resnet34.tv_in1k",
        backbone_stages: int = 4,
        backbone_strides: Sequence[int] = (8,),
        pretrained: bool | str | Path = False,
        temporal_width: int = 64,
        spatial_widths: Sequence[int] = (32, 64, 128),
        joint_statistics: bool = False,
    ):
        super().__init__()
        if video_len < 2:
            raise ValueError(f"video_len is {video_len}, must be at least 2")
        if not 0 <= fusion <= 1:
            raise ValueError(f"fusion is {fusion}, must be between 0 and 1")
        if not 1 <= backbone_stages <= 4:
            raise ValueError(f"backbone_stages is {backbone_stages}, must be between 1 and 4")
        if len(spatial_widths) != 3 or min(*spatial_widths, temporal_width, bands) < 1:
            raise ValueError(
                f"spatial_widths is {list(spatial_widths)}, temporal_width {temporal_width}, bands "
                f"{bands}: must be three numbers, one and one, all at least 1"
            )
        self.bands = bands
        self.video_len = video_len
        self.fusion = fusion
        motion_channels = (4 * temporal_width, 8 * temporal_width)

        # Same order as in the released code, so that released optimizer states fit.
        self.temporal_encoder = TemporalEncoder(bands, temporal_width)
        self.unmasked_branch = SpatialBranch(2 * bands, spatial_widths, motion_channels)
        self.difference_path = DifferencePath(
            find_backbone(backbone, bands, backbone_stages, [*backbone_strides], pretrained),
            spatial_widths[-1],
            joint_statistics,
        )
        if backbone_strides[-1] != self.stride:  # or else fingerprints of earlier weights change
            self.stride = backbone_strides[-1]
        self.masked_branch = SpatialBranch(2 * bands, spatial_widths, motion_channels)
        self.coarse_head = nn.Conv2d(motion_channels[1], 1, 1)
        self.tams = nn.ModuleList(TemporalAggregation(channels) for channels in motion_channels)
        self.unmasked_decoder = Decoder(2 * bands, spatial_widths)
        self.masked_decoder = Decoder(2 * bands, spatial_widths)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs, with the coarse logits as auxiliary output.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        stages = self.stages(before, after)
        return ChangeLogits(stages.fused_logits, (stages.coarse_logits,))

    def stages(self, before: Tensor, after: Tensor) -> Stages:
        """The forward pass with all intermediate results; takes the inputs of ``forward``."""
        self.check_inputs(before, after)
        # The decoders' features have this layout; mixed layouts would cost a copy at every join.
        pair = torch.cat([before, after], dim=1).to(memory_format=torch.channels_last)

        videos = self.temporal_encoder(before, after, self.video_len)
        motion = (self.tams[0](videos[0]), self.tams[1](videos[1]))
        coarse_logits = self.coarse_head(motion[1])
        coarse_probability = coarse_logits.detach().sigmoid()
        coarse_mask = resize_as((coarse_probability > 0.5).to(pair.dtype), pair)

        unmasked_skips = self.unmasked_branch(pair, motion)
        masked_skips = self.masked_branch(pair * coarse_mask, motion)
        difference = resize_as(self.difference_path(before, after), unmasked_skips[-1])

        unmasked_logits = self.unmasked_decoder(difference, unmasked_skips)
        masked_logits = self.masked_decoder(masked_skips[-1], masked_skips)
        return Stages(
            coarse_logits=coarse_logits,
            coarse_mask=coarse_mask,
            motion=motion,
            difference=difference,
            spatial=unmasked_skips[-1],
            unmasked_logits=unmasked_logits,
            masked_logits=masked_logits,
            fused_logits=self.fusion * unmasked_logits + (1 - self.fusion) * masked_logits,
        )


def ctma_s(
    bands: int = 3,
    video_len: int = 8,
    fusion: float = 0.5,
    pretrained: bool | str | Path = False,
    joint_statistics: bool = False,
) -> CTMA:
    """CTMA-S, the compact CTMA: the same structure with fewer channels and a trimmed ResNet.

    See ``CTMA`` for the arguments.
    """
    return CTMA(
        bands=bands,
        video_len=video_len,
        fusion=fusion,
        backbone="resnet18.tv_in1k",
        backbone_stages=2,
        pretrained=pretrained,
        temporal_width=16,
        spatial_widths=(16, 32, 64),
        joint_statistics=joint_statistics,
    )


class TemporalEncoder(nn.Module):
    """T-Block I and two T-Blocks II over the pseudo-video."""

    def __init__(self, bands: int, width: int):
        super().__init__()
        self.stem = Stem(bands, width)
        self.t_blocks = nn.ModuleList(
            [
                nn.Sequential(Bottleneck3d(width, width), Bottleneck3d(4 * width, width)),
                nn.Sequential(
                    Bottleneck3d(4 * width, 2 * width, stride=2), Bottleneck3d(8 * width, 2 * width)
                ),
            ]
        )

    def forward(self, before: Tensor, after: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Two (B, bands, H, W) to (B, 4w, N, H/4, W/4) and (B, 8w, N/2, H/8, W/8)."""
        first = self.t_blocks[0](self.stem(before, after, frames))
        return first, self.t_blocks[1](first)


class Bottleneck3d(nn.Module):
    """Residual bottleneck of 3-D convolutions, expansion 4; the stride is on the first one."""

    def __init__(self, in_channels: int, width: int, stride: int = 1):
        super().__init__()
        out_channels = 4 * width
        self.reduce = conv_bn(in_channels, width, kernel=1, dims=3, stride=stride)
        self.conv = conv_bn(width, width, kernel=3, dims=3)
        self.expand = conv_bn(width, out_channels, kernel=1, dims=3)
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else conv_bn(in_channels, out_channels, kernel=1, dims=3, stride=stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.reduce(x), inplace=True)
        out = F.relu(self.conv(out), inplace=True)
        return F.relu(self.expand(out) + self.shortcut(x), inplace=True)


class SBlock(nn.Module):
    """S-Block I or II: two or three convolutions, with a residual from the first one's output."""

    def __init__(self, channels: int, joined: int, out_channels: int, convs: int = 2):
        super().__init__()
        self.conv1 = JoinConv(channels, joined, out_channels)
        self.conv2 = conv_bn(out_channels, out_channels)
        self.conv3 = conv_bn(out_channels, out_channels) if convs == 3 else None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        x = F.relu(self.conv1(x, other), inplace=True)
        out = self.conv2(x)
        if self.conv3 is not None:
            out = self.conv3(F.relu(out, inplace=True))
        return F.relu(x + out, inplace=True)


class SpatialBranch(nn.Module):
    """Three levels of S-Blocks; levels 2 and 3 join the motion features."""

    def __init__(self, channels: int, widths: Sequence[int], motion_channels: tuple[int, int]):
        super().__init__()
        self.levels = nn.ModuleList(
            [
                SBlock(channels, 0, widths[0]),
                SBlock(widths[0], motion_channels[0], widths[1]),
                SBlock(widths[1], motion_channels[1], widths[2], convs=3),
            ]
        )

    def forward(self, pair: Tensor, motion: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Skip features: the image pair at H x W, then levels 1 to 3, at last H/8 x W/8."""
        level1 = F.max_pool2d(self.levels[0](pair), 2)
        level2 = F.max_pool2d(self.levels[1](level1, motion[0]), 2)
        level3 = F.max_pool2d(self.levels[2](level2, motion[1]), 2)
        return [pair, level1, level2, level3]


class Decoder(nn.Module):
    """Enlarges a bottom feature step by step, joins skip features, and gives H x W logits."""

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        skips = (*reversed(widths), channels)
        outs = (*(2 * width for width in reversed(widths)), widths[0])
        ins = (widths[-1], *outs[:-1])
        self.bottom = conv_bn(widths[-1], widths[-1])
        self.s_blocks = nn.ModuleList(
            SBlock(skip, below, out) for skip, below, out in zip(skips, ins, outs, strict=True)
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, bottom: Tensor, skips: list[Tensor]) -> Tensor:
        x = F.relu(self.bottom(bottom), inplace=True)
        for s_block, skip in zip(self.s_blocks, reversed(skips), strict=True):
            x = s_block(skip, x)
        return self.out(x)
