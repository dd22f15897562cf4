"""Records on disk: written, read back, locked, refused when corrupt."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.schema import Manifest, Provenance, Summary, TrialState
from harness.records.store import MANIFEST, RecordStore
from harness.records.trial_folder import TrialFolder

PROVENANCE = Provenance(
    harness_version="0.1.0",
    git_commit=None,
    git_dirty=None,
    packages={"python": "3.11"},
    corpus_fingerprint="c" * 64,
    backbone_fingerprint="b" * 64,
    machine={},
    started_at="2026-01-01T00:00:00+00:00",
    finished_at="2026-01-01T00:01:00+00:00",
    num_starts=1,
)


def summary(state: TrialState = TrialState.COMPLETE) -> Summary:
    return Summary(trial_id="abc", state=state, metrics={"target_accuracy": 0.5}, costs={"seconds": 1.5})


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return RecordStore(tmp_path / "results", "mine").trial("abc")


def test_nothing_is_made_by_looking(tmp_path: Path, folder: TrialFolder) -> None:
    assert folder.summary() is None
    assert folder.record() is None
    assert folder.read_log() == []
    assert list(tmp_path.iterdir()) == []


def test_a_finished_trial_is_read_back(folder: TrialFolder) -> None:
    folder.start({"seed": 3})
    assert folder.record() is None  # a config alone is no finished trial
    folder.finish(summary(), PROVENANCE)
    record = folder.record()
    assert record is not None
    assert (record.trial_id, record.config) == ("abc", {"seed": 3})
    assert record.summary == summary()
    assert record.provenance is not None
    assert record.provenance.model_copy(update={"files": {}}) == PROVENANCE


def test_a_finished_trial_has_the_digests_of_its_files(folder: TrialFolder) -> None:
    folder.start({"seed": 3})
    folder.append_log({"epoch": 1})
    (folder.path / "adapter.safetensors").write_bytes(b"weights")
    folder.checkpoint.write_bytes(b"not kept")
    folder.finish(summary(), PROVENANCE)
    record = folder.record()
    assert record is not None and record.provenance is not None
    files = record.provenance.files
    assert set(files) == {"config.json", "log.jsonl", "adapter.safetensors", "summary.json"}
    for name, digest in files.items():
        assert digest == hashlib.sha256((folder.path / name).read_bytes()).hexdigest()


def test_a_record_without_digests_still_loads(folder: TrialFolder) -> None:
    folder.start({"seed": 3})
    folder.finish(summary(), PROVENANCE)
    path = folder.path / "provenance.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("files", "user_code", "config_version"):
        del content[name]
    path.write_text(json.dumps(content), encoding="utf-8")
    record = folder.record()
    assert record is not None and record.provenance == PROVENANCE


@pytest.mark.parametrize(("state", "kept"), [(TrialState.COMPLETE, False), (TrialState.FAILED, True)])
def test_the_checkpoint_goes_when_it_is_not_needed(folder: TrialFolder, state: TrialState, kept: bool) -> None:
    folder.start({})
    folder.checkpoint.write_bytes(b"weights")
    folder.finish(summary(state), PROVENANCE)
    assert folder.checkpoint.exists() == kept


def test_the_summary_is_written_last(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial counts as finished by its summary, so a kill before it must leave none."""
    folder.start({})
    folder.checkpoint.write_bytes(b"weights")
    real = os.replace

    def killed_at_the_summary(source: Path, target: Path) -> None:
        if Path(target).name == "summary.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_summary)
    with pytest.raises(KeyboardInterrupt):
        folder.finish(summary(), PROVENANCE)
    assert folder.summary() is None
    assert (folder.path / "provenance.json").exists()
    assert folder.checkpoint.exists()


def test_clear_forgets_the_end_and_keeps_the_checkpoint(folder: TrialFolder) -> None:
    folder.start({})
    folder.checkpoint.write_bytes(b"weights")
    folder.finish(summary(TrialState.FAILED), PROVENANCE)
    folder.clear()
    assert folder.summary() is None
    assert folder.checkpoint.exists()
    folder.clear()  # twice is no error


def test_the_log_restarts_with_what_the_checkpoint_holds(folder: TrialFolder) -> None:
    folder.append_log({"epoch": 1})
    folder.append_log({"epoch": 2})
    folder.restart_log([{"epoch": 1}])
    folder.append_log({"epoch": 2, "again": True})
    assert folder.read_log() == [{"epoch": 1}, {"epoch": 2, "again": True}]
    folder.restart_log([])
    assert folder.read_log() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"trial_id": "abc", "sta', "not valid JSON"),
        ('{"trial_id": "abc"}', "state: Field required"),
        ('{"trial_id": "abc", "state": "finished"}', "state: Input should be 'complete', 'failed' or 'pruned'"),
        ('{"trial_id": "abc", "state": "complete", "x": 1}', "x: Extra inputs are not permitted"),
        ('{"trial_id": "abc", "state": "complete", "metrics": {"m": "high"}}', "metrics: m: Input should be a valid"),
        ("[1]", "Input should be an object"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
def test_a_corrupt_summary_is_one_line(folder: TrialFolder, text: str | bytes, message: str) -> None:
    folder.start({})
    path = folder.path / "summary.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        folder.summary()
    line = str(caught.value)
    assert line.startswith(f"{path}: {message}")
    assert "delete it" in line
    assert "\n" not in line


def test_a_summary_that_is_a_folder(folder: TrialFolder) -> None:
    (folder.path / "summary.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"summary\.json: Is a directory; delete it"):
        folder.summary()


class TestManifest:
    def manifest(self, *arms: str) -> Manifest:
        return Manifest(name="mine", arms={arm: {10: f"{arm}10", 9: f"{arm}9"} for arm in arms})

    def test_the_order_of_arms_and_seeds_is_kept(self, tmp_path: Path) -> None:
        store = RecordStore(tmp_path, "mine")
        store.write_manifest(self.manifest("zebra", "ant", "mole"))
        found = store.manifest()
        assert list(found.arms) == ["zebra", "ant", "mole"]
        assert list(found.arms["ant"].items()) == [(10, "ant10"), (9, "ant9")]
        content = json.loads((store.path / MANIFEST).read_text(encoding="utf-8"))
        assert content["arms"]["ant"] == {"10": "ant10", "9": "ant9"}  # plain JSON

    def test_another_order_is_written_and_the_same_is_not(self, tmp_path: Path) -> None:
        store = RecordStore(tmp_path, "mine")
        store.write_manifest(self.manifest("a", "b"))
        os.utime(store.path / MANIFEST, (1, 1))
        store.write_manifest(self.manifest("a", "b"))
        assert (store.path / MANIFEST).stat().st_mtime == 1
        store.write_manifest(self.manifest("b", "a"))
        assert list(store.manifest().arms) == ["b", "a"]

    def test_unknown_experiment(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            RecordStore(tmp_path, "mine").manifest()
        assert str(caught.value) == f"no results of 'mine' in {tmp_path}; nothing has been run there"
        for name in ("other", "another"):
            RecordStore(tmp_path, name).write_manifest(Manifest(name=name, arms={"a": {0: "x"}}))
        with pytest.raises(UserError) as caught:
            RecordStore(tmp_path, "mine").manifest()
        assert str(caught.value) == f"no results of 'mine' in {tmp_path}; choices: another, other"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("othre", "no results of 'othre' in results; choices: other, running. Did you mean other?"),
            ("results/other", "results/other: expected a name and no folder: other, with --results results"),
            ("other.yaml", "other.yaml: expected the name of results, which stands in the file as `name`"),
            ("sought", "results/sought: the sweep has no winners yet; harness status sought shows how it goes"),
        ],
    )
    def test_what_may_have_been_meant(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for known in ("other", "running"):
            RecordStore(Path("results"), known).write_manifest(Manifest(name=known, arms={"a": {0: "x"}}))
        Path("results/sought/search").mkdir(parents=True)
        with pytest.raises(UserError) as caught:
            RecordStore(Path("results"), name).manifest()
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"name": "mine", "arms": {', "not valid JSON"),
            ('{"name": "mine"}', "arms: Field required"),
            ('{"name": "mine", "arms": {"a": {"one": "x"}}}', "arms: a: one: [key]: Input should be a valid integer"),
        ],
    )
    def test_corrupt(self, tmp_path: Path, text: str, message: str) -> None:
        store = RecordStore(tmp_path, "mine")
        store.path.mkdir()
        (store.path / MANIFEST).write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            store.manifest()
        assert str(caught.value).startswith(f"{store.path / MANIFEST}: {message}")
        assert "\n" not in str(caught.value)


HOLDER = """
import sys
from pathlib import Path
from harness.records.trial_folder import TrialFolder

with TrialFolder(Path(sys.argv[1])).lock(wait=False) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(folder: TrialFolder) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the trial until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


class TestLock:
    def test_it_is_free_again_afterwards(self, folder: TrialFolder) -> None:
        for _ in range(2):
            with folder.lock(wait=False) as held:
                assert held
        with pytest.raises(KeyError), folder.lock(wait=False):
            raise KeyError
        with folder.lock(wait=False) as held:
            assert held

    def test_a_second_process_does_not_get_it(self, folder: TrialFolder) -> None:
        with other_process(folder) as process:
            with folder.lock(wait=False) as held:
                assert not held
            with folder.lock(wait=False) as held:  # asking does not take it away
                assert not held
            with TrialFolder(folder.path.with_name("other")).lock(wait=False) as held:
                assert held  # trials do not lock each other
            process.communicate("")  # lets it end by itself
        with folder.lock(wait=False) as held:
            assert held

    def test_a_killed_holder_lets_it_go(self, folder: TrialFolder) -> None:
        with other_process(folder) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            with folder.lock(wait=False) as held:
                assert held

    def test_waiting_for_it(self, folder: TrialFolder) -> None:
        got = threading.Event()

        def wait_for_it() -> None:
            with folder.lock(wait=True) as held:
                assert held
                got.set()

        with other_process(folder) as process:
            waiting = threading.Thread(target=wait_for_it, daemon=True)
            waiting.start()
            assert not got.wait(0.2)
            process.kill()
            assert got.wait(10)
            waiting.join(10)


def test_a_corrupt_manifest_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, "mine")
    store.path.mkdir()
    store.check_place()
    (store.path / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"not valid JSON; restore it, from a copy .* history of the launches"):
        store.check_place()
