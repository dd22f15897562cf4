"""The child process that speaks: reads jobs as JSON lines, writes one WAV file each. Run by synthetic_speech.py.

The synthesiser (SVOX Pico, through py-nanotts) reads memory that it has not written. In a process of its own, in which
malloc hands out large blocks fresh from the system (all zero), its output is the same every time and it does not crash;
inside a process full of torch it does. So nothing here imports torch, and the parent sets MALLOC_MMAP_THRESHOLD_.
"""

import json
import sys
from pathlib import Path

import numpy as np

from harness.data.audio_files import write_audio
from harness.data.cache import staging_file

RATE = 16000  # Hz, the synthesiser's own


def render_jobs() -> None:
    """Speak every job on standard input: {"path", "text", "voice", "speed", "pitch"}."""
    from py_nanotts import NanoTTS  # here: it is an optional extra

    engine = NanoTTS()
    for line in sys.stdin:
        job = json.loads(line)
        pcm = engine.speak(job["text"], voice=job["voice"], speed=job["speed"], pitch=job["pitch"])
        with staging_file(Path(job["path"])) as path:
            write_audio(path, np.frombuffer(pcm, dtype="<i2"), RATE)


if __name__ == "__main__":
    render_jobs()
