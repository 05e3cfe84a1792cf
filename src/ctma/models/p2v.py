"""P2V-CD: change detection from pair to video, without the coarse mask of CTMA.

M. Lin, G. Yang, H. Zhang, "Transition is a Process: Pair-to-Video Change Detection Networks for
Very High Resolution Remote Sensing Images", IEEE Transactions on Image Processing 32, 2023. The
layers come from ``ctma.models.ctma``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.ctma import RELEASED_NAMES, Decoder, SpatialBranch, TemporalEncoder
from ctma.models.video import TemporalAggregation

TEMPORAL_WIDTH, SPATIAL_WIDTHS = 64, (32, 64, 128)


class P2V(ChangeNetwork):
    """P2V-CD of Lin et al.

    Args:
        bands: Input channels of one date.
        video_len: Frames N of the pseudo-video, at least 2.
    """

    released = Released((
        (r"^branch\.levels\.0\.", "encoder_p.conv1."),
        (r"^branch\.levels\.1\.", "encoder_p.conv2."),
        (r"^branch\.levels\.2\.", "encoder_p.conv3."),
        *RELEASED_NAMES,
    ))  # fmt: skip

    def __init__(self, bands: int = 3, video_len: int = 8):
        super().__init__()
        if video_len < 2 or bands < 1:
            raise ValueError(f"video_len is {video_len}, bands {bands}: at least 2, and at least 1")
        self.bands = bands
        self.video_len = video_len
        motion_channels = (4 * TEMPORAL_WIDTH, 8 * TEMPORAL_WIDTH)
        self.temporal_encoder = TemporalEncoder(bands, TEMPORAL_WIDTH)
        self.branch = SpatialBranch(2 * bands, SPATIAL_WIDTHS, motion_channels)
        self.coarse_head = nn.Conv2d(motion_channels[1], 1, 1)
        self.tams = nn.ModuleList(TemporalAggregation(channels) for channels in motion_channels)
        self.decoder = Decoder(2 * bands, SPATIAL_WIDTHS)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs, with the coarse logits as auxiliary output.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        pair = torch.cat([before, after], dim=1).to(memory_format=torch.channels_last)
        videos = self.temporal_encoder(before, after, self.video_len)
        motion = (self.tams[0](videos[0]), self.tams[1](videos[1]))
        skips = self.branch(pair, motion)
        return ChangeLogits(self.decoder(skips[-1], skips), (self.coarse_head(motion[1]),))
