"""Scalars for TensorBoard, in the run's folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Scalars for TensorBoard, each row written at once.

    tensorboardX's own writer has a thread for it, which a full disk ends without a word: whoever
    waits for it then waits for ever.
    """

    def __init__(self, *, folder: Path, config: Mapping[str, Any], since: int) -> None:
        """Begin a file; what others in the folder say of later steps is not to be shown."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._event = event_pb2.Event
        self._file = EventsWriter(str(folder / "events"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._file.write_event(self._event(step=since, session_log=start))

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        event = self._event(step=env_steps, wall_time=time.time())
        for name, value in values.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._file.write_event(event)
        self._file.flush()

    def close(self) -> None:
        self._file.close()
