"""The two exceptions a caller of napari-recon needs to know."""


class ReconError(Exception):
    """A mistake the user can mend: what is wrong, and what to do next.

    Everything that is not a `ReconError` (or `Cancelled`) is a bug of ours and is never swallowed.

    Parameters
    ----------
    problem : str
        What is wrong, as one sentence.
    hint : str
        The next step, as one sentence.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem} {hint}".strip())


class Cancelled(Exception):
    """The caller asked to stop through a `CancelToken` before there was a result to return."""
