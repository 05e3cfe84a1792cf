"""BIT: a few tokens of both dates attend to each other, and every pixel attends to them.

H. Chen, Z. Qi, Z. Shi, "Remote Sensing Image Change Detection with Transformers", IEEE
Transactions on Geoscience and Remote Sensing 60, 2022. A ResNet-18 of three stages gives L tokens
of 32 channels for each date.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import ResNetFeatures
from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import conv_bn

CHANNELS, HEADS, MLP = 32, 8, 64


class BIT(ChangeNetwork):
    """BIT of Chen et al.

    Args:
        bands: Input channels of one date.
        backbone: A timm ResNet.
        pretrained: ImageNet weights for the backbone: ``True``, or a file.
        tokens: Number of tokens L of one date.
        decoder_depth: Layers of the decoder.
        dropout: Share of the transformer's values to drop in training.
    """

    backbone_part = "backbone."
    released = Released((
        (r"^positions$", "enc_pos_embedding"),
        (r"^project\.", "backbone.conv_out.seq.1."),
        (r"^tokenizer\.", "conv_att.seq.0."),
        (r"^(encoder|decoder)\.", r"\1.layers."),
        (r"\.attention\.norm\.", ".0.fn.norm."),
        (r"\.attention\.out\.", ".0.fn.fn.fc_out.0."),
        (r"\.attention\.(query|key|value)\.", r".0.fn.fn.fc_\1."),
        (r"\.fc_q\w+\.", ".fc_q."),
        (r"\.fc_k\w+\.", ".fc_k."),
        (r"\.fc_v\w+\.", ".fc_v."),
        (r"\.mlp\.0\.", ".1.fn.norm."),
        (r"\.mlp\.1\.", ".1.fn.fn.0."),
        (r"\.mlp\.4\.", ".1.fn.fn.3."),
        (r"^classifier\.0\.0\.", "classifier.0.seq.1."),
        (r"^classifier\.0\.1\.", "classifier.0.seq.2."),
        (r"^classifier\.2\.", "classifier.1.seq.1."),
    ))  # fmt: skip

    def __init__(
        self,
        bands: int = 3,
        backbone: str = "resnet18.tv_in1k",
        pretrained: bool | str | Path = False,
        tokens: int = 4,
        decoder_depth: int = 8,
        dropout: float = 0.0,
    ):
        super().__init__()
        if min(bands, tokens, decoder_depth) < 1:
            raise ValueError(
                f"bands is {bands}, tokens {tokens}, decoder_depth {decoder_depth}: at least 1"
            )
        self.bands = bands
        self.backbone = ResNetFeatures(backbone, bands, 3, pretrained)
        self.project = nn.Conv2d(self.backbone.channels, CHANNELS, 3, padding=1)
        self.tokenizer = nn.Conv2d(CHANNELS, tokens, 1, bias=False)
        self.positions = nn.Parameter(torch.randn(1, 2 * tokens, CHANNELS))
        self.encoder = nn.ModuleList([Layer(64, dropout)])
        self.decoder = nn.ModuleList(Layer(8, dropout) for _ in range(decoder_depth))
        self.classifier = nn.Sequential(
            conv_bn(CHANNELS, CHANNELS), nn.ReLU(), nn.Conv2d(CHANNELS, 2, 3, padding=1)
        )

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        dates = [self._features(before), self._features(after)]
        tokens = torch.cat([self._tokens(features) for features in dates], dim=1) + self.positions
        for layer in self.encoder:
            tokens = layer(tokens)
        seen = [
            self._listen(features, date_tokens)
            for features, date_tokens in zip(dates, tokens.chunk(2, dim=1), strict=True)
        ]
        apart = F.interpolate(
            (seen[0] - seen[1]).abs(), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        return ChangeLogits.from_classes(
            self.classifier(apart)[..., : before.shape[-2], : before.shape[-1]]
        )

    def _features(self, image: Tensor) -> Tensor:
        """(B, bands, H, W) to (B, 32, 2 ceil(H/8), 2 ceil(W/8))."""
        return self.project(F.interpolate(self.backbone(image), scale_factor=2.0, mode="nearest"))

    def _tokens(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, L, C): each token is a weighted mean with its own weights."""
        weights = self.tokenizer(features).flatten(2).softmax(dim=-1)
        return weights @ features.flatten(2).transpose(1, 2)

    def _listen(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Features after attention to the tokens of their date."""
        pixels = features.flatten(2).transpose(1, 2)
        for layer in self.decoder:
            pixels = layer(pixels, tokens)
        return pixels.transpose(1, 2).unflatten(2, features.shape[-2:])


class Layer(nn.Module):
    """Attention, then two linear layers; each part has a norm before and a residual around it."""

    def __init__(self, head_channels: int, dropout: float):
        super().__init__()
        self.attention = Attention(head_channels, dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(CHANNELS),
            nn.Linear(CHANNELS, MLP),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(MLP, CHANNELS),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Self-attention of (B, n, C), or attention of (B, n, C) to (B, m, C)."""
        x = x + self.attention(x, x if memory is None else memory)
        return x + self.mlp(x)


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values share one layer norm."""

    def __init__(self, head_channels: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.query, self.key, self.value = (
            nn.Linear(CHANNELS, HEADS * head_channels, bias=False) for _ in range(3)
        )
        self.out = nn.Linear(HEADS * head_channels, CHANNELS)
        self.dropout = dropout

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x, memory = self.norm(x), self.norm(memory)
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(memory), self.value(memory))
        )
        # As published, the scale uses the channels of a token, not of a head.
        context = F.scaled_dot_product_attention(query, key, value, scale=CHANNELS**-0.5)
        return F.dropout(self.out(context.transpose(1, 2).flatten(2)), self.dropout, self.training)
