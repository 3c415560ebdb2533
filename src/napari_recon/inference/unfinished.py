"""The record of a run that fills stores chunk by chunk, so that an interrupted one goes on where it stopped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from napari_recon.errors import ReconError
from napari_recon.io._files import check_distinct, check_store, take_place

SUFFIX = ".partial"
_STATE = "napari-recon-run.json"
_DONE = "napari-recon-done.jsonl"


class Unfinished:
    """Stores that a run fills together; each gets its name when all are complete.

    Until then they are beside it, as ``NAME.partial``. The first of them holds the settings of the run and a line for
    every job whose chunks are written.

    Parameters
    ----------
    paths : sequence of Path
        Where the stores will be.
    settings : dict
        What the result depends on, as JSON types: a run goes on only with the same.
    """

    def __init__(self, paths: Sequence[Path], settings: dict[str, Any]) -> None:
        self.paths = [p.expanduser() for p in paths]
        self.folders = [p.with_name(p.name + SUFFIX) for p in self.paths]
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.state: dict[str, Any] = {}
        self.done: dict[int, dict[str, Any]] = {}
        self._log: Any = None

    @classmethod
    def find(cls, paths: Sequence[Path], settings: dict[str, Any]) -> Self:
        """Take up an earlier run of these settings, or prepare a new one.

        Returns
        -------
        Unfinished
            Its `state` is what `start` was given, empty for a new run; `done` has an entry for every job that is done.

        Raises
        ------
        ReconError
            When there is a run with other settings, or something else has one of the names.
        """
        check_distinct(*paths)
        run = cls(paths, settings)
        for path, folder in zip(run.paths, run.folders, strict=True):
            check_store(path)
            check_store(folder)
        state = run._read_state()
        if state and all((f / "0").is_dir() for f in run.folders):  # else the run was killed at its beginning or end
            run._compare(state["settings"])
            run.state, run.done = state["state"], run._read_done()
        return run

    def start(self, state: dict[str, Any]) -> None:
        """Note what a run that goes on must know; call it when the stores are there, empty."""
        self.state = state
        text = json.dumps({"settings": self.settings, "state": state})
        # A file that is there is whole: its name comes last.
        new = self.folders[0] / (_STATE + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.folders[0] / _STATE)

    def note(self, job: int, **more: Any) -> None:
        """Note that the chunks of a job are written."""
        self.done[job] = more
        if self._log is None:
            self._log = (self.folders[0] / _DONE).open("a", encoding="utf-8")
        self._log.write(json.dumps({"job": job, **more}) + "\n")
        self._log.flush()

    def refuse(self, other: Sequence[str]) -> None:
        """Raise: there is a run, but what is named was another then."""
        raise ReconError(
            f"{self.folders[0]} holds an unfinished run with another {', another '.join(other)}.",
            "Run it with the same settings to finish it, or remove that folder to begin anew.",
        )

    def close(self) -> None:
        """Let go of the record."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def finish(self) -> None:
        """Give the stores their names."""
        self.close()
        # The one with the record last: a run that is killed here finds it again.
        for folder, path in reversed(list(zip(self.folders, self.paths, strict=True))):
            take_place(folder, path)
        for name in (_DONE, _STATE):
            (self.paths[0] / name).unlink(missing_ok=True)

    def _read_state(self) -> Any:
        try:
            return json.loads((self.folders[0] / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _read_done(self) -> dict[int, dict[str, Any]]:
        done = {}
        try:
            lines = (self.folders[0] / _DONE).read_text(encoding="utf-8").split("\n")
        except OSError:
            return {}
        for line in lines[:-1]:  # what lacks the end of its line was cut short
            entry = json.loads(line)
            done[int(entry.pop("job"))] = entry
        (self.folders[0] / _DONE).write_text("".join(line + "\n" for line in lines[:-1]), encoding="utf-8")
        return done

    def _compare(self, earlier: dict[str, Any]) -> None:
        names = {*earlier, *self.settings}
        other = sorted(n for n in names if earlier.get(n) != self.settings.get(n))
        if other:
            self.refuse(other)
