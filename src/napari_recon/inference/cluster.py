"""Do the jobs of a run on the workers of a dask.distributed scheduler."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

from napari_recon.errors import ReconError
from napari_recon.inference.runner import Job
from napari_recon.inference.streaming import Answer, Work, Workers
from napari_recon.progress import CancelToken

PATIENCE = 20  # seconds until a scheduler must have answered, and have a worker
AHEAD = 2  # jobs a worker's thread has, so that it need not wait for the next


def on_cluster(address: str) -> Workers:
    """Make what does jobs on a cluster: each worker gets the model once, and one job at a time.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``"tcp://10.0.0.5:8786"``. What the image is read from must be there for the workers
        too; results come back to this process, which writes them.
    """

    def run(work: Work, jobs: Iterator[tuple[int, Job]], cancel: CancelToken) -> Generator[Answer, None, None]:
        client = _connect(address)
        try:
            yield from _answers(client, work, jobs, cancel)
        finally:
            client.close()

    return run


def _connect(address: str) -> Any:
    try:
        from distributed import Client
        from distributed.comm.addressing import resolve_address
    except ImportError as error:
        raise ReconError(
            "The package for clusters is not installed.", "Run: pip install 'napari-recon[cluster]'."
        ) from error
    make: Any = Client
    check: Any = resolve_address
    try:
        check(address)  # a client that was never made takes most of a minute to go away
        # Not the default of dask: in this process images are still read by its own threads.
        client = make(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ReconError(
            f"No scheduler answers at {address} ({error}).", "Start one with `dask scheduler`; it prints its address."
        ) from error
    try:
        client.wait_for_workers(1, timeout=PATIENCE)  # in a job of a cluster they start together with this process
    except TimeoutError as error:
        client.close()
        raise ReconError(
            f"The scheduler at {address} has no workers.", f"Start some: dask worker {address}."
        ) from error
    return client


def _answers(
    client: Any, work: Work, jobs: Iterator[tuple[int, Job]], cancel: CancelToken
) -> Generator[Answer, None, None]:
    from distributed import KilledWorker, as_completed

    collect: Any = as_completed
    held = client.scatter(work, broadcast=True)
    ahead = AHEAD * sum(client.nthreads().values())
    first = [client.submit(_do, held, *entry, pure=False) for entry in islice(jobs, ahead)]
    waiting = collect(first, loop=client.loop)
    del first  # else their results would stay with the workers
    for future in waiting:
        cancel.raise_if_cancelled()
        try:
            answer: Answer = future.result()
        except KilledWorker as error:
            raise ReconError(
                "A tile was given up, as several workers died over it.",
                "Give them more memory, or take a smaller tile size. What is done is kept.",
            ) from error
        future.release()
        for entry in islice(jobs, 1):
            waiting.add(client.submit(_do, held, *entry, pure=False))
        yield answer


def _do(work: Work, number: int, job: Job) -> Answer:
    import dask

    # Else the pixels would be read by further tasks of the cluster, for which this one would have to wait.
    with dask.config.set(scheduler="threads"):
        return work.answer(number, job)
