"""The record of a trial: what it was, how it ended, its numbers, and what it was made with.

`metrics` are the numbers that the config determines, bit for bit; `costs` (seconds, memory) differ from run to run and
are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.config.notes import ManifestNote, RecordNote
from harness.config.rows import RowId, row_of_old_name
from harness.errors import TrialError, UserError
from harness.records.made_with import MadeWith

RECORD_VERSION = 1


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    PRUNED = "pruned"


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Provenance(_Schema):
    """What a record was made with.

    Attributes:
        files: name -> SHA-256 of the record's other files (config, log, predictions, weights), taken at the end.
        user_code: module -> SHA-256 of its source, for classes that the config names outside of this package and of
            installed ones: no commit or version covers them.
        config_version: `harness.config.trial.CONFIG_VERSION`, which is part of the trial's id.
        execution: how it was trained (harness/config/execution.py); records without it: by the plain loop.
        task: what was learnt; records without it: see harness/records/task.py.
        places: dotted setting of the config -> the folder that its path starts from, as seen from the record's folder.
        normaliser: of the transcripts, where it is not latin28.
        taken: `ID/FILE` of another trial's record that weights were taken from -> the file's SHA-256.
        preparation_fingerprint: of what makes inputs and targets of an example (harness/backbones/model_files.py).

    The last nine are empty in records that are older than them.
    """

    harness_version: str
    git_commit: str | None
    git_dirty: bool | None
    packages: dict[str, str]
    corpus_fingerprint: str
    backbone_fingerprint: str
    machine: dict[str, str]
    started_at: str
    finished_at: str
    num_starts: int
    files: dict[str, str] = Field(default_factory=dict)
    user_code: dict[str, str] = Field(default_factory=dict)
    config_version: int | None = None
    execution: dict[str, Any] | None = None
    task: str | None = None
    places: dict[str, str] = Field(default_factory=dict)
    normaliser: str | None = None
    taken: dict[str, str] = Field(default_factory=dict)
    preparation_fingerprint: str | None = None

    @property
    def made_with(self) -> MadeWith:
        """All its fingerprints."""
        return MadeWith(self.backbone_fingerprint, self.corpus_fingerprint, self.preparation_fingerprint)


class Summary(_Schema):
    """The outcome of a trial.

    Attributes:
        metrics: test metrics (target, source mean, forgetting, score) and parameter counts; fractions, not percent.
            In a search, or when pruned: parameter counts only, with `by_domain` and `base` empty.
        by_domain: domain -> test metrics, adapter on.
        base: domain -> test metrics of the base model.
        valid: validation metrics at the best epoch.
        costs: `seconds`, `peak_memory_mb`; of a pack, `trials_a_step` and `packing_gain`.
        checks: name -> what was checked and held.
        adapters: insertion point -> number of adapter weights there that learn.
        notes: facts that a table made from this record must state; in old records texts without a kind.
    """

    version: int = RECORD_VERSION
    trial_id: str
    state: TrialState
    reason: str | None = None
    message: str | None = None
    epochs_run: int = 0
    best_epoch: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    by_domain: dict[str, dict[str, float]] = Field(default_factory=dict)
    base: dict[str, dict[str, float]] = Field(default_factory=dict)
    valid: dict[str, float] = Field(default_factory=dict)
    costs: dict[str, float] = Field(default_factory=dict)
    checks: dict[str, str] = Field(default_factory=dict)
    adapters: dict[str, int] = Field(default_factory=dict)
    notes: tuple[RecordNote, ...] = ()


def assert_sealed(summary: Summary) -> None:
    """Refuse a search record that holds a test number.

    Raises:
        TrialError: it does (reason `sealed`).
    """
    leaked = [name for name in summary.metrics if not name.startswith("trainable_")]
    leaked += [f"valid.{name}" for name in summary.valid if not name.startswith("valid_")]
    leaked += [f"by_domain.{name}" for name in summary.by_domain] + [f"base.{name}" for name in summary.base]
    if leaked:
        raise TrialError("sealed", f"a search record must hold no test number, but it has {', '.join(leaked)}")


class _RecordedData(BaseModel):
    corpus: str
    options: dict[str, Any] | None = None
    source: list[str]
    target: str


class _RecordedLoop(BaseModel):
    precision: str
    device: str


class RecordedConfig(BaseModel):
    """What readers of records rely on in the config of a trained trial, in every version."""

    data: _RecordedData
    loop: _RecordedLoop
    train: str
    seed: int


class Record(_Schema):
    """A trial's config, summary and provenance."""

    trial_id: str
    config: dict[str, Any]
    summary: Summary
    provenance: Provenance | None


def check_config(record: Record, place: str) -> None:
    """Refuse a record whose config lacks a part that a trained trial has.

    Raises:
        UserError: it does, or a part is of another kind; `place` is named.
    """
    try:
        RecordedConfig.model_validate(record.config)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{place}: {where}: {problem['msg']}; get the record again, or train it again") from error


class Declared(_Schema):
    """The first launch with a claim: its time, and how many of the experiment's trials were finished by then."""

    text: str
    at: str
    num_finished: int


class Launch(_Schema):
    """The plan with which an experiment was launched; a later launch with another plan adds its own.

    Attributes:
        at: when; None for a plan that was launched before launches were written down.
        num_finished: how many of its trials were finished by then.
        arms, table: as in the manifest of that launch.
        budget: of a sweep's search: `trials` or `seconds`; None for an experiment, and in old manifests.
    """

    at: str | None
    num_finished: int | None = None
    arms: dict[str, dict[int, str]]
    table: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, int | float] | None = None


def _old_rows(names: Iterable[str]) -> dict[str, RowId]:
    """The rows of an old manifest whose names carry selection rules, as in `residual_add (best)`."""
    return {name: row for name in names if (row := row_of_old_name(name)).rules}


class Manifest(_Schema):
    """Which trials make an experiment: arm -> seed -> trial id, how its table is laid out, and what it must say.

    Attributes:
        design: of an experiment with a design: its type, its factors with their levels, and each arm's levels.
        claims: claim id (its hash) -> when it was declared. A launch adds those that are new and changes none.
        rows: row -> its arm and rules, for the rows that are not called as their arm. Old manifests lack it.
        launches: the plans, from the first launch on; each stays as it was. Old manifests lack them.
    """

    version: int = RECORD_VERSION
    name: str
    description: str = ""
    arms: dict[str, dict[int, str]]
    table: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[ManifestNote, ...] = ()
    rows: dict[str, RowId] = Field(default_factory=dict)
    design: dict[str, Any] | None = None
    claims: dict[str, Declared] = Field(default_factory=dict)
    launches: tuple[Launch, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _says_what_its_rows_are(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "rows" in content or not isinstance(content.get("arms"), dict):
            return content
        return {**content, "rows": _old_rows(content["arms"])}

    def content(self) -> dict[str, Any]:
        """The content of experiment.json; fields that are empty are not written."""
        optional = {name for name in ("design", "claims", "launches") if not getattr(self, name)}
        if not self.rows and not _old_rows(self.arms):
            optional.add("rows")  # else an arm that is only called like a rule's row would be read as one
        content = self.model_dump(mode="json", exclude=optional)
        for launch in content.get("launches", ()):
            if launch["budget"] is None:
                del launch["budget"]
        return content

    @property
    def row_ids(self) -> tuple[RowId, ...]:
        """What each row is, in the order of `arms`, whose keys are the rows' names."""
        return tuple(self.rows.get(name, RowId(name)) for name in self.arms)
