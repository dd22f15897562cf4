"""Every code block of the README, the tutorials and the how-to pages does what its page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import CORPORA, is_fetched
from harness.launch.launchers import LAUNCHERS, launcher_type

from .blocks import blocks_of, edited
from .following import ROOT, corpora_fetched_by, follow_page, launchers_used_by, pages

MOST_SKIPPED = 8  # blocks that no test runs, over all pages


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT).with_suffix("")))
def test_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    for corpus in corpora_fetched_by(blocks_of(page)):
        if corpus in CORPORA and not is_fetched(corpus):
            pytest.skip(f"the corpus {corpus} is not fetched here (harness data fetch {corpus})")
    for launcher in launchers_used_by(blocks_of(page)):
        if launcher in LAUNCHERS and (lacks := launcher_type(launcher).needs()):
            pytest.skip(f"launcher {launcher}: {lacks}")
    follow_page(page, tmp_path)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    skipped = [
        f"{page.name}:{block.line}: {block.skip}"
        for page in pages()
        for block in blocks_of(page)
        if block.action == "skip"
    ]
    print("\n".join(skipped))
    assert len(skipped) <= MOST_SKIPPED
    assert all(len(line.split(": ")[1].split()) >= 3 for line in skipped), "a reason is a few words"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT).with_suffix("")))
def test_edits_of_a_page_fit_their_files(page: Path) -> None:
    """What following a page in full finds after minutes: a file that has moved, a line that reads otherwise by now."""
    written: dict[str, str] = {}
    ran_commands = False
    for block in blocks_of(page):
        place = f"{page.name}:{block.line}"
        if block.action == "write":
            assert block.file is not None
            written[block.file] = block.text
        elif block.action == "edit":
            assert block.file is not None
            path = ROOT / block.file
            if block.file not in written and not path.exists():
                assert ran_commands, f"{place}: {block.file} does not exist, and nothing before has made it"
                continue  # made by a command of the page
            before = written[block.file] if block.file in written else path.read_text(encoding="utf-8")
            written[block.file] = edited(before, block.text, place)
        ran_commands = ran_commands or block.action == "console"
