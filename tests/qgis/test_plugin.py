"""The plug-in for QGIS runs the program ctma: maps, pages, decisions, comparisons."""

import ast
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import ctma as package
from support import ROOT
from support.maps import data_of, make_map
from support.qgis import needs_qgis, run_algorithm, run_script
from support.scenes import smooth, write_raster

PLUGIN = ROOT / "qgis/ctma_change"
SQUARES = [(10, 12, 10, 200), (60, 20, 12, 180), (30, 70, 14, 160)]
SIZE = (110, 100)
pytestmark = pytest.mark.slow


def test_the_plugin_is_small_imports_no_torch_and_fits_newer_versions_of_qgis():
    sources = {path: path.read_text() for path in PLUGIN.glob("*.py")}
    assert sum(len(text.splitlines()) for text in sources.values()) <= 500
    imported = {
        name.split(".")[0]
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else
                     [one.name for one in node.names])
    }  # fmt: skip
    assert imported <= {*sys.stdlib_module_names, "qgis", "processing", "provider", "program",
                        "algorithms"}  # fmt: skip
    assert not any("PyQt5" in text or "PyQt6" in text for text in sources.values())


def test_the_zip_holds_the_plugin(tmp_path):
    subprocess.run(["make", "qgis-plugin", f"PYTHON={sys.executable}"], cwd=ROOT, check=True)
    with zipfile.ZipFile(ROOT / "build/ctma_change.zip") as archive:
        names = {*archive.namelist()}
    assert {f"ctma_change/{path.name}" for path in PLUGIN.glob("*.py")} <= names
    assert "ctma_change/metadata.txt" in names


@pytest.mark.long
@needs_qgis
def test_a_map_is_made_through_qgis(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_raster(tmp_path / f"{name}.tif", smooth(seed, 200, 220))
    said = run_algorithm(
        tmp_path, "changemap", BEFORE=tmp_path / "a.tif", AFTER=tmp_path / "b.tif",
        MIN_AREA=5, OUTPUT=tmp_path / "OUT",
    )  # fmt: skip
    assert f"wrote {tmp_path}/OUT/map.qgz" in said
    assert (tmp_path / "OUT/changes.gpkg").is_file()
    wrong = run_algorithm(
        tmp_path, "changemap", code=1, BEFORE=tmp_path / "a.tif", AFTER=tmp_path / "b.tif",
        CHECKPOINT="ctma-light", OUTPUT=tmp_path / "OTHER",
    )  # fmt: skip
    assert "ctma-light" in wrong
    assert "Traceback" not in wrong


@pytest.mark.long
@needs_qgis
def test_pages_decisions_and_comparisons_are_made_through_qgis(tmp_path):
    first = make_map(tmp_path, SIZE, SQUARES, ("a.tif", "b.tif"), "OLD")
    second = make_map(tmp_path, SIZE, SQUARES[:2], ("c.tif", "d.tif"), "NEW")
    run_algorithm(tmp_path, "reviewpage", MAP=first, ORDER=1, OUTPUT=tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert data["order"] == "area"
    about = {"form": 1, "fingerprint": data["fingerprint"], "map": "M"}
    decisions = {"type": "FeatureCollection", "ctma": about, "features": []}
    (tmp_path / "d.geojson").write_text(json.dumps(decisions))
    said = run_algorithm(tmp_path, "applydecisions", MAP=first, DECISIONS=tmp_path / "d.geojson")
    assert "3 undecided" in said
    assert (first / "accepted.gpkg").is_file()
    run_algorithm(tmp_path, "compare", FIRST=first, SECOND=second, OUTPUT=tmp_path / "D")
    found = json.loads((tmp_path / "D/comparison.json").read_text())
    assert (found["counts"]["kept"], found["counts"]["lost"]) == (2, 1)


@pytest.mark.long
@needs_qgis
def test_labels_are_made_and_learned_through_qgis(tmp_path):
    squares = [(60 * i + 12, 60 * j + 9, 26, 200) for i in range(6) for j in range(6)]
    folder = make_map(tmp_path, (400, 400), squares)
    rasters = {"BEFORE": tmp_path / "before.tif", "AFTER": tmp_path / "after.tif"}
    said = run_algorithm(
        tmp_path, "labels", **rasters, LABELS=folder / "changes.gpkg", TILE=64,
        BANDS="red,green,blue", OUTPUT=tmp_path / "DATA",
    )  # fmt: skip
    assert "36 polygons" in said
    assert (tmp_path / "DATA/labels.json").is_file()
    wrong = run_algorithm(
        tmp_path, "adapt", code=1, DATA=folder, MINUTES=0.1, OUTPUT=tmp_path / "mine"
    )
    assert "no split 'train'" in wrong
    package.write_review(folder, tmp_path / "page.html")
    about = {"form": 1, "fingerprint": data_of(tmp_path / "page.html")["fingerprint"], "map": "M"}
    decisions = {"type": "FeatureCollection", "ctma": about, "features": []}
    (tmp_path / "d.geojson").write_text(json.dumps(decisions))
    none = run_algorithm(
        tmp_path, "reviewedlabels", code=1, MAP=folder, DECISIONS=tmp_path / "d.geojson",
        OUTPUT=tmp_path / "OTHER",
    )  # fmt: skip
    assert "no change is called right or wrong" in none


INSIDE = """
import json, sys
from qgis.core import QgsApplication, QgsProcessingContext, QgsProcessingFeedback, QgsProject

application = QgsApplication([], False)
application.initQgis()
from processing.core.Processing import Processing

Processing.initialize()
from ctma_change.provider import Plugin

plugin = Plugin()
plugin.initGui()


class Feedback(QgsProcessingFeedback):
    def __init__(self, stop):
        super().__init__()
        self.stop = stop
        self.steps = []

    def setProgress(self, share):
        self.steps.append(share)
        if self.stop:
            self.cancel()


def run(stop, resume):
    before, after, output = sys.argv[1:]
    algorithm = application.processingRegistry().algorithmById("ctma:changemap").create()
    context, feedback = QgsProcessingContext(), Feedback(stop)
    context.setProject(QgsProject.instance())
    values = {"BEFORE": before, "AFTER": after, "OUTPUT": output, "RESUME": resume}
    try:
        results, fine = algorithm.run(values, context, feedback)
    except Exception as error:
        return str(error), [], feedback.steps
    layers = [one.name for one in context.layersToLoadOnCompletion().values()]
    return fine, layers, feedback.steps


print("RESULT", json.dumps([run(True, False), run(False, True)]))
application.exitQgis()
"""


@needs_qgis
@pytest.mark.long
def test_a_cancelled_run_ends_cleanly_and_goes_on(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_raster(tmp_path / f"{name}.tif", smooth(seed, 2300, 2300))
    stopped, gone_on = run_script(
        tmp_path, INSIDE, tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "OUT"
    )
    assert stopped[0] is False or "Cancelled" in str(stopped[0])
    assert max(stopped[2]) < 100
    assert gone_on[0] is True
    assert sorted(gone_on[1]) == ["changes", "probability"]
    assert np.diff(gone_on[2]).min() >= 0
    assert gone_on[2][-1] == 100
    assert not (tmp_path / "OUT/.ctma-unfinished").exists()
    with pytest.raises(package.DataError, match="no such file"):
        package.compare_maps(tmp_path / "OUT", tmp_path / "none", tmp_path / "D")
