"""Networks by name; ctma imports a network's module at its first use."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from ctma.errors import SettingError, UnknownNameError
from ctma.plugins import NETWORKS, find_extensions

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork


@dataclass(frozen=True)
class Entry:
    """A network of this package.

    Attributes:
        where: Module and name of the class or function that builds the network.
        paper: arXiv number or DOI of the paper.
        released_weight: Name of a weight that identifies files of the released implementation:
            files of the networks before this entry lack the weight. ``None`` if there is no
            released implementation.
        released_inputs: Input channels of this weight, if several networks share its name.
    """

    where: str
    paper: str
    released_weight: str | None = None
    released_inputs: int | None = None


ENTRIES = {
    "ctma": Entry(
        "ctma.models.ctma:CTMA", "arXiv 2408.08078", "encoder_p1.backbone.resnet.conv1.weight"
    ),
    "ctma-s": Entry("ctma.models.ctma:ctma_s", "arXiv 2408.08078"),
    "ctma-lite": Entry("ctma.models.ctma_lite:CTMALite", "arXiv 2408.08078"),
    "fc-siam-conc": Entry(
        "ctma.models.fc:fc_siam_conc", "arXiv 1810.08462", "conv43d.seq.1.weight", 384
    ),
    "fc-siam-diff": Entry(
        "ctma.models.fc:fc_siam_diff", "arXiv 1810.08462", "conv11.seq.1.weight", 3
    ),
    "fc-ef": Entry("ctma.models.fc:fc_ef", "arXiv 1810.08462", "conv11.seq.1.weight", 6),
    "snunet": Entry(
        "ctma.models.snunet:SNUNet", "doi 10.1109/LGRS.2021.3056416", "conv0_4.conv1.weight"
    ),
    "lunet": Entry(
        "ctma.models.lunet:LUNet",
        "doi 10.1109/TGRS.2021.3055584",
        "block1.rnn_cell.in_gate.seq.1.weight",
    ),
    "bit": Entry("ctma.models.bit:BIT", "arXiv 2103.00208", "enc_pos_embedding"),
    "p2v": Entry(
        "ctma.models.p2v:P2V", "doi 10.1109/TIP.2022.3226418", "encoder_p.conv1.conv1.seq.1.weight"
    ),
    "dsamnet": Entry(
        "ctma.models.dsamnet:DSAMNet", "doi 10.1109/TGRS.2021.3085870", "dsl2.0.weight"
    ),
    "dsifn": Entry(
        "ctma.models.dsifn:DSIFN", "doi 10.1016/j.isprsjprs.2020.06.003", "o1_conv1.0.weight"
    ),
    "stanet": Entry(
        "ctma.models.stanet:STANet", "doi 10.3390/rs12101662", "attend.att.conv_out.seq.0.weight"
    ),
    "unet": Entry("ctma.models.unet:UNet", "arXiv 2402.06994", "segmentation_head.0.weight"),
    "cdnet": Entry(
        "ctma.models.cdnet:CDNet", "doi 10.1007/s10514-018-9734-5", "conv8.seq.1.weight"
    ),
}


def list_models() -> list[str]:
    """Names that ``create_model`` takes."""
    return sorted({*ENTRIES, *find_extensions(NETWORKS)})


def create_model(name: str, **args: Any) -> ChangeNetwork:
    """Builds a network with random weights, in training mode.

    Args:
        name: One of ``list_models``.
        **args: Arguments of the network, such as ``video_len=8, fusion=0.67``.

    Raises:
        UnknownNameError: If there is no such network, or the network has no such argument.
        SettingError: If the value of an argument is not allowed, or an argument of the network
            has no default.
    """
    from ctma.models.base import ChangeNetwork

    defaults = model_arguments(name)
    for key in args:
        if key not in defaults:
            raise UnknownNameError(f"argument of {name}", key, defaults)
    try:
        network = _find(name)(**args)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, UnknownNameError | SettingError):
            raise
        raise SettingError(f"cannot build {name} with {args}: {error}") from error
    if not isinstance(network, ChangeNetwork):
        raise SettingError(f"{name}: makes a {type(network).__name__}, no ctma.ChangeNetwork")
    if not hasattr(network, "bands"):
        raise SettingError(f"{name}: sets no `self.bands`, the input channels of one date")
    network.name = name
    network.arguments = {key: value for key, value in args.items() if key != "pretrained"}
    return network


def model_arguments(name: str) -> dict[str, Any]:
    """Arguments of a network with their defaults; errors as in ``create_model``."""
    defaults = {}
    for key, parameter in inspect.signature(_find(name)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise SettingError(f"{name}: its argument {key} has no default; write one there")
        defaults[key] = parameter.default
    return defaults


def whole_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a network, those given and the defaults, as files hold them: as JSON."""
    whole: dict[str, Any] = json.loads(json.dumps({**model_arguments(name), **given}, default=repr))
    return whole


def model_hints(name: str) -> dict[str, Any]:
    """Types of a network's arguments; errors as in ``create_model``."""
    network = _find(name)
    return get_type_hints(network.__init__ if inspect.isclass(network) else network)


def released_arguments(name: str) -> dict[str, Any]:
    """Arguments of a network's released implementation that differ from our defaults."""
    released = getattr(_find(name), "released", None)
    return {} if released is None else dict(released.arguments)


def released_network(weights: Mapping[str, Tensor]) -> str | None:
    """The network whose released implementation uses these weight names, or ``None``."""
    for name, entry in ENTRIES.items():
        if entry.released_weight is not None and entry.released_weight in weights:
            inputs = weights[entry.released_weight].shape[1]
            if entry.released_inputs in (None, inputs):
                return name
    return None


def _find(name: str) -> Callable[..., Any]:
    if not isinstance(name, str):
        raise UnknownNameError("network", str(name), list_models())
    if name in ENTRIES:
        module, _, attribute = ENTRIES[name].where.partition(":")
        return getattr(import_module(module), attribute)
    extensions = find_extensions(NETWORKS)
    if name in extensions:
        return extensions[name]()
    raise UnknownNameError("network", name, list_models())
