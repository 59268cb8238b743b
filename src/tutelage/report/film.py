"""Films: frames become an mp4 that browsers play, and its first frame is found again."""

import io
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from tutelage.errors import UserError
from tutelage.files import write_atomic
from tutelage.report import needs
from tutelage.types import Array

FPS = Fraction(75, 2)
"""Env steps per second of film: 2.5 times Atari's own 15, so 2000 steps last 53 seconds."""
BITS_PER_SECOND = 200_000
"""A cap that real play rarely meets: 53 seconds stay under 1.4 MB, whatever the game."""


def write_film(frames: Iterable[Array], path: Path) -> None:
    """Write frames ``[height,width,3]``, uint8 RGB of even sides, as H.264 in yuv420p.

    Raises UserError if PyAV is missing, cannot encode, or ``path`` cannot be written.
    """
    with needs("video"):
        import av
    first, *_ = head = [next(frames := iter(frames))]
    # The index goes to the front (faststart) by reading the file again, so a buffer will not do.
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "film.mp4"
        try:
            with av.open(str(draft), "w", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", rate=FPS)
                stream.height, stream.width = first.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {
                    "crf": "24",
                    "tune": "animation",
                    "maxrate": str(BITS_PER_SECOND),
                    "bufsize": str(2 * BITS_PER_SECOND),
                }
                for rgb in chain(head, frames):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
                container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            raise UserError(f"cannot encode {path}: {error}") from error
        write_atomic(path, draft.read_bytes())


def first_frame(film: bytes, name: str) -> Array:
    """Return the first frame of an mp4, ``[height,width,3]`` uint8 RGB.

    Raises UserError, calling it ``name``, for anything else than a film.
    """
    with needs("video"):
        import av
    try:
        with av.open(io.BytesIO(film), "r", format="mp4") as container:
            return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise UserError(f"{name} is no mp4 video") from error
