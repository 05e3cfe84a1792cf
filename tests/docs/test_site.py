"""The documentation: plain sentences, a site that builds strictly and asks no foreign host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import ctma
from ctma import list_engines
from ctma.files import file_fingerprint
from support import ROOT

DOCS = ROOT / "docs"


def test_sentences_are_short_on_every_page():
    command = [sys.executable, DOCS / "plain.py"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(result.stdout.splitlines()) > 25


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_cards_name_the_files_that_are_here():
    files = [
        *(ROOT / "src/ctma/weights").glob("*.safetensors"),
        *(ROOT / "weights").glob("*.safetensors"),
    ]
    assert len(files) == 5
    cards = {"ctma-resnet34": "ctma"}
    for file in files:
        card = DOCS / "reports" / f"{cards.get(file.stem, file.stem)}.md"
        assert f"Checkpoint: `{file_fingerprint(file)}`" in card.read_text()


def test_every_public_name_has_its_place_in_the_reference():
    shown = re.findall(r"^::: ctma\.(\w+)$", (DOCS / "reference/python.md").read_text(), re.M)
    assert sorted(shown) == sorted({*ctma.__all__} - {"__version__"})


def test_the_page_on_engines_says_what_engines_say():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "reference/engines.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    table = {row[0].strip("`"): row for row in reversed(rows)}
    for engine in list_engines():
        row = table[engine["name"]]
        assert row[2] == ", ".join(engine["precisions"])
        assert row[3] == ", ".join(engine["devices"])


class Requests(HTMLParser):
    """What a browser would ask for by itself on a page."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag in ("img", "script", "iframe", "source"):
            self.asked.append(known.get("src") or "")
        elif tag == "link" and known.get("rel") not in ("canonical", "next", "prev"):
            self.asked.append(known.get("href") or "")


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_foreign_host(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) > 25
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text())
        assert [one for one in requests.asked if re.match(r"(https?:)?//", one)] == []
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text())
    commands = (tmp_path / "site/reference/commands.html").read_text()
    python = (tmp_path / "site/reference/python.html").read_text()
    assert all(word in commands for word in ("ctma predict", "--min-area", "ctma engines"))
    assert "Predictor" in python
    assert "ground_sample_distance" in python
