"""The base of all networks: their signature, their output type and their usage settings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ctma.errors import CheckpointError, SettingError
from ctma.models.usage import NO_NUMBERS, Usage
from ctma.types import MINIMUM_SIZE, name_bands


class ChangeLogits(NamedTuple):
    """What every network returns.

    Attributes:
        fine: Change logits, (B, 1, H, W).
        auxiliary: Further logits that only losses use, each (B, 1, h, w) at its own size.
    """

    fine: Tensor
    auxiliary: tuple[Tensor, ...] = ()

    @classmethod
    def from_classes(cls, logits: Tensor) -> ChangeLogits:
        """Takes logits of two classes, (B, 2, H, W): change logits minus no-change logits."""
        return cls(logits[:, 1:] - logits[:, :1])


@dataclass(frozen=True)
class Released:
    """The names that a network's released implementation uses.

    Attributes:
        names: Pairs (pattern, replacement) for ``re.sub``. Applied in order, they turn our weight
            names into the released ones.
        unsaid: Arguments that neither the released files nor the weight shapes tell. The value
            hints at likely settings.
        arguments: Arguments of the released implementation that differ from our defaults.
        twice: Two prefixes of released weight names. Released files hold the weights of the first
            prefix once more under the second prefix.
    """

    names: tuple[tuple[str, str], ...]
    unsaid: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    twice: tuple[str, str] | None = None

    def rename(self, name: str) -> str:
        """The released name of one of our weights."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name


class ChangeNetwork(nn.Module):
    """A network with the signature ``forward(before, after) -> ChangeLogits``.

    Inputs are (B, ``bands``, H, W) in [0, 1], with H and W of at least ``minimum_size``. A
    subclass calls ``super().__init__()`` and sets ``self.bands``.

    Attributes:
        bands: Input channels of one date.
        name: The network's name in ``create_model``, which sets the name. Empty for a network
            made in another way.
        arguments: The arguments of ``create_model``, without ``pretrained``.
        provenance: Further records of the checkpoint: data, recipe, scores and more.
        stride: Pixels between neighbours in the coarsest features. The network uses every pixel
            of images whose sides are multiples of the stride.
        minimum_size: The smallest height and width, in pixels, that the network takes.
        backbone_part: Prefix of the names of the weights that may start from ImageNet; empty if
            no weights may.
        released: The names of the released implementation; ``None`` if there is none.
    """

    bands: int
    name: str = ""
    stride: int = 8
    minimum_size: int = MINIMUM_SIZE
    backbone_part: str = ""
    released: ClassVar[Released | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage:
        """The network's usage settings: those of its checkpoint, else the defaults."""
        return self._usage or Usage(bands=name_bands(self.bands))

    @usage.setter
    def usage(self, usage: Usage) -> None:
        if len(usage.bands) != self.bands:
            raise SettingError(f"`bands` {usage.bands}: the network takes {self.bands}")
        self._usage = usage

    @contextmanager
    def used_as(self, usage: Usage) -> Iterator[None]:
        """Other usage settings for the ``with`` block."""
        former = self.usage
        self.usage = usage
        try:
            yield
        finally:
            self.usage = former

    @property
    def device(self) -> torch.device:
        """The device of the network's weights; the CPU if the network has no weights."""
        weight = next(self.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def fingerprint(self) -> str:
        """A hash of the weights and of all other numbers that affect the network's outputs.

        For a network from outside the package, the hash also covers the arguments.
        ctma recognises interrupted runs by this hash. So the hash of an existing network must not
        change.
        """
        digest = hashlib.sha256(type(self).__qualname__.encode())
        for name, module in self.named_modules():
            beside = vars(module)
            if isinstance(module, ChangeNetwork):
                if not type(module).__module__.startswith("ctma."):
                    digest.update(repr(sorted(module.arguments.items())).encode())
                usage = module.usage
                beside = beside | {"temperature": usage.temperature, "offset": usage.offset}
            numbers = sorted(
                (key, value) for key, value in beside.items() if isinstance(value, int | float)
            )
            digest.update(f"{name} {numbers}".encode())
        for name, weight in self.state_dict().items():
            digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def probability(self, logits: Tensor) -> Tensor:
        """Turns logits into calibrated probabilities in [0, 1], float32."""
        return self.calibrated(logits).sigmoid()

    def calibrated(self, logits: Tensor) -> Tensor:
        """The network's logits with its temperature and offset, float32."""
        return logits.float() / self.usage.temperature + self.usage.offset

    def check_inputs(self, before: Tensor, after: Tensor) -> None:
        """Refuses inputs of unequal shapes, too small a size or another number of bands.

        Raises:
            ValueError: If the network cannot use the shapes.
        """
        if before.shape != after.shape:
            raise ValueError(f"before is {tuple(before.shape)}, after is {tuple(after.shape)}")
        if before.ndim != 4 or before.shape[1] != self.bands:
            raise ValueError(f"expected (B, {self.bands}, H, W), got {tuple(before.shape)}")
        if min(before.shape[-2:]) < self.minimum_size:
            height, width = before.shape[-2:]
            raise ValueError(
                f"images of {height} x {width} are smaller than {self.minimum_size} pixels"
            )


class Fingerprint:
    """The fingerprint of a network, computed once, at the first call.

    Args:
        network: The network, which must not change.
    """

    def __init__(self, network: ChangeNetwork):
        self.network = network
        self._value: str | None = None

    def __call__(self) -> str:
        """The hash of ``ChangeNetwork.fingerprint``."""
        if self._value is None:
            self._value = self.network.fingerprint()
        return self._value


class View(ChangeNetwork):
    """A wrapper that runs a network in another way; the usage is that of the network.

    Args:
        network: The wrapped network.
    """

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network
        self.bands = network.bands
        self.training = network.training

    @property
    def usage(self) -> Usage:
        """The usage of the wrapped network."""
        return self.network.usage

    @usage.setter
    def usage(self, usage: Usage) -> None:
        self.network.usage = usage

    # Properties, not attributes: number attributes of a network are part of its fingerprint.
    @property
    def stride(self) -> int:  # type: ignore[override]
        """The stride of the wrapped network."""
        return self.network.stride

    @property
    def minimum_size(self) -> int:  # type: ignore[override]
        """The minimum size of the wrapped network."""
        return self.network.minimum_size


@contextmanager
def evaluating(model: ChangeNetwork) -> Iterator[None]:
    """Sets a network to evaluation mode, and restores the earlier modes at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_network(model: object) -> None:
    """Refuses any object that is not a network of ctma.

    Raises:
        SettingError: If the object is no network (such as the path of a checkpoint), or if the
            network's weights are not float32.
    """
    if not isinstance(model, ChangeNetwork):
        advice = f"; see ctma.load({str(model)!r})" if isinstance(model, str | Path) else ""
        raise SettingError(
            f"`model` is a {type(model).__name__}, expected a predictor as from ctma.load or a "
            f"network as from load_model{advice}"
        )
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise SettingError(
                f"`model` holds {name} in {weight.dtype}, expected float32: take model.float()"
            )


def check_logits(network: ChangeNetwork, logits: object, images: Tensor) -> None:
    """Refuses outputs that losses and masks cannot use.

    Args:
        network: The network that returned the outputs.
        logits: The outputs of the network.
        images: The images of one date that the network took.

    Raises:
        SettingError: If the outputs are not logits of one channel at the size of the images.
    """
    expected = (len(images), 1, *images.shape[-2:])
    if not isinstance(logits, ChangeLogits):
        description = f"a {type(logits).__name__}"
    elif logits.fine.shape != expected:
        description = f"fine logits of {tuple(logits.fine.shape)}"
    else:
        return
    while isinstance(network, View):
        network = network.network
    kind = type(network).__name__
    raise SettingError(f"{kind}: gave {description}, expected ChangeLogits of {expected}")


def check_numbers(values: Tensor) -> Tensor:
    """Returns a network's outputs if all values are finite.

    Raises:
        CheckpointError: If some values are NaN or infinite.
    """
    if not bool(values.isfinite().all()):
        raise CheckpointError(NO_NUMBERS)
    return values
