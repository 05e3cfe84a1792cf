"""Difference features: the difference between a shared backbone's features of two dates."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import Backbone
from ctma.models.layers import Rewriting, TrainingForm, halves

STRIDE = 8


class DifferencePath(TrainingForm, nn.Module):
    """Difference features F of CTMA.

    The path enlarges the backbone's features by 2 and convolves them. The next layer then reduces
    them by 2, so it uses one of four positions. If the sides are multiples of 8, the forms for
    training and for inference compute only this position, from the difference of both dates.

    Args:
        backbone: Backbone that computes features of one date at stride 8.
        out_channels: Channels out.
        joint_statistics: Whether batch statistics in training cover both dates together.
    """

    def __init__(self, backbone: Backbone, out_channels: int, joint_statistics: bool):
        super().__init__()
        self.backbone = backbone
        self.project = nn.Conv2d(backbone.channels, out_channels, 3, padding=1)
        self.joint_statistics = joint_statistics

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two (B, bands, H, W) to (B, C, 2 ceil(H/8), 2 ceil(W/8)), or to (B, C, H/8, W/8)."""
        if self.learns_on_cpu(before) and fits(before):
            # The bias cancels in the difference, but the optimizer needs its gradient, which is 0.
            assert self.project.bias is not None
            no_bias = 0 * self.project.bias
            kernel = kept_places(self.project.weight)
            return F.conv2d(self.apart(before, after), kernel, no_bias).abs()
        first, second = self.of_both(self._features, before, after)
        return (first - second).abs()

    def for_inference(self, _: Rewriting) -> nn.Module:
        """The form that computes one of four positions."""
        return SparseDifferencePath(self)

    def apart(self, before: Tensor, after: Tensor) -> Tensor:
        """The difference of both dates' features, zero-padded by 1 above and on the left."""
        first, second = self.of_both(self.backbone, before, after)
        return F.pad(first - second, (1, 0, 1, 0))

    def of_both(self, see: Callable[[Tensor], Tensor], *dates: Tensor) -> tuple[Tensor, Tensor]:
        """Applies ``see`` to both dates, in training one by one unless statistics are joint."""
        if self.training and not self.joint_statistics:
            return see(dates[0]), see(dates[1])
        return halves(see(torch.cat(dates)))

    def _features(self, image: Tensor) -> Tensor:
        features = F.interpolate(self.backbone(image), scale_factor=2, mode="nearest")
        return self.project(features)


class SparseDifferencePath(nn.Module):
    """Difference features at the used positions; other sizes take the original path."""

    def __init__(self, path: DifferencePath):
        super().__init__()
        self.path = path
        kernel = kept_places(path.project.weight)
        self.conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 2, bias=False)
        self.conv.weight = nn.Parameter(kernel)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two (B, bands, H, W) to (B, C, H/8, W/8)."""
        if not fits(before):
            return self.path(before, after)
        return self.conv(self.path.apart(before, after)).abs()


def fits(image: Tensor) -> bool:
    """Whether the sides are multiples of the features' stride."""
    return image.shape[-2] % STRIDE == 0 and image.shape[-1] % STRIDE == 0


def kept_places(kernel: Tensor) -> Tensor:
    """Turns a kernel (out, in, 3, 3) over a map enlarged by 2 into one over the map itself.

    The result is for the even positions of the enlarged map. There, the first of the kernel's
    three rows meets one value of the map, and the other two rows meet the next value.

    Returns:
        The kernel (out, in, 2, 2), for a map padded by one row above and one column on the left.
    """
    rows = torch.stack([kernel[:, :, 0], kernel[:, :, 1] + kernel[:, :, 2]], dim=2)
    return torch.stack([rows[..., 0], rows[..., 1] + rows[..., 2]], dim=3)
