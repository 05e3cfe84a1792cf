"""Published scores, for comparison with the scores measured here.

F1 of the change class in percent (Wang et al. 2024, arXiv 2408.08078, table of comparisons).
"""

from __future__ import annotations

F1 = {
    "svcd": {
        "fc-ef": 65.05, "fc-siam-conc": 71.88, "fc-siam-diff": 68.76, "cdnet": 90.07,
        "stanet": 94.01, "bit": 94.76, "lunet": 95.45, "dsifn": 96.23, "snunet": 97.75,
        "p2v": 98.29, "ctma": 98.56,
    },
    "levir-cd": {
        "fc-ef": 84.33, "fc-siam-conc": 88.28, "fc-siam-diff": 85.90, "cdnet": 89.75,
        "stanet": 89.85, "bit": 90.27, "lunet": 90.85, "dsifn": 89.67, "snunet": 91.47,
        "p2v": 91.14, "ctma": 91.15,
    },
    "whu-cd": {
        "fc-ef": 79.74, "fc-siam-conc": 78.05, "fc-siam-diff": 74.92, "cdnet": 90.23,
        "stanet": 90.80, "bit": 86.04, "lunet": 83.87, "dsifn": 91.27, "snunet": 88.33,
        "p2v": 91.78, "ctma": 93.62,
    },
}  # fmt: skip

PAIRS = {"svcd": 10_000, "levir-cd": 21_805}
"""Number of training pairs of 256 x 256 behind ``F1``; LEVIR-CD has 445 scenes of 49 tiles."""

DRAWS = {"svcd": 7 * 30, "levir-cd": 2 * 40}
"""How often CTMA's released recipe draws each pair: repeats times epochs."""


ALIASES = {
    "cdd": "svcd", "levir": "levir-cd", "levircd": "levir-cd", "whu": "whu-cd", "whucd": "whu-cd",
}  # fmt: skip
"""Other folder names of the published data sets."""


def find_published(data_name: str) -> str | None:
    """The published data set of a data folder, judged by the folder's name.

    Args:
        data_name: The folder's name, such as ``LEVIR-CD``, ``WHU`` or ``levir_cd_05m``.
    """
    name = data_name.lower().replace("_", "-")
    name = ALIASES.get(name, name)
    matches = [data for data in F1 if name == data or name.startswith(f"{data}-")]
    return matches[0] if matches else None
