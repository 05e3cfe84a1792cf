"""3 x 3 convolutions with a quarter of the multiplications.

The algorithm is F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016. Each output tile of 4 x 4 values depends on 6 x 6 input values. After a
transform of the tiles, the convolution is a matrix product over the channels for each of the 36
values. So 16 output values need 36 multiplications instead of 144.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE, REACH = 4, 6
"""Side of an output tile, and side of the input that the tile depends on, in pixels."""

LEAST_CHANNELS = 256
"""Least channels in and out. With fewer channels, the transforms cost more than they save."""

# Transform matrices for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
_KERNEL = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def is_wide(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution that ``Winograd`` computes faster."""
    return (
        type(conv) is nn.Conv2d
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and (conv.padding, conv.padding_mode, conv.groups) == ((1, 1), "zeros", 1)
    )


class Winograd(nn.Conv2d):
    """Equal to a convolution to rounding; keeps its weights for networks that read the weights.

    Args:
        conv: A convolution for which ``is_wide`` is true.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        rows = torch.tensor(_KERNEL, dtype=torch.float64)
        kernel = torch.einsum("ia,ocab,jb->ijco", rows, conv.weight.double(), rows)
        self.kernel = _constant(kernel.flatten(0, 1))
        self.into, self.out = (
            _constant(torch.kron(matrix, matrix))
            for matrix in (torch.tensor(rows, dtype=torch.float64) for rows in (_INPUT, _OUTPUT))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same height and width."""
        height, width = x.shape[-2:]
        down, across = ((length + TILE - 1) // TILE for length in (height, width))
        tiles = _tiles(x, down, across)
        products = (self.into @ tiles.reshape(REACH**2, -1)).reshape(
            REACH**2, -1, x.shape[1]
        ) @ self.kernel
        outs = (self.out @ products.reshape(REACH**2, -1)).reshape(
            TILE, TILE, x.shape[0], down, across, -1
        )
        # Channels stay last until the end, as in the input: otherwise torch moves single values.
        whole = outs.permute(2, 3, 0, 4, 1, 5).reshape(x.shape[0], down * TILE, across * TILE, -1)[
            :, :height, :width
        ]
        if self.bias is not None:
            whole = whole + self.bias
        return whole.permute(0, 3, 1, 2)


def _tiles(x: Tensor, down: int, across: int) -> Tensor:
    """The input values of each tile of (B, C, H, W), (REACH, REACH, B, down, across, C)."""
    batch, channels = x.shape[:2]
    filled = F.pad(x, (1, 2 * TILE - 1, 1, 2 * TILE - 1)).permute(0, 2, 3, 1)
    blocks = (
        filled[:, : TILE * (down + 1), : TILE * (across + 1)]
        .reshape(batch, down + 1, TILE, across + 1, TILE, channels)
        .permute(2, 4, 0, 1, 3, 5)
    )
    # A tile depends on its own block, and on the first values of the next block.
    more = REACH - TILE
    blocks = torch.cat([blocks[:, :, :, :-1], blocks[:more, :, :, 1:]], dim=0)
    return torch.cat([blocks[:, :, :, :, :-1], blocks[:, :more, :, :, 1:]], dim=1)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().float().contiguous(), requires_grad=False)
