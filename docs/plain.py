"""Measures how long the sentences of the documentation are: ``python docs/plain.py [FILE …]``.

Code, tables, headings, links' targets and front matter do not count. The exit code is 1 where a
page has more than ``MOST_WORDS`` words a sentence on average.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from statistics import mean

MOST_WORDS = 18
ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

_BLOCKS = (r"\A---\n.*?\n---\n", r"```.*?```", r"<!--.*?-->")
_LINES = r"^\s*(\||#|:::|!!!|===|!\[|\[[^\]]+\]:).*$"


def sentences(text: str) -> list[str]:
    """The sentences of a page of Markdown, without what is no prose."""
    for block in _BLOCKS:
        text = re.sub(block, "\n\n", text, flags=re.DOTALL)
    text = re.sub(_LINES, "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`\n]+`", "code", text)
    # An item of a list ends a sentence, whether or not a full stop does.
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s", text)
    found = []
    for paragraph in paragraphs:
        line = " ".join(paragraph.split())
        found += re.split(r"(?<=[.!?])\)?\s+(?=[A-Z`*\"(0-9])|:\s(?=[A-Z])", line)
    return [sentence for sentence in found if len(re.findall(r"[A-Za-z]{2,}", sentence)) > 1]


def count_words(sentence: str) -> int:
    """Words and numbers of a sentence."""
    return len(re.findall(r"[\w'.,%-]*\w[\w%]*", sentence))


def main(pages: list[Path]) -> int:
    """Prints a line a page; gives how many pages are above the limit."""
    above = 0
    for page in pages:
        lengths = [count_words(sentence) for sentence in sentences(page.read_text())]
        if not lengths:
            continue
        above += mean(lengths) > MOST_WORDS
        print(f"{mean(lengths):5.1f} words a sentence, longest {max(lengths):3d}: {page}")
    return above


if __name__ == "__main__":
    raise SystemExit(bool(main([Path(name) for name in sys.argv[1:]] or [*PAGES])))
