"""The commands of the documents, in the order in which somebody would type them."""

import functools
import re
import subprocess
from dataclasses import dataclass

from conftest import ROOT

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Fence:
    """A block of code on a page; `line` is the first line inside it."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    page: str
    line: int
    text: str

    def __str__(self):
        return f"{self.page}:{self.line} {self.text.splitlines()[0].split('  #')[0].strip()}"


@functools.cache
def fences(page):
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [Fence(page, text.count("\n", 0, m.start(2)) + 1, m[1], m[2]) for m in found]


@functools.cache
def commands(page):
    """All commands on a page: what its fences of the language `sh` hold."""
    return [command for fence in fences(page) if fence.language == "sh" for command in split(fence)]


def split(fence):
    """Lines belong together until bash takes them for whole commands."""
    begun = []
    for number, line in enumerate(fence.text.splitlines(), fence.line):
        if not begun and re.fullmatch(r"\s*(#.*)?", line):
            continue
        begun.append((number, line))
        text = "\n".join(line for _, line in begun)
        if not text.endswith("\\") and is_whole(text):
            yield Command(fence.page, begun[0][0], text)
            begun = []
    assert not begun, f"{fence.page}:{begun[0][0]}: bash would wait for the rest"


def is_whole(text):
    return subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0


def mentions(page):
    """Code within sentences and tables."""
    text = re.sub(r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), (ROOT / page).read_text(), flags=re.M | re.S)
    found = re.finditer(r"`([^`]+)`", text)
    return [Command(page, text.count("\n", 0, m.start()) + 1, " ".join(m[1].split())) for m in found]
