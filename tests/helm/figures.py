"""The figures that docs/http.md promises, and what is asked of them elsewhere."""

import re

from conftest import ROOT

PAGE = ROOT / "docs/http.md"
# What Prometheus adds to all of them, by what was scraped.
OF_THE_TARGET = {"namespace", "job", "pod"}


def documented():
    """Every figure of the tables: its labels, each with the set of its values, which is empty where they are not listed."""
    found = {}
    for row in re.findall(r"^\| (`hardy_.*) \|$", PAGE.read_text(), re.M):
        names, meaning, labels = (cell.strip() for cell in row.split("|"))
        known = {}
        for part in labels.split(";"):
            listed = re.sub(r" \([^)]*\)", "", part.partition("`:")[2])
            values = {value.strip() for value in listed.split(",")} - {""}
            known |= {label: values for label in re.findall(r"`(\w+)`", part)}
        for name in re.findall(r"`(\w+)`", names):
            if meaning.startswith("histogram"):
                found |= {f"{name}_bucket": known | {"le": set()}, f"{name}_sum": known, f"{name}_count": known}
            else:
                found[name] = known
    return found


def check(expression):
    """Fails where an expression, or a series, asks for what is in no table; the names of its figures."""
    figures, used = documented(), set()
    for name, selector in re.findall(r"\b(hardy_\w+)(?:\{([^}]*)\})?", expression):
        assert name in figures, f"{name} in {expression}"
        used.add(name)
        matchers = re.findall(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"', selector)
        assert len(matchers) == selector.count('"') / 2, expression
        for label, how, value in matchers:
            if label in OF_THE_TARGET:
                continue
            assert label in figures[name], f"{label} of {name} in {expression}"
            values = figures[name][label]
            if "~" in how:
                assert not values or any(re.fullmatch(value, v) for v in values), f"{label}{how}{value} of {name}"
            else:
                assert not values or value in values, f"{label}{how}{value} of {name}"
    known = OF_THE_TARGET.union(*(figures[name] for name in used))
    for group in re.findall(r"\b(?:by|on|ignoring|without|group_left|group_right) ?\(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", group)) <= known, expression
    return used
