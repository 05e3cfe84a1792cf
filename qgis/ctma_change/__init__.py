"""Change maps in QGIS: runs the program ctma, and installs nothing."""


def classFactory(_interface):
    """The plug-in, for QGIS."""
    from .provider import Plugin

    return Plugin()
