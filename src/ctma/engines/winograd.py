"""Convolutions of 3 x 3 with a quarter of the multiplications.

"Fast Algorithms for Convolutional Neural Networks", Lavin and Gray, CVPR 2016, F(4 x 4, 3 x 3):
tiles of 4 x 4 values are made from 6 x 6 values in. Transformed, value for value, they are
products of matrices over the channels, 36 for 16 values in place of 144.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE, REACH = 4, 6
"""Values out of a tile, and values in that they depend on, in each direction."""

LEAST_CHANNELS = 256
"""In and out. With fewer, the transforms take longer than what they save."""

# Of the points 0, 1, -1, 2, -2 and infinity.
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
    """Whether a layer is a convolution that ``Winograd`` does, and is worth it."""
    return (
        type(conv) is nn.Conv2d
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and (conv.padding, conv.padding_mode, conv.groups) == ((1, 1), "zeros", 1)
    )


class Winograd(nn.Conv2d):
    """The same as a convolution, to rounding; its weights stay for networks that read them.

    Args:
        conv: One that ``is_wide``.
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
        found = (self.out @ products.reshape(REACH**2, -1)).reshape(
            TILE, TILE, x.shape[0], down, across, -1
        )
        # Channels last until the end, as what comes in: else each value is moved on its own.
        whole = found.permute(2, 3, 0, 4, 1, 5).reshape(x.shape[0], down * TILE, across * TILE, -1)[
            :, :height, :width
        ]
        if self.bias is not None:
            whole = whole + self.bias
        return whole.permute(0, 3, 1, 2)


def _tiles(x: Tensor, down: int, across: int) -> Tensor:
    """Of (B, C, H, W) what each tile depends on, (REACH, REACH, B, down, across, C)."""
    batch, channels = x.shape[:2]
    filled = F.pad(x, (1, 2 * TILE - 1, 1, 2 * TILE - 1)).permute(0, 2, 3, 1)
    blocks = (
        filled[:, : TILE * (down + 1), : TILE * (across + 1)]
        .reshape(batch, down + 1, TILE, across + 1, TILE, channels)
        .permute(2, 4, 0, 1, 3, 5)
    )
    # A tile depends on its own block, and on the first values of the next.
    more = REACH - TILE
    blocks = torch.cat([blocks[:, :, :, :-1], blocks[:more, :, :, 1:]], dim=0)
    return torch.cat([blocks[:, :, :, :, :-1], blocks[:, :more, :, :, 1:]], dim=1)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().float().contiguous(), requires_grad=False)
