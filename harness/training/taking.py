"""Put an adapter in place with the weights that its trial says: drawn anew, of a file, or of another trial's record.

A file is data that somebody else may have written: it names classes, and only those of harness or those that the
settings allow are built. What another trial trained is read from its record, which has to be complete and unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from harness.adapters import InsertionPoint
from harness.adapters.adapter_file import AdapterFileError, check_classes, read_adapter_file
from harness.adapters.checkpoint import check_base
from harness.adapters.filling import FiledAdapter
from harness.adapters.module_mixin import ENABLED_KEY, AdapterModuleMixin
from harness.adapters.nemo_files import fill_hosts, read_nemo_adapters, translate_targets
from harness.backbones.model import TaskModel
from harness.backbones.points import SHARES
from harness.config.adapters import STRATEGY, Member, digest_of, file_of
from harness.errors import TrialError, UserError, no_exits, text_of
from harness.instantiate import InstantiationError
from harness.records.trial_folder import TrialFolder

ADAPTER_FILE, WEIGHTS_FILE = "adapter.safetensors", "weights.safetensors"
PEFT_FOLDER = "adapter"


@dataclass
class Sources:
    """Where weights are that a trial takes.

    Attributes:
        fingerprint: of the base model; None: files of any base model will do (to count weights before one is trained).
        records: the folder with the records of other trials, by id; None: nothing is read from them, and adapters that
            come from there have first weights of their own.
        taken: filled: file in that folder -> SHA-256.
        filled: filled: the adapters that `start` of the trial gave their first weights.
        checks: filled: see `check_outputs`.
    """

    fingerprint: str | None = None
    records: Path | None = None
    taken: dict[str, str] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    checks: list[Callable[[], None]] = field(default_factory=list)

    def check_outputs(self) -> None:
        """Check that adapters that were read compute what they did; once all adapters are in place.

        Raises:
            AdapterFileError: one does not.
        """
        for check in self.checks:
            check()

    def file_of_trial(self, trial_id: str, name: str) -> Path | None:
        """A file of a trial's record that weights are taken from; None where the trial left no such file.

        Raises:
            TrialError: the trial did not complete, it adapted another base model, or the file is not there or was
                changed (reason `dependency`).
        """
        assert self.records is not None
        folder = TrialFolder(self.records / trial_id)
        record, what = folder.record(), f"it takes weights from trial {trial_id}"
        if record is None:
            raise TrialError("dependency", f"{what}, which has not been trained")
        summary, made = record.summary, record.provenance
        if summary.state != "complete":
            why = (
                f"{summary.state.value}: {summary.reason}: {summary.message}" if summary.reason else summary.state.value
            )
            raise TrialError("dependency", f"{what}, which has none: {why}")
        if made is None or (self.fingerprint is not None and made.backbone_fingerprint != self.fingerprint):
            raise TrialError("dependency", f"{what}, which were trained on another base model")
        if name not in made.files:
            return None
        path = folder.path / name
        if not path.is_file():
            raise TrialError("dependency", f"{what}, but {path} is not there; launch again to train it anew")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if made.files[name] != found:
            raise TrialError("dependency", f"{what}, but {path} was changed since it was trained")
        self.taken[f"{trial_id}/{name}"] = found
        return path


def add_member(model: TaskModel, member: Member, points: Sequence[InsertionPoint], sources: Sources) -> None:
    """Add an adapter to insertion points, enabled if it is in the chain, with the weights that it is to start from.

    Args:
        model: its encoder has the points.
        member: of the trial.
        points: all places where adapters of the trial go. One that comes from a file goes where the file says.

    Raises:
        UserError: it cannot be built, or the file does not fit.
        TrialError: another trial's weights are not there (reason `dependency`).
    """
    source = member.source
    try:
        if source is None or source.trial is not None:
            config = member.settings if member.in_chain else {**member.settings, ENABLED_KEY: False}
            with no_exits():
                model.add_adapter_to_hosts_(member.name, config, points)
        else:
            with no_exits():
                _add_from_file(model, member, points, sources)
    # A user's own class may raise anything when it is built: it is their input that is wrong.
    except Exception as error:
        text = " ".join(text_of(error).split()) or type(error).__name__
        if isinstance(error, InstantiationError) and text.startswith(("config.", "config:")):
            text = member.place + text.removeprefix("config")  # the config of this adapter, and a place in it
        raise UserError(
            text if text.startswith((f"{member.place}.", f"{member.place}:")) else f"{member.place}: {text}"
        ) from error
    if source is not None and source.trial is not None and sources.records is not None:
        if model.encoder.shares is not None:
            raise UserError(_SHARES.format(member.place))
        if not _fill_from_trial(model, member, source.trial, source.adapter, sources):
            raise TrialError("dependency", f"{member.place}: trial {source.trial} has no adapter to take weights from")


def start_from(model: TaskModel, trial_id: str, sources: Sources) -> frozenset[str]:
    """Give a base model the weights that another trial left beside its adapters; returns their names.

    Whether they change its encoder is noted there (`Encoder.starts_elsewhere`).

    Raises:
        TrialError: they are not there, or do not fit (reason `dependency`).
    """
    if sources.records is None:
        return frozenset()
    path = sources.file_of_trial(trial_id, WEIGHTS_FILE)
    if (sources.records / trial_id / PEFT_FOLDER).is_dir():  # of a class of one's own below PEFT's, too
        raise TrialError("dependency", f"it starts from trial {trial_id}, whose adapter is PEFT's: it would be lost")
    if path is None:
        return frozenset()
    weights, state = load_file(path), model.state_dict()
    before = {name: state[name].clone() for name in weights if name in state and _is_base_encoders(name)}
    try:
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    except RuntimeError as error:
        raise TrialError("dependency", f"{path}: {' '.join(str(error).split())}") from error
    if unknown:
        raise TrialError("dependency", f"{path}: the model has no weight {unknown[0]}")
    model.encoder.starts_elsewhere = not all(torch.equal(state[name], weight) for name, weight in before.items())
    return frozenset(weights)


def _is_base_encoders(name: str) -> bool:
    return name.startswith("encoder.") and not name.startswith(f"encoder.{SHARES}.")


def start_member(model: TaskModel, member: Member, trial_id: str, sources: Sources) -> None:
    """Give an adapter that is in place the weights that it had at the end of another trial, if it was there.

    What was given is noted in `sources.filled`.

    Raises:
        TrialError: as `start_from`.
    """
    if sources.records is not None and _fill_from_trial(model, member, trial_id, member.name, sources, needed=False):
        sources.filled.add(member.name)


def _fill_from_trial(
    model: TaskModel, member: Member, trial_id: str, name: str | None, sources: Sources, needed: bool = True
) -> bool:
    """Fill an adapter from a trial's record; returns whether that has it."""
    path = sources.file_of_trial(trial_id, ADAPTER_FILE)
    if path is None:
        return False
    try:
        header, tensors = _read(path, sources.fingerprint)
        if not needed and name not in header["adapters"]:
            return False
        chosen = _chosen(path, name, member.name, list(header["adapters"]))
        _fill(model, member, FiledAdapter(path, chosen, header["adapters"][chosen], tensors), sources)
    except AdapterFileError as error:
        raise TrialError("dependency", str(error)) from error
    return True


_SHARES = (
    "{}.from: at backbone.points: towards_head, the shares of the layers are learnt anew, so weights from elsewhere "
    "would not give what they gave; choose other points"
)


def _add_from_file(model: TaskModel, member: Member, points: Sequence[InsertionPoint], sources: Sources) -> None:
    assert member.source is not None and member.source.file is not None
    if model.encoder.shares is not None:
        raise UserError(_SHARES.format(member.place))
    place = f"{member.place}.from.file"
    path = file_of(member.source.file, place)
    digest_of(member.source.file, member.source.sha256, place)  # the trial's id names the content
    hosts = _hosts(model, points)
    if path.suffix == ".pt":
        _add_from_nemo(model, member, path, hosts)
        return
    header, tensors = _read(path, sources.fingerprint)
    name = _chosen(path, member.source.adapter, member.name, list(header["adapters"]))
    filed = FiledAdapter(path, name, header["adapters"][name], tensors)
    check_classes(path, name, filed.described["config"], member.source.allow)
    absent = [where for where in filed.hosts if where not in hosts]
    if absent:
        raise AdapterFileError(
            f"{path}: adapter `{name}` belongs in {', '.join(absent)}, but the trial has adapters in "
            f"{', '.join(hosts)} (backbone.layers and backbone.points)"
        )
    places = [hosts[where] for where in filed.hosts]
    model.add_adapter_to_hosts_(member.name, _config(filed.config, member), places, filed.widths)
    _fill(model, member, filed, sources)


def _add_from_nemo(model: TaskModel, member: Member, path: Path, hosts: Mapping[str, AdapterModuleMixin]) -> None:
    """NeMo's file names no layers: its adapter has one state for each place, from the lowest one up."""
    assert member.source is not None
    found = read_nemo_adapters(path)
    name = _chosen(path, member.source.adapter, member.name, list(found))
    config = translate_targets(found[name].config)
    check_classes(path, name, config, member.source.allow)
    model.add_adapter_to_hosts_(member.name, _config(config, member), list(hosts.values()))
    device = next(model.parameters()).device
    fill_hosts(model, member.name, found[name].states, device, True, str(path))


def _read(path: Path, fingerprint: str | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Header and tensors of one of our files, of the base model with this fingerprint."""
    header, tensors = read_adapter_file(path.with_name(path.name.removesuffix(".safetensors")))
    if fingerprint is not None:
        check_base(path, header, fingerprint)
    return header, tensors


def _chosen(path: Path, asked: str | None, named: str, names: Sequence[str]) -> str:
    """Which adapter of a file is meant: the one that is asked for, the only one, or that of the same name."""
    wanted = asked or (names[0] if len(names) == 1 else named)
    if wanted in names:
        return wanted
    raise AdapterFileError(f"{path}: no adapter named {wanted}; choices for from.adapter: {', '.join(names)}")


def _config(config: Mapping[str, Any], member: Member) -> dict[str, Any]:
    return {**config, **member.settings, ENABLED_KEY: member.in_chain}


def _hosts(model: TaskModel, points: Sequence[InsertionPoint]) -> dict[str, AdapterModuleMixin]:
    """Path -> host, of the insertion points of a trial."""
    ours = set(map(id, points))
    return {path: host for path, host in model.adapter_hosts_by_path_().items() if id(host) in ours}


def _fill(model: TaskModel, member: Member, filed: FiledAdapter, sources: Sources) -> None:
    hosts = model.hosts_of_adapter(member.name)
    if filed.hosts.keys() != hosts.keys():
        there = (", ".join(one) for one in (filed.hosts, hosts))
        raise AdapterFileError("{}: adapter `{}` is in {}, not in {}".format(filed.stem, filed.name, *there))
    filed.fill(hosts, member.name, next(model.parameters()).device)
    was = filed.config.get(STRATEGY)
    if member.settings.get(STRATEGY, was) == was:  # with another strategy it gives something else
        sources.checks.append(lambda: filed.check_outputs(hosts, member.name))
