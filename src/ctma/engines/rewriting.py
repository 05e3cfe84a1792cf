"""Rewrites a network for inference: equal outputs to rounding, with fewer multiplications.

First, ``fold_norms`` folds batch norms into convolutions. Then each layer may return its own
form for inference (``ctma.models.layers.Rewriting``). Layers from outside ctma may do so too.
Wide 3 x 3 convolutions become products of transformed tiles (``.winograd``).
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ctma.engines.winograd import Winograd, is_wide
from ctma.models.backbones import Pyramid
from ctma.models.layers import Module, Rewriting, channels_last

_CONVS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def rewrite(network: Module, rewriting: Rewriting | None = None) -> Module:
    """A copy for inference with equal outputs to rounding and fewer multiplications.

    Args:
        network: The network, in evaluation mode.
        rewriting: The parts to rewrite; the defaults of ``Rewriting`` if ``None``.
    """
    rewriting = rewriting or Rewriting()
    copy = fold_norms(network)
    forms = {module: _find_form(module, rewriting) for module in copy.modules()}
    for module, form in forms.items():
        for name, child in [*module.named_children()]:
            if forms[child] is not child:
                setattr(module, name, forms[child])
            elif rewriting.tiles and form is module and is_wide(child):
                setattr(module, name, Winograd(child))
    return channels_last(copy)


def _find_form(module: nn.Module, rewriting: Rewriting) -> nn.Module:
    """The module that replaces a layer, or the layer itself."""
    offered: Any = getattr(module, "for_inference", None)
    return module if offered is None else offered(rewriting)


def fold_norms(network: Module) -> Module:
    """A copy for inference whose batch norms are folded into the convolutions before them.

    Args:
        network: The network, in evaluation mode.
    """
    copy = deepcopy(network)
    for module in list(copy.modules()):
        # In timm's networks, convolution and norm form no sequence, but have matching names.
        children: dict[str, Any] = dict(module.named_children())
        in_turn = pairwise(children) if isinstance(module, nn.Sequential) else []
        timms = type(module).__module__.startswith("timm.")
        named = ((name, name.replace("conv", "bn")) for name in children if timms)
        for conv, norm in (*in_turn, *named):
            if _is_norm_of(children.get(norm), children[conv]):
                setattr(module, conv, fuse_conv_bn_eval(children[conv], children[norm]))
                setattr(module, norm, nn.Identity())
    for module in [*copy.modules()]:
        if isinstance(module, Pyramid):
            module.settle_padding()
    return channels_last(copy)


def _is_norm_of(norm: nn.Module | None, conv: nn.Module) -> bool:
    known = getattr(norm, "running_mean", None) is not None
    return known and type(norm) in _NORMS and isinstance(conv, _CONVS)
