"""The generated reference and schemas are those of the code, and links between pages lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from harness.records.leases import LEASE_S
from harness.search.samplers import PRUNERS, SAMPLERS

from .following import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def program(name: str) -> ModuleType:
    """A program in docs."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py."""
    return program("generate")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate_models", "generate_peft"])
def test_a_page_of_what_was_tried_is_what_it_gives(name: str) -> None:
    """One line in eight is tried, and every line that is missing; `--check` of the program tries them all."""
    if name == "generate_peft":
        pytest.importorskip("peft", reason="PEFT is not installed (extra peft)")
    made = program(name)
    page = made.PAGE.read_text(encoding="utf-8")
    assert made.build_page(page, 8) == page, f"python docs/{name}.py writes it"


def test_generated_files_are_up_to_date(generate: ModuleType) -> None:
    texts = generate.files()
    assert len(texts) > 8
    old = [str(path) for path, text in texts.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert old == [], "python docs/generate.py writes them"


@pytest.mark.parametrize(("settings", "registry"), [("SamplerSettings", SAMPLERS), ("PrunerSettings", PRUNERS)])
def test_names_told_are_those_that_there_are(settings: str, registry: dict[str, object], generate: ModuleType) -> None:
    meaning = generate.schemas()["sweep.json"]["$defs"][settings]["properties"]["name"]["description"]
    assert set(re.findall(r"[a-z_0-9]+", meaning)) - {"or"} >= set(registry)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT).with_suffix("")))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    wrong = []
    for link in _LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            wrong.append(link)
    assert wrong == []


# Messages of torch and of SQLite that the page explains, too.
_OTHERS_MESSAGES = ("OSError: Could not load this library", "_torchaudio.so", "database is locked")


def test_questions_quote_messages_that_there_are() -> None:
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([^`]*)`", " ".join(re.findall(r"^\*\*(.*?)\*\*", page, re.MULTILINE)))
    messages = [message for message in quoted if "..." in message or message in _OTHERS_MESSAGES]
    assert len(messages) > 5
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "harness").rglob("*.py"))
    source = re.sub(r'"\s+f?"', "", source)  # a message that goes on in the next line
    parts = [part.strip(" :;,") for message in messages for part in message.split("...")]
    assert [part for part in parts if part and part not in source and part not in _OTHERS_MESSAGES] == []


def test_index_of_the_how_to_pages_has_them_all() -> None:
    folder = ROOT / "docs" / "how-to"
    listed = set(_LINK.findall((folder / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in folder.glob("*.md")} - listed == {"README.md"}


def test_how_long_a_lease_lasts_is_said_where_leases_are_explained_and_nowhere_else() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md"}
    seconds = re.compile(r"\blease[^.|]*?\b(\d+) s(?:econds)? (?:in all|without)|HARNESS_LEASE_S` at its (\d+) seconds")
    told = [(path.name, float(one or other)) for path, text in pages.items() for one, other in seconds.findall(text)]
    assert told and all(found == ("records.md", LEASE_S) for found in told), told
