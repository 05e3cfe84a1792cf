"""What the papers' table says, to stand beside what is measured here.

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
"""Training pairs of 256 x 256 behind them; of LEVIR-CD 445 scenes in 49 tiles each."""

DRAWS = {"svcd": 7 * 30, "levir-cd": 2 * 40}
"""How often each is drawn in CTMA's released recipe."""


ALIASES = {
    "cdd": "svcd", "levir": "levir-cd", "levircd": "levir-cd", "whu": "whu-cd", "whucd": "whu-cd",
}  # fmt: skip
"""What else folders of the published data sets are called."""


def find_published(data_name: str) -> str | None:
    """Which published data set a data folder holds, as far as its name tells.

    Args:
        data_name: The folder's name, such as ``LEVIR-CD``, ``WHU`` or ``levir_cd_05m``.
    """
    name = data_name.lower().replace("_", "-")
    name = ALIASES.get(name, name)
    found = [data for data in F1 if name == data or name.startswith(f"{data}-")]
    return found[0] if found else None
