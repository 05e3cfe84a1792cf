"""QGIS without a screen, each time in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support import ROOT

PYTHON = "/usr/bin/python3"
"""The Python that Debian's QGIS is built for."""

PROGRAM = str(Path(sys.executable).with_name("ctma"))

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
    with tempfile.TemporaryDirectory() as home:
        run = subprocess.run(
            [PYTHON, "-c", OPEN, *map(str, paths)],
            env=clean_environment(HOME=home),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("OPENED "))
    opened = json.loads(line.removeprefix("OPENED "))
    return [opened[str(path)] for path in paths]


def clean_environment(**more):
    """The environment of an ordinary desktop: no virtual environment, no tests."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return kept | {"PATH": "/usr/bin:/bin", "QT_QPA_PLATFORM": "offscreen"} | more


PROCESS = shutil.which("qgis_process.bin") or "qgis_process"
"""Debian's own wrapper adds options that the program does not know."""


def run_algorithm(home, name, code=0, **parameters):
    """Runs an algorithm of the plug-in through ``qgis_process``; gives what it printed."""
    environment = clean_environment(
        HOME=str(home), QGIS_PLUGINPATH=str(ROOT / "qgis"), CTMA_PROGRAM=PROGRAM
    )
    for command in (
        ["plugins", "enable", "ctma_change"],
        ["run", f"ctma:{name}", "--", *(f"{key}={value}" for key, value in parameters.items())],
    ):
        run = subprocess.run(
            [PROCESS, *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert (run.returncode != 0) == (code != 0), run.stdout + run.stderr
    return run.stdout + run.stderr


def run_script(home, script, *arguments):
    """Runs a script in QGIS's Python, with the plug-in at hand; gives the line after RESULT."""
    environment = clean_environment(
        HOME=str(home), PYTHONPATH=f"/usr/share/qgis/python/plugins:{ROOT / 'qgis'}",
        CTMA_PROGRAM=PROGRAM,
    )  # fmt: skip
    run = subprocess.run(
        [PYTHON, "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, run.stdout + run.stderr
    return json.loads(lines[-1].removeprefix("RESULT "))
