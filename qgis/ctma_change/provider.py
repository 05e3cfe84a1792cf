"""The plug-in and its provider, which QGIS lists among its algorithms."""

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider

from .algorithms import ALGORITHMS, SETTING


class Provider(QgsProcessingProvider):
    """The algorithms of ctma."""

    def id(self):
        return "ctma"

    def name(self):
        return "ctma"

    def longName(self):
        return "ctma: change maps"

    def load(self):
        ProcessingConfig.addSetting(Setting("ctma", SETTING, "Path of the program ctma", ""))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self):
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())


class Plugin:
    """Adds the provider while the plug-in is on."""

    def __init__(self):
        self.provider = None

    def initProcessing(self):
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        self.initProcessing()

    def unload(self):
        QgsApplication.processingRegistry().removeProvider(self.provider)
