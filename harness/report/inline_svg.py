"""Figures as inline SVG: text stays text, colours follow the page's theme, and no style attribute is left.

matplotlib writes a style attribute on every shape. Here each distinct one becomes a class, collected in one style sheet
for the page, so that a Content-Security-Policy can forbid inline styles, and so that the dark theme can exchange the
colours. Every id is made unique on the page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from xml.etree import ElementTree as ET

from matplotlib.figure import Figure

from harness.figures.style import FAINT, INK, METADATA, PALETTE, QUIET, styled

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)

# The colours of `harness.figures.style` -> the page's variables (report.css has both themes).
THEME = {
    INK: "--fig-ink",
    QUIET: "--fig-quiet",
    FAINT: "--fig-faint",
    "#ffffff": "--fig-paper",
    **{colour: f"--fig-{number}" for number, colour in enumerate(PALETTE, start=1)},
}
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
_THEME = {colour.lower(): name for colour, name in THEME.items()}


@dataclass
class StyleSheet:
    """Distinct style declarations, each with a class name of its own."""

    names: dict[str, str] = field(default_factory=dict)

    def class_of(self, declarations: str) -> str:
        """The class that stands for a style attribute's content."""
        return self.names.setdefault(declarations, f"s{len(self.names)}")

    @property
    def css(self) -> str:
        """All rules."""
        return "\n".join(f".{name}{{{declarations}}}" for declarations, name in self.names.items())


@styled
def to_svg(figure: Figure) -> str:
    """The figure as an SVG document, with its text as text."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata=METADATA["svg"])
    return buffer.getvalue()


def inline_svg(document: str, prefix: str, title: str, sheet: StyleSheet, themed: bool = True) -> str:
    """An SVG document as an element for the page.

    Args:
        document: as matplotlib writes it.
        prefix: goes before every id.
        title: what the figure shows, for those who cannot see it.
        sheet: takes the style rules.
        themed: exchange the colours of the house style for the page's variables; False for a figure whose colours are
            a scale (its paper then stays white).
    """
    root = ET.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _rewrite(element, prefix, sheet, themed)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    label = ET.Element(f"{{{SVG}}}title", {"id": f"{prefix}title"})
    label.text = title
    root.insert(0, label)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}title")
    root.set("class", "figure themed" if themed else "figure plate")
    return re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode"))


def _rewrite(element: ET.Element, prefix: str, sheet: StyleSheet, themed: bool) -> None:
    """Give one element unique ids, and a class in place of its style."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, prefix + value)
        elif name == f"{{{XLINK}}}href" and value.startswith("#"):
            del element.attrib[name]
            element.set("href", f"#{prefix}{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
    style = element.attrib.pop("style", None)
    if style:
        declarations = "; ".join(part.strip() for part in style.split(";") if part.strip())
        declarations = declarations.replace("url(#", f"url(#{prefix}")
        if themed:
            declarations = _HEX.sub(_themed, declarations)
        element.set("class", sheet.class_of(declarations))


def _themed(match: re.Match[str]) -> str:
    name = _THEME.get(match.group().lower())
    return f"var({name})" if name else match.group()
