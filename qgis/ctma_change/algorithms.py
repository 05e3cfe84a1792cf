"""The algorithms: each asks for its parameters, runs one command of ctma, and loads the results."""

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .program import find_program, run

SETTING = "CTMA_PROGRAM"
ORDERS = ["doubt", "area", "place", "learn"]

LAYERS = QgsProcessingOutputRasterLayer, QgsProcessingOutputVectorLayer
FOLDER = QgsProcessingParameterFile.Behavior.Folder


class Algorithm(QgsProcessingAlgorithm):
    """What all algorithms share: a name, the run, and the loading of results."""

    key, title, about = "", "", ""

    def name(self):
        return self.key

    def displayName(self):
        return self.title

    def shortHelpString(self):
        return self.about

    def createInstance(self):
        return type(self)()

    def processAlgorithm(self, parameters, context, feedback):
        program = find_program(ProcessingConfig.getSetting(SETTING))
        arguments, results = self.command(parameters, context)
        run(program, arguments, feedback)
        project = context.project()
        for name, path in results.items():
            output = self.outputDefinition(name)
            if project is not None and isinstance(output, LAYERS):
                title = output.description()
                details = QgsProcessingContext.LayerDetails(title, project, name)
                context.addLayerToLoadOnCompletion(path, details)
        return results

    def command(self, parameters, context):
        """The arguments of ctma, and the results by the name of their output."""
        raise NotImplementedError


class ChangeMap(Algorithm):
    """``ctma predict``."""

    key, title = "changemap", "Change map"
    about = (
        "Finds what changed between two rasters. The folder gets changes.gpkg, mask.tif, "
        "probability.tif, overview.png and map.qgz. A cancelled run goes on with Resume."
    )

    def initAlgorithm(self, configuration=None):
        add = self.addParameter
        add(QgsProcessingParameterRasterLayer("BEFORE", "Raster before"))
        add(QgsProcessingParameterRasterLayer("AFTER", "Raster after"))
        add(QgsProcessingParameterString("CHECKPOINT", "Weights, by name or file", "ctma-lite"))
        add(_number("MIN_AREA", "Smallest change, square metres", 0.0, 0))
        add(_number("THRESHOLD", "Threshold of probability", None, 0, 1))
        add(QgsProcessingParameterString("BANDS", "Bands, such as 3,2,1", None, optional=True))
        add(QgsProcessingParameterBoolean("COREGISTER", "Remove a shift between the dates", False))
        add(QgsProcessingParameterBoolean("RESUME", "Resume an interrupted run", False))
        add(QgsProcessingParameterBoolean("OVERWRITE", "Replace the map of other rasters", False))
        add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the map"))
        self.addOutput(QgsProcessingOutputRasterLayer("PROBABILITY", "probability"))
        self.addOutput(QgsProcessingOutputVectorLayer("CHANGES", "changes"))

    def command(self, parameters, context):
        sources = [
            self.parameterAsRasterLayer(parameters, name, context).source()
            for name in ("BEFORE", "AFTER")
        ]
        folder = Path(self.parameterAsString(parameters, "OUTPUT", context))
        arguments = ["predict", *sources, "-o", str(folder)]
        for name, option in (("CHECKPOINT", "--checkpoint"), ("BANDS", "--bands")):
            if text := self.parameterAsString(parameters, name, context):
                arguments += [option, text]
        for name, option in (("MIN_AREA", "--min-area"), ("THRESHOLD", "--threshold")):
            if parameters.get(name) is not None:
                number = self.parameterAsDouble(parameters, name, context)
                arguments += [option, str(number)]
        for name in ("COREGISTER", "RESUME", "OVERWRITE"):
            if self.parameterAsBoolean(parameters, name, context):
                arguments.append(f"--{name.lower()}")
        return arguments, {
            "OUTPUT": str(folder),
            "PROBABILITY": str(folder / "probability.tif"),
            "CHANGES": f"{folder / 'changes.gpkg'}|layername=changes",
        }


class ReviewPage(Algorithm):
    """``ctma review``."""

    key, title = "reviewpage", "Review page"
    about = (
        "Writes a page to look at each change of a map and to decide by one key. Open the file in "
        "a browser; it works offline and gives decisions.geojson."
    )

    def initAlgorithm(self, configuration=None):
        self.addParameter(QgsProcessingParameterFile("MAP", "Folder of the map", FOLDER))
        self.addParameter(QgsProcessingParameterEnum("ORDER", "Order", ORDERS, defaultValue=0))
        self.addParameter(_number("MOST", "Largest number of changes", 500, 1))
        self.addParameter(_number("REPEAT", "Percent to show twice", 0.0, 0, 100))
        self.addParameter(
            QgsProcessingParameterFileDestination("OUTPUT", "Page", "HTML files (*.html)")
        )

    def command(self, parameters, context):
        page = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        order = ORDERS[self.parameterAsEnum(parameters, "ORDER", context)]
        return [
            "review", self.parameterAsString(parameters, "MAP", context), "-o", page,
            "--overwrite", "--order", order,
            "--most", str(self.parameterAsInt(parameters, "MOST", context)),
            "--repeat", f"{self.parameterAsDouble(parameters, 'REPEAT', context)}%",
        ], {"OUTPUT": page}  # fmt: skip


class ApplyDecisions(Algorithm):
    """``ctma review --apply``."""

    key, title = "applydecisions", "Apply decisions"
    about = (
        "Brings the decisions of a review into the map. changes.gpkg gains the verdicts; "
        "accepted.gpkg and accepted.tif hold what remains. A second reviewer's file is compared."
    )

    def initAlgorithm(self, configuration=None):
        self.addParameter(QgsProcessingParameterFile("MAP", "Folder of the map", FOLDER))
        for name, title, optional in (
            ("DECISIONS", "Decisions", False), ("SECOND", "Decisions of a second reviewer", True),
        ):  # fmt: skip
            self.addParameter(QgsProcessingParameterFile(name, title, optional=optional))
        self.addOutput(QgsProcessingOutputVectorLayer("ACCEPTED", "accepted"))

    def command(self, parameters, context):
        folder = Path(self.parameterAsString(parameters, "MAP", context))
        arguments = ["review", str(folder)]
        for name in ("DECISIONS", "SECOND"):
            if file := self.parameterAsString(parameters, name, context):
                arguments += ["--apply", file]
        return arguments, {"ACCEPTED": f"{folder / 'accepted.gpkg'}|layername=accepted"}


class CompareMaps(Algorithm):
    """``ctma compare``."""

    key, title = "compare", "Compare two maps"
    about = (
        "Matches the changes of two maps, or of a map and reference polygons: kept, gained, lost, "
        "split, merged. The folder also gets a page to step through the differences."
    )

    def initAlgorithm(self, configuration=None):
        self.addParameter(QgsProcessingParameterFile("FIRST", "Folder of the first map", FOLDER))
        self.addParameter(
            QgsProcessingParameterString("SECOND", "Folder of the second map, or polygons")
        )
        self.addParameter(QgsProcessingParameterFolderDestination("OUTPUT", "Folder to write"))
        self.addOutput(QgsProcessingOutputVectorLayer("DIFFERENCES", "differences"))

    def command(self, parameters, context):
        maps = [self.parameterAsString(parameters, name, context) for name in ("FIRST", "SECOND")]
        folder = Path(self.parameterAsString(parameters, "OUTPUT", context))
        return ["compare", *maps, "-o", str(folder), "--overwrite"], {
            "OUTPUT": str(folder),
            "DIFFERENCES": f"{folder / 'differences.gpkg'}|layername=differences",
        }


class LabelsFromPolygons(Algorithm):
    """``ctma prepare labels BEFORE AFTER LABELS``."""

    key, title = "labels", "Labels from polygons"
    about = (
        "Cuts two rasters and polygons of change into tiles, to learn from and to score. Held-out "
        "tiles share no ground with the others. Pixels outside the labelled area have no label."
    )

    def initAlgorithm(self, configuration=None):
        add = self.addParameter
        add(QgsProcessingParameterRasterLayer("BEFORE", "Raster before"))
        add(QgsProcessingParameterRasterLayer("AFTER", "Raster after"))
        add(QgsProcessingParameterFile("LABELS", "Polygons of change"))
        add(QgsProcessingParameterFile("EXTENT", "Polygons of what was labelled", optional=True))
        add(QgsProcessingParameterString("WHERE", "Choose by attributes", None, optional=True))
        add(QgsProcessingParameterString("BANDS", "Names of the bands", None, optional=True))
        _add_cutting(self)

    def command(self, parameters, context):
        arguments = ["prepare", "labels"]
        for name in ("BEFORE", "AFTER"):
            arguments.append(self.parameterAsRasterLayer(parameters, name, context).source())
        arguments.append(self.parameterAsString(parameters, "LABELS", context))
        for name in ("EXTENT", "WHERE", "BANDS"):
            if text := self.parameterAsString(parameters, name, context):
                arguments += [f"--{name.lower()}", text]
        return _cut(self, arguments, parameters, context)


class LabelsFromReview(Algorithm):
    """``ctma prepare labels OUT --reviewed``."""

    key, title = "reviewedlabels", "Labels from a review"
    about = (
        "Cuts the rasters of a map into tiles, with what a reviewer decided as their labels. What "
        "the reviewer did not see has no label."
    )

    def initAlgorithm(self, configuration=None):
        self.addParameter(QgsProcessingParameterFile("MAP", "Folder of the map", FOLDER))
        self.addParameter(QgsProcessingParameterFile("DECISIONS", "Decisions"))
        _add_cutting(self)

    def command(self, parameters, context):
        folder, decisions = (
            self.parameterAsString(parameters, name, context) for name in ("MAP", "DECISIONS")
        )
        arguments = ["prepare", "labels", folder, "--reviewed", decisions]
        return _cut(self, arguments, parameters, context)


class Adapt(Algorithm):
    """``ctma adapt``."""

    key, title = "adapt", "Learn from labels"
    about = (
        "Adapts weights to a place, and says what was gained on held-out tiles. The folder is then "
        "the weights of a new change map. The old weights stay as they are."
    )

    def initAlgorithm(self, configuration=None):
        add = self.addParameter
        add(QgsProcessingParameterFile("DATA", "Folder of labels", FOLDER))
        add(QgsProcessingParameterString("CHECKPOINT", "Weights, by name or file", "ctma-lite"))
        add(QgsProcessingParameterFile("REHEARSE", "Former data", FOLDER, optional=True))
        add(_number("MINUTES", "Minutes", 10.0, 0.1))
        add(_number("MOST_LOSS", "Largest loss of F1 elsewhere, percent", 0.5, 0))
        add(QgsProcessingParameterBoolean("CALIBRATE", "Adapt the threshold alone", False))
        add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the new weights"))

    def command(self, parameters, context):
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        checkpoint, data = (
            self.parameterAsString(parameters, name, context) for name in ("CHECKPOINT", "DATA")
        )
        arguments = ["adapt", checkpoint, "--data", data, "-o", folder, "--overwrite"]
        if former := self.parameterAsString(parameters, "REHEARSE", context):
            arguments += ["--rehearse", former]
        for name, option in (("MINUTES", "--minutes"), ("MOST_LOSS", "--most-loss")):
            arguments += [option, str(self.parameterAsDouble(parameters, name, context))]
        if self.parameterAsBoolean(parameters, "CALIBRATE", context):
            arguments.append("--calibrate-only")
        return arguments, {"OUTPUT": folder}


def _add_cutting(algorithm):
    """Adds the parameters of ``_cut``."""
    algorithm.addParameter(_number("TILE", "Side of a tile, pixels", 256, 64))
    algorithm.addParameter(_number("HOLDOUT", "Share to hold out for scores", 0.2, 0, 1))
    algorithm.addParameter(QgsProcessingParameterBoolean("ADD", "Add to labels there", False))
    algorithm.addParameter(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of labels"))


def _cut(algorithm, arguments, parameters, context):
    """The command with how tiles are cut, and its result."""
    folder = algorithm.parameterAsString(parameters, "OUTPUT", context)
    arguments += ["-o", folder]
    arguments += ["--tile", str(algorithm.parameterAsInt(parameters, "TILE", context))]
    arguments += ["--holdout", str(algorithm.parameterAsDouble(parameters, "HOLDOUT", context))]
    if algorithm.parameterAsBoolean(parameters, "ADD", context):
        arguments.append("--add")
    return arguments, {"OUTPUT": folder}


def _number(name, title, default, least, most=None):
    """A number; whole where its default is, and optional where it has none."""
    kinds = QgsProcessingParameterNumber.Type
    kind = kinds.Integer if isinstance(default, int) else kinds.Double
    limits = {"minValue": least} | ({} if most is None else {"maxValue": most})
    return QgsProcessingParameterNumber(
        name, title, kind, default, optional=default is None, **limits
    )


ALGORITHMS = (
    ChangeMap, ReviewPage, ApplyDecisions, CompareMaps, LabelsFromPolygons, LabelsFromReview, Adapt,
)  # fmt: skip
