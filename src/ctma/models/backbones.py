"""Image backbones from timm, with their ImageNet weights."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
from torch import Tensor, nn

from ctma.errors import SettingError, UnknownNameError, first_line


class ResNetFeatures(nn.Module):
    """A timm ResNet without its head, at an eighth of the input size.

    Strides are conv1 2, max-pool 2, layer1 1, layer2 2, layer3 1, layer4 1, and no
    convolution is dilated.

    Args:
        name: Name of a timm ResNet, such as ``"resnet34"``, or with the tag of its weights,
            such as ``"resnet34.tv_in1k"``.
        bands: Input channels.
        stages: How many of the four residual stages to keep.
        pretrained: ``True`` downloads ImageNet weights through timm, a path reads them
            from a file, ``False`` starts from random weights.

    Raises:
        UnknownNameError: If timm has no such ResNet.
        SettingError: If the ImageNet weights cannot be had.
    """

    def __init__(self, name: str, bands: int, stages: int, pretrained: bool | str | Path):
        super().__init__()
        resnet = _create_resnet(name, bands, pretrained)
        self.channels: int = resnet.feature_info[stages]["num_chs"]
        for stage in range(stages + 1, 5):
            setattr(resnet, f"layer{stage}", nn.Identity())
        for module in resnet.modules():
            if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
                module.dilation = (1, 1)
                module.padding = tuple(size // 2 for size in module.kernel_size)
        self.resnet: Any = resnet

    def forward(self, image: Tensor) -> Tensor:
        """(B, bands, H, W) to (B, channels, ceil(H/8), ceil(W/8))."""
        return self.resnet.forward_features(image)


def _create_resnet(name: str, bands: int, pretrained: bool | str | Path) -> Any:
    known = timm.list_models(module="resnet")
    if name.partition(".")[0] not in known:
        raise UnknownNameError("timm ResNet", name, known)
    # timm trades strides for dilation at output_stride 8; the caller takes the dilation out.
    options: dict[str, Any] = {
        "in_chans": bands,
        "num_classes": 0,
        "global_pool": "",
        "output_stride": 8,
    }
    if not isinstance(pretrained, bool):
        resnet = timm.create_model(name, **options)
        _load_file(resnet, Path(pretrained))
        return resnet
    try:
        if pretrained:
            _require_hub(name)
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise SettingError(
            f"no ImageNet weights for {name} ({first_line(error)}): name a file as `pretrained`, "
            "or false to start without them"
        ) from error


def _require_hub(name: str) -> None:
    """Fails in seconds where the hub is out of reach; its own client tries for most of a minute.

    Raises:
        OSError: If it cannot be reached, and the weights are not in its cache.
    """
    known = timm.get_pretrained_cfg(name)
    if known is None or known.hf_hub_id is None or getproxies():
        return
    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(huggingface_hub.try_to_load_from_cache(known.hf_hub_id, file), str):
            return
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()


def _load_file(resnet: Any, path: Path) -> None:
    """Loads a state dict of the whole ResNet; its head is left out, all else must fit."""
    if not path.is_file():
        raise SettingError(f"`pretrained`: no such file: {path}")
    try:
        weights = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:
        # Damage comes as pickle, zip, key, value and runtime errors alike.
        raise SettingError(f"`pretrained` {path}: no weights ({first_line(error)})") from error
    body = {name: weight for name, weight in weights.items() if not name.startswith("fc.")}
    first = resnet.pretrained_cfg["first_conv"] + ".weight"
    if first in body:
        bands = resnet.get_submodule(first.removesuffix(".weight")).in_channels
        body[first] = timm.models.adapt_input_conv(bands, body[first])
    try:
        resnet.load_state_dict(body)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingError(f"`pretrained` {path}: does not fit ({reason})") from error
