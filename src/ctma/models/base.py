"""What every network is: one signature, one output type, and what it knows of its use."""

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
from ctma.models.usage import Usage
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
        """Of two classes, (B, 2, H, W): those of change less those of stillness."""
        return cls(logits[:, 1:] - logits[:, :1])


@dataclass(frozen=True)
class Released:
    """What a network was called in its released implementation.

    Attributes:
        names: Pairs (pattern, replacement) for ``re.sub``, applied in turn, that make the released
            weight names out of ours.
        unsaid: Arguments that released files do not say and weights do not show, with a hint of
            what they may be.
        arguments: Arguments that the released implementation has, where they are not ours by
            default.
        twice: How names begin in released files of weights that these hold once more under
            another beginning.
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
        name: For ``create_model``, which sets it; empty for a network made otherwise.
        arguments: Those that ``create_model`` was given, but for initial weights.
        provenance: What else its checkpoint says: data, recipe, scores and more.
        stride: Pixels of its coarsest features; sizes that are its multiples lose nothing.
        minimum_size: The smallest height and width, in pixels, that it takes.
        backbone_part: How the names of the weights begin that may start from ImageNet; empty
            where none may.
        released: What it was called elsewhere; ``None`` where there is no released implementation.
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
        """How it is to be used; what a checkpoint knows, else the defaults."""
        return self._usage or Usage(bands=name_bands(self.bands))

    @usage.setter
    def usage(self, usage: Usage) -> None:
        if len(usage.bands) != self.bands:
            raise SettingError(f"`bands` {usage.bands}: the network takes {self.bands}")
        self._usage = usage

    @property
    def device(self) -> torch.device:
        """Where its weights are; the CPU where it has none."""
        weight = next(self.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def fingerprint(self) -> str:
        """A hash of all that its outputs depend on: weights, and the numbers beside them.

        Of a network from outside the package also the arguments that it was made with.
        Interrupted runs are known by it, so what a network already says must not change.
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
        """Calibrated probabilities in [0, 1] of logits, float32."""
        return (logits.float() / self.usage.temperature + self.usage.offset).sigmoid()

    def check_inputs(self, before: Tensor, after: Tensor) -> None:
        """Refuses inputs that are unequal, too small or of other bands.

        Raises:
            ValueError: If the shapes cannot be used.
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
    """The fingerprint of a network, taken once, when it is first asked for.

    Args:
        network: Must not change.
    """

    def __init__(self, network: ChangeNetwork):
        self.network = network
        self._value: str | None = None

    def __call__(self) -> str:
        """A hash of all that outputs depend on."""
        if self._value is None:
            self._value = self.network.fingerprint()
        return self._value


class View(ChangeNetwork):
    """A network behind another way of looking; how it is to be used stays its own.

    Args:
        network: The network that looks.
    """

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network
        self.bands = network.bands
        self.training = network.training

    @property
    def usage(self) -> Usage:
        """That of the network."""
        return self.network.usage

    @usage.setter
    def usage(self, usage: Usage) -> None:
        self.network.usage = usage

    # Properties: numbers set on a network are part of its fingerprint.
    @property
    def stride(self) -> int:  # type: ignore[override]
        """That of the network."""
        return self.network.stride

    @property
    def minimum_size(self) -> int:  # type: ignore[override]
        """That of the network."""
        return self.network.minimum_size


@contextmanager
def evaluating(model: ChangeNetwork) -> Iterator[None]:
    """Lets a network look in evaluation mode, and leaves it in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_network(model: object) -> None:
    """Refuses what is no network of ctma.

    Raises:
        SettingError: If it is something else, such as a checkpoint's path, or its weights are
            not in float32.
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
    """Refuses outputs of another form than losses and masks take.

    Args:
        network: Which gave them.
        logits: What it gave.
        images: One date of what it was given.

    Raises:
        SettingError: If they are no logits of one channel, as large as the images.
    """
    expected = (len(images), 1, *images.shape[-2:])
    if not isinstance(logits, ChangeLogits):
        found = f"a {type(logits).__name__}"
    elif logits.fine.shape != expected:
        found = f"fine logits of {tuple(logits.fine.shape)}"
    else:
        return
    while isinstance(network, View):
        network = network.network
    kind = type(network).__name__
    raise SettingError(f"{kind}: gave {found}, expected ChangeLogits of {expected}")


def check_numbers(values: Tensor) -> Tensor:
    """What a network gave, if all values are numbers.

    Raises:
        CheckpointError: If some are not.
    """
    if not bool(values.isfinite().all()):
        raise CheckpointError(
            "the network gives values that are no numbers: its weights are damaged, or diverged"
        )
    return values
