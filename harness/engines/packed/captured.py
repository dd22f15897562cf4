"""Steps from static buffers: on a GPU captured as CUDA graphs, so that a launch costs the host one call.

A graph replays the same kernels on the same memory, so that whatever a step reads lies in buffers of its own, and the
weights and moments are taken from, and put back to, the rows whose numbers are among the inputs. Nothing in the graph
knows which trials these are: neighbours come and go without a new one.

Where nothing is recorded (no recorder, a kind that is still rare, a capture that failed) the same device part runs
from the same buffers.

Shape legend: K slots, R rows of a launch or of a pack, C numbers of a slot's own, P numbers in a row of weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.adapters import functional
from harness.engines.packed.pack import Pack
from harness.engines.packed.steps import OPTIONS, ROW, HostStep, StepInputs, StepKind, inputs_of, take_step
from harness.errors import first_line

CAPTURE_AFTER = 16  # steps of a kind before it is captured: that costs as much as several
UNTRIED = "the steps of packs are captured as CUDA graphs, which has not been run on a GPU yet: compare a trial without"
KEPT = 32  # kinds with buffers of their own; the one that was used longest ago goes first
WARM_UPS = 3  # steps on a side stream before a capture, as torch's documentation advises

_CUDA: Any = torch.cuda  # whose streams have no types
Replay = Callable[[], object]
Recorder = Callable[[Callable[[], None]], Replay]
"""Runs a device part any number of times, and gives what runs it again."""


class CudaRecorder:
    """Captures CUDA graphs that share one pool of memory.

    That is safe, in whatever order they are replayed: all that outlasts a replay lies in buffers outside of the pool,
    and the replays are on one stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = _CUDA.Stream(device)
        self.pool = _CUDA.graph_pool_handle()

    def __call__(self, device_part: Callable[[], None]) -> Replay:
        """Warm up and capture; when it returns or raises, the current stream waits for what was run.

        Raises:
            RuntimeError: something in the device part cannot be captured, or memory ran out.
        """
        current = _CUDA.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with _CUDA.stream(self.stream):
                for _ in range(WARM_UPS):
                    device_part()
            graph = _CUDA.CUDAGraph()
            with _CUDA.graph(graph, pool=self.pool, stream=self.stream):
                device_part()
        finally:
            _CUDA.set_stream(current)  # a capture that fails leaves the other one
            current.wait_stream(self.stream)
        replay: Replay = graph.replay
        return replay


class CapturedStep:
    """One kind of step: its static buffers, and its graph once it has been captured."""

    def __init__(self, pack: Pack, kind: StepKind) -> None:
        self.pack, self.kind = pack, kind
        self.rows_3RP = pack.rows_3RP  # these very rows: whoever adds rows needs other steps
        self.inputs = _empty_inputs(pack, kind)
        self.losses_2K = self.rows_3RP.new_zeros((2, kind.num_slots))
        self.num_runs = 0
        self.replay: Replay | None = None

    def device_part(self) -> None:
        """Read the buffers and the slots' rows, take the step, write the rows and the losses."""
        places_K = self.inputs.values_KC[:, ROW].long()
        rows_3KP = self.rows_3RP.index_select(1, places_K)
        losses_2K = take_step(self.pack, self.kind, self.inputs, rows_3KP)
        self.rows_3RP.index_copy_(1, places_K, rows_3KP)
        self.losses_2K.copy_(losses_2K)

    def record(self, recorder: Recorder) -> None:
        """Capture the device part, on the inputs that lie in the buffers; the rows are left as they were.

        Raises:
            RuntimeError: as the recorder.
        """
        places_K = self.inputs.values_KC[:, ROW].long()
        saved_3KP = self.rows_3RP.index_select(1, places_K)  # the recorder's warm-ups are real steps on these rows
        try:
            self.replay = recorder(self.device_part)
        finally:
            self.rows_3RP.index_copy_(1, places_K, saved_3KP)

    def run(self) -> Tensor:
        """Take the step whose inputs lie in the buffers; a copy of its losses, [2, K], on the device."""
        self.num_runs += 1
        losses_2K = torch.empty_like(self.losses_2K)  # before the step: one that fails must have changed nothing
        if self.replay is None:
            self.device_part()
        else:
            self.replay()
        return losses_2K.copy_(self.losses_2K)


class CapturedSteps:
    """The kinds of steps of a pack that were met last.

    Args:
        pack: whose steps they are.
        recorder: captures them; without one they run from their buffers.
        why_not: why there is none, told once; None where nothing has to be told.
        capture_after: steps of a kind before it is captured.
        most: kinds that are kept.
    """

    def __init__(
        self,
        pack: Pack,
        recorder: Recorder | None,
        why_not: str | None = None,
        capture_after: int = CAPTURE_AFTER,
        most: int = KEPT,
    ) -> None:
        self.pack, self.recorder = pack, recorder
        self.capture_after, self.most = capture_after, most
        self.kept: OrderedDict[StepKind, CapturedStep] = OrderedDict()
        self._notes = [] if why_not is None else [f"trials that train together run without CUDA graphs: {why_not}"]

    def run(self, host: HostStep) -> Tensor:
        """Take a step; its losses, [2, K], on the device."""
        if any(step.rows_3RP is not self.pack.rows_3RP for step in self.kept.values()):
            self.release()  # rows were added: the others write where nobody reads any more
        step = self._step(host.kind)
        inputs_of(self.pack, host, step.inputs)
        if step.replay is None and step.num_runs >= self.capture_after:
            self._record(step)
        return step.run()

    def _step(self, kind: StepKind) -> CapturedStep:
        if kind not in self.kept:
            while len(self.kept) >= self.most:
                self._wait()
                self.kept.popitem(last=False)
            self.kept[kind] = CapturedStep(self.pack, kind)
        self.kept.move_to_end(kind)
        return self.kept[kind]

    def _record(self, step: CapturedStep) -> None:
        if self.recorder is None:
            return
        try:
            step.record(self.recorder)
        except Exception as error:  # whatever it is, the same step can be taken without
            cause = first_line(error)
            self.recorder = None
            self.tell(f"a step could not be recorded as a CUDA graph, so further steps run without: {cause}")

    def release(self) -> None:
        """Give buffers and graphs back; they are made anew when they are needed."""
        self._wait()
        self.kept.clear()

    def _wait(self) -> None:
        """Wait for the device: a graph must not be freed while it runs."""
        if self.pack.rows_3RP.device.type == "cuda":
            torch.cuda.synchronize(self.pack.rows_3RP.device)

    def tell(self, note: str) -> None:
        """Have a message told to the user."""
        self._notes.append(note)

    def take_notes(self) -> list[str]:
        """Take the messages for the user, so that each is told once."""
        notes, self._notes = self._notes, []
        return notes


def captured_on(pack: Pack, is_asked: bool) -> CapturedSteps | None:
    """The captured steps of a pack on a GPU, if they are asked for; on a CPU running directly copies less."""
    device = pack.rows_3RP.device
    if device.type != "cuda" or not is_asked:
        return None
    why_not = pack.task.why_not_captured
    captured = CapturedSteps(pack, CudaRecorder(device) if why_not is None else None, why_not)
    captured.tell(UNTRIED)
    return captured


def _empty_inputs(pack: Pack, kind: StepKind) -> StepInputs:
    rows, num_rows = pack.rows_3RP, kind.num_slots * kind.num_rows
    num_layers = len(pack.model.depth_fractions)
    drawn = functional.noise_shape((kind.num_rows, kind.num_steps, 1), kind.noise or "batch")
    whole = rows.new_zeros(0, dtype=torch.int64)
    return StepInputs(
        x_RTD=rows.new_zeros((num_rows, kind.num_steps, pack.model.width), dtype=kind.dtype),
        lengths_R=whole.new_zeros(num_rows),
        targets_RS=whole.new_zeros((num_rows, kind.num_targets), dtype=kind.target_dtype),
        target_lengths_R=whole.new_zeros(num_rows),
        values_KC=rows.new_zeros((kind.num_slots, OPTIONS + len(pack.kind.options) + num_layers)),
        noise_L=[] if kind.noise is None else [rows.new_zeros((kind.num_slots, *drawn)) for _ in range(num_layers)],
    )
