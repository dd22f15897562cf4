"""The launcher whose workers are an array of Slurm jobs, submitted again while work is left.

A worker that Slurm asks to end (SIGUSR2 `notice` before the time limit, SIGTERM at a pre-emption or `scancel`) finishes
the epoch, keeps its checkpoint and ends well; what a job was about when it was killed goes on from there in the next
one. So it makes no difference why a job has ended: while trials are left, missing workers are submitted again, whether
the cluster requeues, cancels or forgets them. Slurm is asked through its own commands, `sbatch` and `squeue`.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from harness.config.base import OneLine, PositiveInt
from harness.config.durations import Duration, seconds_of
from harness.disk import append_line, read_lines
from harness.disk.network import exists_now
from harness.errors import TrialError, UserError
from harness.launch.elsewhere import ElsewhereLauncher, ElsewhereOptions, tell_workers, worker_command
from harness.launch.launcher import Tell
from harness.launch.same_folder import REFUSAL, not_seen

ASK_S = 60  # Slurm may be silent for so long
CHECK_S = 20  # and for so long where it is asked only to find a mistake sooner
START_S = 60  # what a worker takes until it trains
EARLY_S = 60  # Slurm may send the signal so much earlier than it was told
MAX_IN_VAIN = 3  # submissions in a row that no trial gained from
JOBS = "slurm/jobs.jsonl"  # in the results' folder, beside the jobs' logs: what was submitted
OURS = (
    *(
        "--array",
        "--output",
        "--error",
        "--open-mode",
        "--job-name",
        "--chdir",
        "--signal",
        "--requeue",
        "--no-requeue",
    ),
    *("--time", "--partition", "--account", "--qos", "--cpus-per-task", "--gpus", "--mem", "--ntasks", "--parsable"),
)
# What sbatch says of options that no cluster in this state or another would take. It also says that a job cannot run
# where nodes are down or a limit is reached, but that passes, and the job would wait for it.
MISTAKES = re.compile("invalid|unrecognized|ambiguous|specification|not permitted", re.IGNORECASE)
OURS_SHORT = ("-a", "-o", "-e", "-J", "-D", "-t", "-p", "-A", "-q", "-c", "-G", "-n")


def _word(text: str) -> str:
    if not re.fullmatch(r"[\w.,:@/+=%*\[\]-]+", text):
        raise ValueError(f"expected one word without quotes or spaces, got {text!r}")
    return text


def _sbatch_option(text: str) -> str:
    if not re.fullmatch(r"--?[A-Za-z][\w-]*([= ][^\"'#\s]+)?", text):
        raise ValueError(f"expected an option as --constraint=a100, got {text!r}")
    name = re.split("[= ]", text)[0]
    if name in OURS or name[:2] in OURS_SHORT:
        raise ValueError(f"{name} is set by the launcher: by an option of its own, or always in the same way")
    return text


Word = Annotated[str, AfterValidator(_word)]


class SlurmOptions(ElsewhereOptions):
    """An array of jobs, `--jobs` of them, each with one worker."""

    time_limit: Duration | None = None
    """How long a job may take, as `4h` or `"1-12:00:00"`; the partition's own limit when left out. Short jobs are
    scheduled sooner, and nothing is lost at their end."""
    notice: Duration = "2m"
    """How long before its limit a worker is asked to end. It should have time for an epoch and a checkpoint; an epoch
    that does not end in time is trained again."""
    partition: Word | None = None
    """The partition; Slurm's default when left out."""
    account: Word | None = None
    """The account that pays."""
    qos: Word | None = None
    """The quality of service."""
    cpus: PositiveInt = 1
    """Cores for each worker."""
    gpus: Word | PositiveInt | None = None
    """GPUs for each worker, as `1` or `a100:1`."""
    memory: Word | None = None
    """Memory for each worker, as `16G`."""
    sbatch: tuple[Annotated[str, AfterValidator(_sbatch_option)], ...] = ()
    """Further options of `sbatch`, as `[--constraint=a100, --nice=100]`."""
    setup: tuple[OneLine, ...] = ()
    """Lines of shell that a job runs before its worker, as `module load cuda`."""


class SlurmLauncher(ElsewhereLauncher):
    """Submits an array of Slurm jobs, each of which runs a worker, and follows what the workers train.

    The jobs go on without this command, and the same command follows them again. While it runs, it submits workers
    again that have ended while trials are left.
    """

    options_type = SlurmOptions

    def __init__(self, tell: Tell, num_workers: int = 1, num_slots: int = 1, options: Any = None) -> None:
        super().__init__(tell, num_workers, num_slots, options)
        self._num_in_vain, self._gained = 0, -1.0
        self._seen_missing = False
        self._submitted: list[str] = []

    @classmethod
    def needs(cls) -> str | None:
        missing = [program for program in ("sbatch", "squeue") if shutil.which(program) is None]
        return (
            f"{' and '.join(missing)} not on the PATH; run this on a machine that can submit jobs" if missing else None
        )

    @classmethod
    def check(cls, options: Any, num_workers: int) -> None:
        limit, notice = options.time_limit, seconds_of(options.notice)
        least = notice + EARLY_S + START_S
        if limit is not None and seconds_of(limit) < least:
            raise UserError(
                f"launcher slurm: time_limit: {limit} leaves no time to train: a worker is asked to end "
                f"{options.notice} before (`notice`), up to {EARLY_S} s sooner if Slurm likes, and takes up to "
                f"{START_S} s to begin; give at least {least}s, or a shorter notice"
            )
        if cls.needs() is None and (refusal := refusal_of(options)) is not None:
            raise UserError(f"launcher slurm: sbatch does not take its options: {refusal}")

    @classmethod
    def preview(cls, options: Any, num_workers: int, work: tuple[str, ...]) -> str:
        return script(options, num_workers, work, "RESULTS/NAME/slurm", "harness")

    def look_after_workers(self, folder: Path, num_left: int) -> None:
        jobs = live_jobs({str(line["job"]) for line in read_lines(folder / JOBS)})
        if jobs is None:
            tell_workers("slurm: squeue does not answer; the workers go on, and it is asked again")
            return
        wanted, is_first = min(self.num_workers, num_left) - len(jobs), not (folder / JOBS).exists()
        if not is_first:
            tell_workers(f"slurm: {describe(jobs)}" if jobs else "slurm: no worker is left")
        if wanted > 0 and (is_first or self._seen_missing):  # seen twice: at the end, workers end a moment before us
            if (text := not_seeing(folder, self._begin(folder), self._submitted)) is not None:
                raise UserError(f"launcher slurm: {text}")
            self._submit(folder, wanted)
            wanted = 0
        self._seen_missing = wanted > 0

    def _submit(self, folder: Path, count: int) -> None:
        """Submit workers, unless the last ones were in vain.

        Raises:
            TrialError: Slurm takes no job, or workers end again and again before they have trained anything.
        """
        gained = last_change(folder)
        self._num_in_vain = self._num_in_vain + 1 if gained == self._gained else 0
        self._gained = gained
        logs = folder / "slurm"
        if self._num_in_vain >= MAX_IN_VAIN:
            raise TrialError(
                "error",
                f"launcher slurm: workers ended {MAX_IN_VAIN} times in a row without an epoch; their logs are in "
                f"{logs}, or do they see this folder?",
            )
        logs.mkdir(parents=True, exist_ok=True)
        text = script(self.options, count, self.marked_work(folder), str(logs.resolve()), f"harness-{folder.name}")
        done = _ask("sbatch", "--parsable", text=text)
        if done is None or done.returncode:
            why = "no answer" if done is None else done.stderr.strip() or f"exit code {done.returncode}"
            raise TrialError("error", f"launcher slurm: sbatch: {why}")
        job = done.stdout.strip().partition(";")[0]
        self._submitted.append(job)
        append_line(folder / JOBS, {"job": job, "workers": count})
        tell_workers(
            f"slurm: submitted {count} worker{'s' if count > 1 else ''} as job {job}, whose logs are in {logs}"
        )


def script(options: SlurmOptions, count: int, work: tuple[str, ...], logs: str, name: str) -> str:
    """The batch script of an array of workers."""
    settings = {
        "job-name": name,
        "array": f"0-{count - 1}",
        "output": shlex.quote(f"{logs.replace('%', '%%')}/%A_%a.log"),
        "chdir": shlex.quote(os.getcwd()),
        "ntasks": 1,
        "cpus-per-task": options.cpus,
        "signal": f"B:USR2@{seconds_of(options.notice)}",
        "time": None if options.time_limit is None else slurm_time(seconds_of(options.time_limit)),
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "gpus": options.gpus,
        "mem": options.memory,
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in settings.items() if value is not None]
    lines += ["#SBATCH --open-mode=append", "#SBATCH --requeue", *(f"#SBATCH {option}" for option in options.sbatch)]
    # `exec`, so that the worker is what Slurm's signals reach.
    return "\n".join(["#!/bin/bash", *lines, *options.setup, f"exec {worker_command(options, work)}", ""])


def slurm_time(seconds: int) -> str:
    """As Slurm writes it: days-hours:minutes:seconds."""
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:{seconds:02d}"


def live_jobs(ours: set[str]) -> list[tuple[str, str, str]] | None:
    """State, reason and node of each of our jobs that waits or runs; None where Slurm does not answer."""
    # One line a job, not one an array: %F is the array's number. Jobs that Slurm has forgotten are no error this way.
    done = _ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%F|%T|%r|%N")
    if done is None or done.returncode:
        return None
    found = [line.split("|") for line in done.stdout.splitlines()]
    return [(state, reason, node) for job, state, reason, node in found if job in ours and state != "COMPLETING"]


def describe(jobs: list[tuple[str, str, str]]) -> str:
    """Where the workers are, and why the others wait: `2 running on n1, n2; 1 waiting (Resources)`."""
    nodes = sorted({node for state, _, node in jobs if state == "RUNNING"})
    running = sum(state == "RUNNING" for state, _, _ in jobs)
    others = Counter(
        f"waiting ({reason})" if state == "PENDING" else state.lower()
        for state, reason, _ in jobs
        if state != "RUNNING"
    )
    parts = [f"{running} running on {', '.join(nodes)}"] if running else []
    return "; ".join(parts + [f"{count} {what}" for what, count in sorted(others.items())])


def last_change(folder: Path) -> float:
    """When a trial of an experiment last gained an epoch or ended."""
    times = [0.0]
    for path in (*folder.glob("*/*/checkpoint.safetensors"), *folder.glob("*/*/summary.json")):
        with suppress(FileNotFoundError):  # a trial has just ended, or is tried again
            times.append(path.stat().st_mtime)
    return max(times)


def refusal_of(options: SlurmOptions) -> str | None:
    """What sbatch has against a worker's options, in its words; None where it has nothing, or cannot say."""
    done = _ask("sbatch", "--test-only", text=script(options, 1, (), os.devnull, "harness"), timeout_s=CHECK_S)
    if done is None or not done.returncode or not MISTAKES.search(done.stderr):
        return None
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith("Try "))


def not_seeing(folder: Path, since: float, jobs: Iterable[str]) -> str | None:
    """Which node does not see the results folder, by what has become of workers; None where nothing says so.

    A worker that finds no mark says so in its log. Where the log is not here either, Slurm knows on which node the job
    has failed: it writes the log there, or finds no folder for it and does not even start the worker.

    Args:
        since: when the command began, by the folder's clock: what the logs said before is over.
        jobs: those that this launcher has submitted.
    """
    logs = folder / "slurm"
    for log in sorted(logs.glob("*.log")):
        if log.stat().st_mtime >= since:
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                if REFUSAL in line:
                    return line.removeprefix("harness: ")
    for job in jobs:
        for task, node in failed_tasks(job):
            if not exists_now(logs / f"{job}_{task}.log"):
                return (
                    f"{not_seen(node, folder.resolve())} (job {job}_{task} has failed there, and its log is not here)"
                )
    return None


def failed_tasks(job: str) -> list[tuple[str, str]]:
    """Number and node of each job of an array that began and failed, as long as Slurm remembers (some minutes)."""
    done = _ask("scontrol", "--oneliner", "show", "job", job)
    found = []
    for line in [] if done is None or done.returncode else done.stdout.splitlines():
        said = dict(reversed(re.findall(r"(?:^|\s)(\w+)=(\S*)", line)))  # the first counts: comments stand at the end
        if said.get("JobState") == "FAILED" and said.get("BatchHost"):
            found.append((said.get("ArrayTaskId", ""), said["BatchHost"]))
    return sorted(found)


def _ask(*command: str, text: str | None = None, timeout_s: float = ASK_S) -> subprocess.CompletedProcess[str] | None:
    """Run one of Slurm's commands; None where it does not answer."""
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout_s)
    except (subprocess.TimeoutExpired, OSError):
        return None
