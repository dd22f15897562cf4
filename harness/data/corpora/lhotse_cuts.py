"""Cuts of lhotse, one a line of a .jsonl or .jsonl.gz file, read without lhotse: a MonoCut with one supervision.

The piece of the recording that is read is the supervision's, as `trim_to_supervisions()` cuts it.

What is no plain piece of one audio file is refused: mixed, padded and multi-channel cuts, features without their
recording, transforms (speed, volume), and sources that are a command, an address or bytes. No command is run.
"""

from collections.abc import Mapping
from typing import Any

from harness.data.errors import DataError

KINDS = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")
TRIM = "call trim_to_supervisions() on the cuts"


def is_of_lhotse(item: object) -> bool:
    """Whether an object of a JSON file is one of lhotse's: a cut, a recording or a supervision."""
    if not isinstance(item, dict):
        return False
    is_recording = isinstance(item.get("sources"), list) and "sampling_rate" in item
    is_supervision = {"recording_id", "start", "duration"} <= item.keys()
    return item.get("type") in KINDS or "supervisions" in item or is_recording or is_supervision


def columns_of_cut(place: str, cut: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a cut: path, offset, duration, text, and speaker and language where they are known.

    Raises DataError with `place` for everything that is no piece of one channel of one file with one text.
    """
    try:
        return _columns(place, cut)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{place}: no cut as lhotse writes it: {type(error).__name__}: {error}") from error


def _columns(place: str, cut: Mapping[str, Any]) -> dict[str, Any]:
    if "supervisions" not in cut and cut.get("type") not in KINDS:
        raise DataError(
            f"{place}: a recording or supervision of lhotse; expected cuts: CutSet.from_manifests(recordings=..., "
            "supervisions=...).trim_to_supervisions().to_file('cuts.jsonl.gz')"
        )
    kind = cut.get("type", "MonoCut")
    if kind != "MonoCut":
        raise DataError(f"{place}: a {kind} of lhotse; only a MonoCut is a piece of one recording")
    recording = cut.get("recording")
    if recording is None:
        raise DataError(f"{place}: a cut with features alone; audio is needed, so save the cuts with their recordings")
    if recording.get("transforms"):
        raise DataError(f"{place}: a recording with transforms (speed, volume ...), which only lhotse can apply")
    sources = recording["sources"]
    if len(sources) != 1 or len(sources[0]["channels"]) != 1:
        raise DataError(f"{place}: a recording with several channels or files; save the cuts with one channel each")
    if sources[0]["type"] != "file":
        what = f"{sources[0]['type']} {str(sources[0]['source'])[:60]!r}"
        raise DataError(f"{place}: the audio is a {what}, which is not read or run; save the cuts with audio files")
    supervisions = cut["supervisions"]
    if len(supervisions) > 1:
        raise DataError(f"{place}: a cut with {len(supervisions)} supervisions, expected one; {TRIM}")
    said = supervisions[0] if supervisions else {}
    columns = {
        "path": sources[0]["source"],
        "offset": round(float(cut["start"]) + float(said.get("start", 0.0)), 6),
        "duration": said.get("duration", cut["duration"]),
        **{ours: said.get(ours) for ours in ("text", "speaker", "language", "gender")},
        **{name: value for name, value in (said.get("custom") or {}).items() if isinstance(value, (str, int, float))},
    }
    return {name: value for name, value in columns.items() if value is not None}
