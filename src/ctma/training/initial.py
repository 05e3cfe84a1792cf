"""The start of a training: random weights, ImageNet weights, a checkpoint, or grown weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctma.checkpoints.weights import load_weights
from ctma.data.dataset import to_unit_range
from ctma.errors import CheckpointError
from ctma.files import file_fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.growth import grow
from ctma.models.layers import channels_last
from ctma.models.registry import create_model, whole_arguments
from ctma.models.usage import Usage
from ctma.models.widening import widen
from ctma.training.loaders import PairsModule
from ctma.training.settings import Recipe
from ctma.types import IMAGE_BANDS, Say

_OF_SCALE = ("normalised", "margin")
"""Arguments that change what the inputs or the outputs of a network mean, but no weight."""


def create_network(recipe: Recipe, *, pretrained: bool) -> ChangeNetwork:
    """Creates the network of a recipe and sets its bands and its ground sample distance.

    Args:
        recipe: The recipe.
        pretrained: Whether to load the pretrained weights that the recipe names. Use ``False``
            where other weights replace them.
    """
    arguments = dict(recipe.arguments)
    if recipe.data.bands != IMAGE_BANDS:
        arguments.setdefault("bands", len(recipe.data.bands))
    if not pretrained:
        arguments.pop("pretrained", None)
    network = channels_last(create_model(recipe.network, **arguments))
    distance = recipe.data.ground_sample_distance
    network.usage = network.usage.replace(ground_sample_distance=distance, bands=recipe.data.bands)
    return network


def inherit_usage(network: ChangeNetwork, initial: Usage) -> None:
    """Makes a network take images as an initial network does, or as the training did before."""
    usage = network.usage.replace(scaling=initial.scaling)
    if usage.bands == initial.bands:
        usage = usage.replace(ranges=initial.ranges)
    network.usage = usage


def load_initial(
    network: ChangeNetwork,
    initial: ChangeNetwork,
    path: Path,
    recipe: Recipe,
    pairs: PairsModule,
    on_note: Say,
) -> dict[str, str]:
    """Gives a network the weights of a checkpoint.

    Args:
        network: The recipe's network; changed in place.
        initial: The network of the checkpoint. A smaller CTMA is grown, and a network of fewer
            bands is widened.
        path: The checkpoint.
        recipe: The recipe.
        pairs: The pairs of the training.
        on_note: Called with a line of text if the checkpoint is grown or widened, or if only the
            checkpoint has a ground sample distance.

    Returns:
        The checkpoint's name and fingerprint, for the header of new checkpoints.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or its weights do not fit.
    """
    if initial.usage.bands != network.usage.bands:
        _compare_arguments(initial, network, path, on_note)
        _widen(initial, network, path)
        added = [band for band in network.usage.bands if band not in initial.usage.bands]
        on_note(f"{path.name}: begins as the same function, which does not see {', '.join(added)}")
    elif _shapes(initial) == _shapes(network):
        _compare_arguments(initial, network, path, on_note)
        load_weights(network, initial.state_dict(), path)
    else:
        _grow(initial, network, path, pairs)
        on_note(
            f"{path.name}: a {initial.name}, grown into a larger {recipe.network} that "
            "begins as the same function"
        )
    metres = initial.usage.ground_sample_distance
    if metres is not None and recipe.data.ground_sample_distance is None:
        on_note(
            f"{path.name} was trained at {metres:g} m a pixel; say what yours are, so that the new "
            f"checkpoint knows it: `settings` data.ground_sample_distance={metres:g}"
        )
    return {"name": path.name, "fingerprint": file_fingerprint(path)}


def _compare_arguments(
    initial: ChangeNetwork, network: ChangeNetwork, path: Path, on_note: Say
) -> None:
    """Says where two networks of equal layers compute otherwise.

    Raises:
        CheckpointError: If the network scales its inputs or outputs otherwise.
    """
    if initial.name != network.name:
        return
    former, wanted = (whole_arguments(one.name, one.arguments) for one in (initial, network))
    for name, new in wanted.items():
        old = former[name]
        if old == new or name == "bands":
            continue
        if name in _OF_SCALE:
            raise CheckpointError(
                f"{path}: was trained with model.{name}={old}, not {new}; say `settings` "
                f"model.{name}={str(old).lower()}"
            )
        on_note(f"{path.name}: was trained with model.{name}={old}, this training has {new}")


def _grow(initial: ChangeNetwork, network: ChangeNetwork, path: Path, pairs: PairsModule) -> None:
    """Grows a smaller network into ``network``; the first batch stands for the training images."""
    batch = pairs.first_batch()
    scaling = network.usage.scaling
    try:
        grow(
            initial,
            network,
            *(to_unit_range(images, scaling) for images in (batch.before, batch.after)),
        )
    except ValueError as error:
        raise CheckpointError(
            f"{path}: this {initial.name} cannot start the recipe's {network.name} "
            f"({error}); `init` takes the same network, or a smaller one of the same "
            "model.fusion, model.video_len and kind of model.backbone"
        ) from error


def _widen(initial: ChangeNetwork, network: ChangeNetwork, path: Path) -> None:
    """Gives a network of more bands the weights of one of fewer, by the names of the bands."""
    wanted, bands = initial.usage.bands, network.usage.bands
    missing = [band for band in wanted if band not in bands]
    if missing:
        raise CheckpointError(
            f"{path}: sees {', '.join(wanted)}, and `data.bands` {', '.join(bands)} lacks "
            f"{missing[0]}"
        )
    if {*bands} == {*wanted}:
        raise CheckpointError(
            f"{path}: sees {', '.join(wanted)} in this order; give `data.bands` in the same order"
        )
    try:
        widen(initial, network, [bands.index(band) for band in wanted])
    except ValueError as error:
        raise CheckpointError(
            f"{path}: this {initial.name} cannot start the recipe's {network.name} with other "
            f"bands ({error})"
        ) from error


def _shapes(network: ChangeNetwork) -> dict[str, Any]:
    return {name: weight.shape for name, weight in network.state_dict().items()}
