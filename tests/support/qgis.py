"""QGIS without a screen, each time in a process of its own."""

import json
import os
import shutil
import subprocess

import pytest

PYTHON = "/usr/bin/python3"
"""The Python that Debian's QGIS is built for."""

needs_qgis = pytest.mark.skipif(
    shutil.which("qgis_process") is None, reason="needs QGIS, such as Debian's package"
)

OPEN = """
import json, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsProject
from qgis.core import QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QSize

application = QgsApplication([], False)
application.initQgis()


def describe(layer):
    return {
        "name": layer.name(), "valid": layer.isValid(), "crs": layer.crs().authid(),
        "wkt": layer.crs().toWkt() != "", "renderer": type(layer.renderer()).__name__,
        "labels": layer.type() == 0 and layer.labelsEnabled(),
    }


def open_project(path):
    project = QgsProject.instance()
    assert project.read(path), project.error()
    nodes = project.layerTreeRoot().findLayers()
    settings = QgsMapSettings()
    settings.setLayers([node.layer() for node in nodes if node.isVisible()])
    settings.setExtent(project.mapLayersByName("mask")[0].extent())
    settings.setOutputSize(QSize(400, 400))
    settings.setDestinationCrs(project.crs())
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path + ".png")
    return {
        "crs": project.crs().authid(), "layers": [describe(node.layer()) for node in nodes],
        "shown": [node.name() for node in nodes if node.isVisible()],
    }


def open_alone(path):
    kind = QgsRasterLayer if path.endswith(".tif") else QgsVectorLayer
    return describe(kind(path, "alone"))


opened = {path: (open_project if ".qgz" in path else open_alone)(path) for path in sys.argv[1:]}
print("OPENED", json.dumps(opened))
application.exitQgis()
"""


def open_in_qgis(*paths):
    """What QGIS makes of projects and layers; a project is also drawn, to ``PROJECT.png``."""
    run = subprocess.run(
        [PYTHON, "-c", OPEN, *map(str, paths)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("OPENED "))
    opened = json.loads(line.removeprefix("OPENED "))
    return [opened[str(path)] for path in paths]


def clean_environment(**more):
    """The environment of an ordinary desktop: no virtual environment, no tests."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    return kept | {"QT_QPA_PLATFORM": "offscreen"} | more
