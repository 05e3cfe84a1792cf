"""Files of samples: written for reviewers and other programs, and read with their answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, ValidationError
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError, SettingError, first_line, warn
from ctma.files import fingerprint, refuse_existing, whole_file, write_errors
from ctma.scene.finished import FinishedMap, read_finished
from ctma.scene.grid import Grid, metres_a_unit, wrap_longitudes
from ctma.scene.layer import fixed_date, plain_path
from ctma.survey.allocation import expect_error
from ctma.survey.drawing import Drawn, draw
from ctma.survey.settings import SampleSettings
from ctma.survey.strata import Stratum

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

LAYER = "sample"
MOST = 2**31
"""Larger numbers are no rows and no columns."""

FORM = 1
FORMATS = (".gpkg", ".geojson", ".csv")
COLUMNS = {
    "collect-earth": ("id", "YCoordinate", "XCoordinate", "elevation", "slope", "aspect"),
    "collect-earth-online": ("LON", "LAT", "PLOTID"),
}
"""Columns of a CSV for other programs."""


class Design(BaseModel):
    """How a sample was drawn; a file of a sample and its answers carry the design.

    Attributes:
        form: Number of this form.
        map: Fingerprint of the map.
        sample: Fingerprint of the sample.
        points: Number of places.
        settings: How places were drawn.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    form: int = FORM
    map: str
    sample: str
    points: int
    settings: SampleSettings


@dataclass(frozen=True)
class Sample:
    """A sample that was drawn.

    Attributes:
        path: The file.
        points: Number of places.
        strata: The strata of the map.
        sizes: Number of places of each stratum.
        expected_area: Area of change that the conjectures lead to, square metres.
        expected_error: Standard error of the area that the conjectures lead to, square metres.
    """

    path: Path
    points: int
    strata: list[Stratum]
    sizes: list[int]
    expected_area: float
    expected_error: float


def draw_sample(
    folder: str | Path,
    output: str | Path,
    settings: SampleSettings | None = None,
    *,
    columns: str | None = None,
    overwrite: bool = False,
) -> Sample:
    """Draws places from a map and writes them, so that a reviewer looks at each of them.

    The file does not tell what the map says of a place, so that reviewers decide for themselves.

    Args:
        folder: The folder that ``predict_scene`` wrote.
        output: The file: ``.gpkg`` or ``.geojson``, which ``estimate_area`` can read with answers,
            or ``.csv``.
        settings: How places are drawn.
        columns: The columns of a ``.csv``: ``"collect-earth"`` or ``"collect-earth-online"``.
        overwrite: Whether to replace the file if it exists.

    Raises:
        DataError: If the folder holds no map, or the map has nothing to draw from.
        SettingError: If the file has another suffix, or settings do not fit.
        OutputError: If the file cannot be written.
    """
    settings, path = settings or SampleSettings(), Path(output)
    write = _choose_form(path, columns)
    refuse_existing(path, overwrite)
    finished = read_finished(folder)
    drawn = draw(finished, settings)
    table = _tabulate(drawn, finished.grid)
    places = [_read_place(row) for row in table[PLACE].to_dict("records")]
    map_fingerprint = finished.fingerprint
    design = Design(
        map=map_fingerprint,
        sample=_mark(map_fingerprint, settings, places),
        points=len(places),
        settings=settings,
    )
    if settings.standard_error is None and len(table) > settings.points + len(drawn.sizes):
        warn(
            f"{path}: holds {len(table)} places, as each stratum gets {settings.least}; see `least`"
        )
    with whole_file(path) as part, write_errors(path):
        part.write_bytes(write(table, design))
    area, error = expect_error(drawn.strata, settings, drawn.sizes)
    return Sample(path, len(table), drawn.strata, drawn.sizes, area, error)


def _choose_form(path: Path, columns: str | None) -> Callable[[GeoDataFrame, Design], bytes]:
    if path.suffix not in FORMATS:
        raise SettingError(f"{path}: name a file that ends in {', '.join(FORMATS)}")
    if (path.suffix == ".csv") != (columns is not None) or columns not in (None, *COLUMNS):
        raise SettingError(
            f"`columns` {columns or 'is missing'}: a .csv needs {' or '.join(COLUMNS)}, other "
            "files take none"
        )
    if columns is not None:
        return lambda table, _: _as_csv(table, columns)
    return _as_geopackage if path.suffix == ".gpkg" else _as_geojson


def _tabulate(drawn: Drawn, grid: Grid) -> GeoDataFrame:
    import geopandas

    to_ground = grid.transform.to_shapely()
    centres = shapely.points(drawn.columns + 0.5, drawn.rows + 0.5)
    whole = [*centres] if drawn.outlines is None else drawn.outlines
    count = len(drawn.rows)
    content: dict[str, Any] = {
        "id": np.arange(1, count + 1),
        "column": drawn.columns,
        "row": drawn.rows,
        "change": drawn.changes,
        "verdict": [""] * count,
        "reviewer": [""] * count,
        "note": [""] * count,
    }
    if metres_a_unit(grid.crs) is None:
        ground = [affine_transform(centre, to_ground) for centre in centres]
        places = geopandas.GeoSeries(ground, crs=grid.crs.to_wkt()).to_crs("EPSG:4326")
        # Grids near 180 degrees may count on beyond.
        longitudes = wrap_longitudes(np.asarray(places.x), 0)
        content |= {"longitude": longitudes, "latitude": np.asarray(places.y)}
    shapes = [affine_transform(outline, to_ground) for outline in whole]
    return geopandas.GeoDataFrame(content, geometry=shapes, crs=grid.crs.to_wkt())


def _as_geopackage(table: GeoDataFrame, design: Design) -> bytes:
    import pyogrio

    content = io.BytesIO()
    told = {"ctma": design.model_dump_json()}
    with fixed_date():
        pyogrio.write_dataframe(table, content, driver="GPKG", layer=LAYER, layer_metadata=told)
    return content.getvalue()


def _as_geojson(table: GeoDataFrame, design: Design) -> bytes:
    if "longitude" in table:
        table = table.to_crs("EPSG:4326")
    content = json.loads(table.to_json(drop_id=True)) | {"ctma": design.model_dump(mode="json")}
    content.pop("crs", None)
    return json.dumps(content).encode()


def _as_csv(table: GeoDataFrame, columns: str) -> bytes:
    if "longitude" not in table:
        raise DataError("the map lies nowhere on Earth, and the columns need degrees")
    zeros = np.zeros(len(table), int)
    values = {
        **dict.fromkeys(("id", "PLOTID"), table["id"]),
        **dict.fromkeys(("YCoordinate", "LAT"), table["latitude"]),
        **dict.fromkeys(("XCoordinate", "LON"), table["longitude"]),
        **dict.fromkeys(("elevation", "slope", "aspect"), zeros),
    }
    chosen = table.assign(**values)[[*COLUMNS[columns]]]
    return bytes(chosen.to_csv(index=False, float_format="%.8f").encode())


@dataclass(frozen=True)
class SampledPlace:
    """A place of a sample, as a file holds it.

    Attributes:
        id: Its number; places are in random order.
        column: Its column on the map.
        row: Its row on the map.
        change: The number of the mapped change, where changes were drawn; else 0.
        verdict: What the reviewer says, if anything.
        reviewer: The reviewer's name.
    """

    id: int
    column: int
    row: int
    change: int
    verdict: str
    reviewer: str

    @property
    def pixel(self) -> BaseGeometry:
        """Its pixel, in columns and rows."""
        return shapely.box(self.column, self.row, self.column + 1, self.row + 1)


PLACE = [*SampledPlace.__dataclass_fields__]
"""Attributes of a place in a file."""


def _mark(map_fingerprint: str, settings: SampleSettings, places: Sequence[SampledPlace]) -> str:
    """The fingerprint of a sample."""
    told = ((place.id, place.column, place.row, place.change) for place in places)
    return fingerprint([map_fingerprint, settings.model_dump_json(), *map(str, told)])


def read_sample(path: Path) -> tuple[Design, list[SampledPlace]]:
    """Reads a file of a sample.

    Raises:
        DataError: If the file cannot be read, or holds no sample of ctma.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    told, table = _read_geojson(path) if path.suffix == ".geojson" else _read_geopackage(path)
    design = read_design(told, path)
    if missing := [name for name in PLACE if name not in table]:
        raise DataError(f"{path}: has no attribute {', '.join(missing)}")
    try:
        places = [_read_place(row) for row in table[PLACE].to_dict("records")]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: a place has no number, column or row") from error
    numbers = [place.id for place in places]
    if sorted(numbers) != [*range(1, design.points + 1)]:
        raise DataError(f"{path}: lacks places of the sample, or holds other ones")
    places = sorted(places, key=lambda place: place.id)
    if _mark(design.map, design.settings, places) != design.sample:
        raise DataError(f"{path}: its places or its design were changed since they were drawn")
    return design, places


def _read_place(row: dict[str, Any]) -> SampledPlace:
    numbers = {name: int(row[name]) for name in ("id", "column", "row", "change")}
    if any(number != row[name] or abs(number) > MOST for name, number in numbers.items()):
        raise ValueError("no whole number")
    return SampledPlace(**numbers, verdict=_text(row["verdict"]), reviewer=_text(row["reviewer"]))


def read_design(told: Any, path: Path) -> Design:
    """The design that a file tells.

    Raises:
        DataError: If there is none.
    """
    try:
        return Design.model_validate(told)
    except (ValidationError, SettingError) as error:
        raise DataError(f"{path}: holds no sample of ctma sample") from error


def check_map(design: Design, finished: FinishedMap, path: Path) -> None:
    """Refuses a sample of another map.

    Raises:
        DataError: If the fingerprints differ.
    """
    if design.map != finished.fingerprint:
        raise DataError(
            f"{path}: is a sample of another map (fingerprint {design.map}; {finished.folder} has "
            f"{finished.fingerprint})"
        )


def _text(value: Any) -> str:
    """A verdict or a name as text; programs may store 1 and 0 as numbers."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, str):
        return value.strip()
    return f"{float(value):g}" if hasattr(value, "__float__") else str(value)


def _read_geopackage(path: Path) -> tuple[Any, Any]:
    import pyogrio

    try:
        with plain_path(path) as plain:
            info = pyogrio.read_info(plain, layer=LAYER)
            table = pyogrio.read_dataframe(plain, layer=LAYER, read_geometry=False)
        return json.loads((info["layer_metadata"] or {}).get("ctma", "null")), table
    except Exception as error:
        raise DataError(f"{path}: holds no sample of ctma sample ({first_line(error)})") from error


def _read_geojson(path: Path) -> tuple[Any, Any]:
    import pandas

    try:
        content = json.loads(path.read_bytes())
        table = pandas.DataFrame([feature["properties"] for feature in content["features"]])
        return content.get("ctma"), table
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: holds no sample of ctma sample ({first_line(error)})") from error


def outline_places(
    finished: FinishedMap, places: list[SampledPlace], outlines: dict[int, BaseGeometry]
) -> list[BaseGeometry]:
    """The outline of each place in columns and rows.

    Args:
        finished: The map.
        places: The places.
        outlines: The outline of each mapped change by its number, where changes were drawn.

    Raises:
        DataError: If a place lies outside the map, or its change is not there.
    """
    grid = finished.grid
    for place in places:
        inside = 0 <= place.column < grid.width and 0 <= place.row < grid.height
        if not inside or (place.change and place.change not in outlines):
            raise DataError(f"{finished.folder}: does not hold place {place.id} of the sample")
    return [outlines[place.change] if place.change else place.pixel for place in places]
