"""What every network is: one signature, one output type, and what it knows of its use."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ctma.errors import SettingError
from ctma.settings import check_distance, check_threshold, settle
from ctma.types import IMAGE_BANDS, MINIMUM_SIZE, name_bands


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
class Usage:
    """How a network is to be used: what its checkpoint knows beside the weights.

    Attributes:
        threshold: Change is where the probability exceeds it, in [0, 1].
        temperature: What logits are divided by before they become probabilities, above 0.
        offset: What is added to them then.
        scaling: The stored value that stands for 1.0 at the network's input, above 0.
        bands: Names of the input bands of one date, in order.
        ground_sample_distance: Metres a pixel of the training data, above 0, ``None`` if not known.

    Raises:
        SettingError: If a value is out of its range.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    offset: float = 0.0
    scaling: float = 255.0
    bands: tuple[str, ...] = IMAGE_BANDS
    ground_sample_distance: float | None = None

    def __post_init__(self) -> None:
        settle(self)
        check_threshold(self.threshold)
        check_distance(self.ground_sample_distance)
        for name in ("temperature", "scaling"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"`{name}` {getattr(self, name)}: above 0 and finite")
        if not math.isfinite(self.offset):
            raise SettingError(f"`offset` {self.offset}: must be finite")


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
        released_names: Pairs (pattern, replacement) for ``re.sub``, applied in turn, that
            make the released implementation's weight names out of ours; empty where
            there is none.
        released_unsaid: Arguments that its released files do not say and weights do not show,
            with a hint of what they may be.
        released_arguments: Arguments that its released implementation has, where they are not
            ours by default.
        released_twice: How names begin in its released files of weights that these hold once
            more under another beginning.
    """

    bands: int
    name: str = ""
    stride: int = 8
    minimum_size: int = MINIMUM_SIZE
    backbone_part: str = ""
    released_names: tuple[tuple[str, str], ...] = ()
    released_unsaid: ClassVar[dict[str, str]] = {}
    released_arguments: ClassVar[dict[str, Any]] = {}
    released_twice: tuple[str, str] | None = None

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


def check_network(model: object) -> None:
    """Refuses what is no network of ctma.

    Raises:
        SettingError: If it is something else, such as a checkpoint's path, or its weights are
            not in float32.
    """
    if not isinstance(model, ChangeNetwork):
        advice = f"; see ctma.load_model({str(model)!r})" if isinstance(model, str | Path) else ""
        raise SettingError(
            f"`model` is a {type(model).__name__}, expected a network as from load_model{advice}"
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
    while isinstance(inner := getattr(network, "network", None), ChangeNetwork):
        network = inner  # behind views and engines
    kind = type(network).__name__
    raise SettingError(f"{kind}: gave {found}, expected ChangeLogits of {expected}")
