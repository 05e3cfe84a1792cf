"""Finds the program ctma and runs it; shows its progress, and ends it cleanly where asked to."""

import json
import os
import shutil
import signal
import subprocess
import threading

from qgis.core import QgsProcessingException

VARIABLE = "CTMA_PROGRAM"
"""The environment variable that names the program."""

FOREIGN = ("PYTHON", "PROJ_", "GDAL_", "QT_", "VIRTUAL_ENV")
"""Beginnings of variables that QGIS sets for its own libraries, and that other programs misread."""

PATIENCE = 0.2
"""Seconds between two looks at whether the user cancelled."""

WINDOWS = os.name == "nt"


def find_program(setting):
    """The path of the program: from the options, the environment, or the search path.

    Raises:
        QgsProcessingException: If there is none, or if it does not answer.
    """
    named = setting or os.environ.get(VARIABLE) or "ctma"
    program = shutil.which(named)
    if program is None:
        raise QgsProcessingException(
            f"{named}: no such program. Install ctma with its extra 'scene', or name its "
            "program under Settings, Options, Processing, Providers, ctma."
        )
    answer = subprocess.run(
        [program, "--version"], env=clean_environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0 or not answer.stdout.startswith("ctma "):
        raise QgsProcessingException(
            f"{program}: does not answer as ctma ({answer.stderr.strip()})"
        )
    return program


def clean_environment():
    """The environment without what QGIS added for itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "PYTHONUTF8": "1"}


def run(program, arguments, feedback):
    """Runs the program; returns what it printed.

    Raises:
        QgsProcessingException: If it fails, with its own line; or if the user cancelled.
    """
    feedback.pushCommandInfo(" ".join(["ctma", *arguments]))
    group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if WINDOWS else {}
    process = subprocess.Popen(
        [program, *arguments, "--progress", "json"], env=clean_environment(), text=True,
        encoding="utf-8", errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE, **group,
    )  # fmt: skip
    said, wrong = [], []
    readers = [
        threading.Thread(target=_follow, args=(process.stdout, said.append)),
        threading.Thread(target=_follow, args=(process.stderr, _Listener(feedback, wrong))),
    ]
    for reader in readers:
        reader.start()
    while True:
        try:
            process.wait(PATIENCE)
            break
        except subprocess.TimeoutExpired:
            if feedback.isCanceled():
                process.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else signal.SIGINT)
                process.wait()
    for reader in readers:
        reader.join()
    if feedback.isCanceled():
        raise QgsProcessingException("Cancelled. With Resume, the run goes on where it stopped.")
    if process.returncode != 0:
        raise QgsProcessingException("\n".join(wrong) or f"ctma ended with {process.returncode}")
    for line in said:
        feedback.pushInfo(line)
    return said


def _follow(stream, take):
    for line in stream:
        take(line.rstrip("\n"))


class _Listener:
    """Takes the events of ctma: progress to the bar, warnings to the log, errors to a list."""

    def __init__(self, feedback, wrong):
        self.feedback, self.wrong = feedback, wrong

    def __call__(self, line):
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            self.feedback.pushDebugInfo(line)
            return
        if kind == "progress":
            if event["total"]:
                self.feedback.setProgress(100 * event["done"] / event["total"])
            self.feedback.setProgressText(event["what"])
        elif kind == "warning":
            self.feedback.pushWarning(event["text"])
        else:
            self.wrong.append(event["text"])
