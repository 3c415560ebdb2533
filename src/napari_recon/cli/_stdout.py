"""Standard output as the commands write to it."""

import os
from collections.abc import Callable
from typing import Any, TextIO

from napari_recon.errors import ReconError


class Stdout:
    """Standard output, of which it is told in one line that it cannot be written, as when its disk is full.

    Parameters
    ----------
    stream : file
        What is written to; all but `write` and `flush` is its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write a text."""
        self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        """Write what is still kept."""
        self._try(self._stream.flush)

    def _try(self, do: Callable[[], Any]) -> None:
        try:
            do()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # it shall not be tried again at the exit
            if not isinstance(error, BrokenPipeError):  # `head`, say, has read enough
                problem = f"The answer could not be written to stdout ({error.strerror})."
                raise ReconError(problem, "Free some space, or send it elsewhere.") from error
