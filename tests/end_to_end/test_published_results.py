"""The committed tables are what their committed records give, and the records are whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.config.experiment import load_experiment
from harness.figures.style import save
from harness.launch.run_experiment import manifest_of
from harness.metrics import constrained_score, forgetting
from harness.records.publishing import publish, unpack
from harness.records.store import RecordStore
from harness.records.task import primary_of
from harness.report.drawings import make_drawings
from harness.report.sources import load_sources
from harness.tables.build import build_table
from harness.tables.render.markdown import render_markdown

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("depth_x_l2_forms", "sim_adapter", "adapter_fusion")
PUBLISHED = (
    "text_strategies",
    "text_e5_topics",
    "speech_whisper_strategies",
    "speech_whisper_russian",
    "speech_whisper_seq2seq",
    *PAPERS,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_is_rebuilt_to_the_byte(name: str) -> None:
    store = RecordStore(ROOT / "results", name)
    assert render_markdown(build_table(store)) == (store.path / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_experiment_file_still_names_the_published_trials(name: str) -> None:
    experiment = load_experiment(ROOT / "experiments" / ("papers" if name in PAPERS else "") / f"{name}.yaml")
    published, today = RecordStore(ROOT / "results", name).manifest().content(), manifest_of(experiment).content()
    launches = published.pop("launches")  # when it was launched, and when its claims were declared, is not in the file
    declared = {claim["text"] for claim in published.pop("claims", {}).values()}
    assert declared == {claim.text for claim in experiment.config.table.claims}
    assert published == today
    assert launches[-1]["arms"] == published["arms"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_records_are_complete_and_consistent(name: str) -> None:
    store = RecordStore(ROOT / "results", name)
    fingerprints = set()
    for seeds in store.manifest().arms.values():
        assert len(seeds) == (3 if name == "speech_whisper_seq2seq" else 5)
        for trial_id in seeds.values():
            record = store.trial(trial_id).record()
            assert record is not None
            assert record.provenance is not None
            summary, config = record.summary, record.config
            assert summary.state == "complete"
            assert "bit for bit" in summary.checks["base_restored"]
            assert record.provenance.git_dirty is False
            fingerprints.add((record.provenance.backbone_fingerprint, record.provenance.corpus_fingerprint))
            primary = primary_of(record)
            assert primary is not None
            target, sources = config["data"]["target"], config["data"]["source"]
            before = [summary.base[source][primary] for source in sources]
            after = [summary.by_domain[source][primary] for source in sources]
            expected = forgetting(primary, sum(before) / len(before), sum(after) / len(after))
            assert summary.metrics["forgetting"] == pytest.approx(expected, abs=1e-12)
            score = constrained_score(
                primary, summary.base[target][primary], summary.by_domain[target][primary], before, after
            )
            assert summary.metrics["constrained_score"] == pytest.approx(score, abs=1e-12)
    assert len(fingerprints) == 1


def test_a_changed_record_changes_the_table(tmp_path: Path) -> None:
    """The check above can fail: one digit of one record is enough."""
    name = PUBLISHED[0]
    shutil.copytree(ROOT / "results" / name, tmp_path / name)
    store = RecordStore(tmp_path, name)
    publish(store)
    unpack(store)  # as folders, whose files can be edited
    before = render_markdown(build_table(store))
    *_, of_last_arm = store.manifest().arms.values()
    trial_id = next(iter(of_last_arm.values()))
    path = store.trial(trial_id).path / "summary.json"
    metric = build_table(store).columns[0].metric
    assert metric is not None
    text = path.read_text(encoding="utf-8")
    value = store.trial(trial_id).record().summary.metrics[metric]  # type: ignore[union-attr]
    assert text.count(repr(value)) >= 1
    path.write_text(text.replace(f'"{metric}": {value!r}', f'"{metric}": {value + 0.1!r}'), encoding="utf-8")
    assert render_markdown(build_table(store)) != before


@pytest.mark.parametrize("name", PUBLISHED)
def test_records_are_verified_down_to_their_predictions(name: str) -> None:
    from harness.checks.findings import Findings
    from harness.checks.verify import check_bases, check_records
    from harness.tasks.references import ReferenceShelf

    store = RecordStore(ROOT / "results", name)
    found = Findings()
    records = check_records(store, store.manifest(), ReferenceShelf(), found)
    check_bases(records, found)
    assert found.drifts == []
    num_trials = sum(len(seeds) for seeds in store.manifest().arms.values())
    assert num_trials >= 12 and found.held["trial ids are the hash of their config"] == num_trials
    if not any("predictions against references" in reason for reason in found.unchecked):  # the corpus is here
        # of each trial: two metrics on the target and on one source at least
        assert found.held["scores by domain follow from the predictions"] >= 4 * num_trials


def test_figures_of_arms_have_names_that_a_file_may_have(tmp_path: Path) -> None:
    """`Fusion w/ ST-A, 50, apple` would be in a folder that is not there."""
    for drawing in make_drawings(load_sources(ROOT / "results", "adapter_fusion")):
        if drawing.section == "attention":
            save(drawing.figure, tmp_path, drawing.name, ("svg",))
            assert "Fusion w/ ST-A, " in drawing.title
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert len(drawn) == 8 and all(name.startswith("attention_Fusion w_ ST-A, ") for name in drawn)
