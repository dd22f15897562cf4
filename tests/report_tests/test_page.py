"""The page: one file, nothing from outside, every text escaped, and the same bytes for the same records."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cli_tests.conftest import Cli, cli
from made_records import NASTY, make_experiment, write_sentences

from harness.records.store import RecordStore
from harness.report.page import breakable, build_page, typeset
from harness.report.sources import load_sources

__all__ = ["cli"]

VOID = {"meta", "link", "br", "wbr", "input", "img", "hr"}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and collects ids, headings, tags and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if attributes.get("id")]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    write_sentences(tmp_path / "sentences.jsonl")
    arms = {"frozen": 0.6, f"arm {NASTY}": 0.2, "worse_arm": 0.8}
    return make_experiment(
        tmp_path / "results", tmp_path / "sentences.jsonl", arms, description=f"About {NASTY}", notes=(f"note {NASTY}",)
    )


@pytest.fixture
def page(store: RecordStore) -> str:
    return build_page(load_sources(store.path.parent, "made"))


def test_it_is_well_formed_with_headings_in_order(page: str) -> None:
    outline = Outline(page)
    assert len(outline.ids()) == len(set(outline.ids()))
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(outline.headings, outline.headings[1:], strict=False))
    names = [tag for tag, _ in outline.tags]
    assert {"main", "nav", "header", "table", "svg"} <= set(names)
    assert dict(outline.tags)["html"] == {"lang": "en"}
    links = [a["href"] for tag, a in outline.tags if tag == "a"]
    assert all(str(link).startswith("#") and str(link)[1:] in outline.ids() for link in links)
    for tag, attributes in outline.tags:
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-labelledby"] in outline.ids()


def test_nothing_comes_from_outside(page: str) -> None:
    for tag, attributes in Outline(page).tags:
        assert tag not in ("iframe", "object", "embed", "img", "base")
        for name in ("src", "srcset", "action", "formaction", "data", "poster"):
            assert name not in attributes, (tag, name)
        if tag in ("a", "link", "use"):
            assert str(attributes["href"]).startswith(("#", "data:,"))
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert "url(http" not in page and "@import" not in page and "fetch(" not in page
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_the_policy_names_exactly_this_style_and_script(page: str) -> None:
    policy = next(a["content"] for tag, a in Outline(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_text_from_records_and_corpora_stays_text(page: str) -> None:
    """Arm, description, footnote, sentence: each holds a script."""
    assert page.count("<script>") == 1
    assert "onerror=alert(1)>" not in page
    assert page.count("&lt;script&gt;alert(") >= 4
    examples = page[page.index('id="examples"') :]
    assert "&lt;script&gt;" in examples


def test_sections_and_numbers(page: str, store: RecordStore) -> None:
    for section in ("results", "methods", "curves", "tradeoff", "examples", "provenance"):
        assert f'<section id="{section}"' in page
        assert f'href="#{section}"' in page
    for absent in ("claims", "search", "attention", "unfinished"):
        assert f'id="{absent}"' not in page
    record = next(iter(load_sources(store.path.parent, "made").complete("worse_arm")))[2]
    assert record.provenance is not None
    assert record.provenance.corpus_fingerprint in page
    assert "harness verify made" in page


def test_the_same_records_give_the_same_bytes(store: RecordStore, page: str) -> None:
    assert build_page(load_sources(store.path.parent, "made")) == page


def test_failed_and_missing_trials_are_listed(store: RecordStore) -> None:
    arms = store.manifest().arms["worse_arm"]
    summary = store.trial(arms[0]).path / "summary.json"
    content = json.loads(summary.read_text(encoding="utf-8"))
    content |= {"state": "failed", "reason": "nan", "message": f"the loss is nan {NASTY}", "metrics": {}}
    summary.write_text(json.dumps(content), encoding="utf-8")
    shutil.rmtree(store.trial(arms[1]).path)
    page = build_page(load_sources(store.path.parent, "made"))
    section = page[page.index('id="unfinished"') :]
    assert "<td>failed</td><td>nan</td><td>the loss is nan &lt;script&gt;" in section
    assert "<td>missing</td>" in section


def test_attention_is_drawn_where_a_record_has_it(store: RecordStore) -> None:
    for trial_id in store.manifest().arms["worse_arm"].values():
        content = {"adapters": ["en", "es"], "layers": {"0": [0.25, 0.75], "1": [0.5, 0.5]}}
        (store.trial(trial_id).path / "attention.json").write_text(json.dumps(content), encoding="utf-8")
    page = build_page(load_sources(store.path.parent, "made"))
    assert '<section id="attention"' in page
    assert "Strongest: 0 es; 1 en." in page


def test_a_sweep(tiny_results: Path) -> None:
    page = build_page(load_sources(tiny_results, "tiny_sweep"))
    Outline(page)
    assert '<section id="search"' in page
    assert "Tuned hyperparameters" in page and "Search space" in page
    assert "residual add: stochastic depth and l2 lambda" in page  # the contour's title
    assert "Trials of the search that were pruned or failed" in page


def test_before_the_confirm_phase_no_test_item_is_shown(tiny_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_results / "tiny_sweep", tmp_path / "tiny_sweep")
    (tmp_path / "tiny_sweep" / "experiment.json").unlink()  # its records are there: none may be read
    page = build_page(load_sources(tmp_path, "tiny_sweep"))
    assert "No test data is read before the confirm phase" in page
    assert '<ul class="examples">' not in page
    assert '<section id="results"' not in page and '<section id="tradeoff"' not in page


@pytest.mark.slow
def test_it_is_written_with_its_figures(store: RecordStore, tmp_path: Path, cli: Cli) -> None:
    result = cli("report", "made")
    assert result.code == 0, result.err
    assert (store.path / "report.html").is_file()
    names = {path.name for path in (store.path / "figures").iterdir()}
    for stem in ("learning_curves", "forgetting_against_gain"):
        assert {f"{stem}.svg", f"{stem}.pdf"} <= names
    pdf = (store.path / "figures" / "learning_curves.pdf").read_bytes()
    assert b"/Type /Font" in pdf and b"/Subtype /Image" not in pdf
    result = cli("report", "made", "--out", tmp_path / "elsewhere.html")
    assert (tmp_path / "elsewhere.html").read_bytes() == (store.path / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mad",), "no results of 'mad' in results; choices: made. Did you mean made?"),
        (("made", "--out", "nowhere/page.html"), "--out nowhere/page.html: no folder nowhere"),
        (("made", "--out", "results"), "--out results: is a folder; name a file, as in results/report.html"),
    ],
)
def test_wrong_input_is_one_line(store: RecordStore, cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    result = cli("report", *arguments)
    assert (result.code, result.error) == (2, line)


def test_nothing_finished(store: RecordStore, cli: Cli) -> None:
    shutil.rmtree(store.path / "records")
    assert "no trial of made is finished" in cli("report", "made").error


def test_line_breaks_and_signs() -> None:
    assert breakable("a_b <c>") == "a_<wbr>b &lt;c&gt;"
    assert breakable("0.001") == "0.001"
    assert typeset("5 % of -3, the table's") == "5\u00a0% of −3, the table’s"
    assert typeset("2026-01-02 text-to-speech") == "2026-01-02 text-to-speech"
