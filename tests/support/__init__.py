"""What tests of several rooms share: places, pictures, scenes, the golden weights, testers."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/models/golden"
SHARED_DATA = ROOT.parent / "shared/data"
