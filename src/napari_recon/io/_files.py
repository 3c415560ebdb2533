"""What all formats share: whole files or none, and errors that say what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from napari_recon.errors import ReconError
from napari_recon.memory import available_memory

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MARKS = (".zgroup", ".zarray", ".zattrs", "zarr.json")  # one of them is in every Zarr folder


def check_local(path: Path) -> None:
    """Refuse an address such as ``s3://bucket/name``, which would be taken for a folder called ``s3:``."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:([/\\]|$)", str(path)):  # a drive has one letter
        raise ReconError(f"{path} is an address, not a file on this machine.", "Copy it here, or give a local name.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system raises while `path` is written into a `ReconError`."""
    check_local(path)
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a temporary file beside `path` that takes its place when the block succeeds.

    A crash, a full disk or an exception leaves an older file at `path` as it was, and no temporary file.

    Raises
    ------
    ReconError
        When the file cannot be written.
    """
    target = path.resolve()  # so that a link stays a link
    temporary = target.with_name(f".{uuid4().hex}.part")
    try:
        with writing(path):
            temporary.touch()
            mode = temporary.stat().st_mode  # some writers make files that only their owner may read
            yield temporary
            temporary.chmod(mode)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # some disks report only now that they are full
            temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Do as `replacing` does, for a Zarr folder."""
    check_store(path)
    temporary = path.resolve().with_name(f".{uuid4().hex}.part")
    try:
        with writing(path):
            temporary.mkdir()
            yield temporary
            take_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_place(folder: Path, path: Path) -> None:
    """Give a finished folder its name; an older one of that name goes once the new one stands there."""
    target = path.resolve()
    if not target.exists():
        folder.replace(target)
        return
    old = target.with_name(f".{uuid4().hex}.old")
    target.replace(old)
    try:
        folder.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from filling `path` meanwhile; the system lets go of it when this one dies.

    Raises
    ------
    ReconError
        When another process has it, or there is no place for it.
    """
    lock = path.with_name(path.name + ".lock")
    make_folder(lock.parent)
    with writing(path):
        file = lock.open("a")
    with file:
        if not _take(file, lock):
            raise ReconError(f"Another process is working on {path}.", "Wait until it ends, or stop it.")
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


def _take(file: IO[str], lock: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # as on Windows, which has no such locks
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())  # else it was given back and removed just now
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return True


def is_store(path: Path) -> bool:
    """Whether this is a Zarr folder."""
    return path.is_dir() and any((path / mark).exists() for mark in _MARKS)


def check_store(path: Path) -> None:
    """Refuse to replace what is no Zarr folder, and may hold anything."""
    if path.exists() and not is_store(path) and (path.is_file() or any(path.iterdir())):
        raise ReconError(f"{path} exists and is not a Zarr folder.", "Choose another name, or remove it first.")


def check_distinct(*paths: Path | None) -> None:
    """Raise when two results would have the same name, so that the later would replace the earlier."""
    names = [path.expanduser().resolve() for path in paths if path is not None]
    if len(set(names)) < len(names):
        raise ReconError("Two results have the same file.", "Give each a file of its own.")


@contextmanager
def reading(path: Path, folder: bool = False) -> Iterator[None]:
    """Turn what a decoder raises on a missing, unreadable or damaged file (or folder) into a `ReconError`."""
    check_local(path)
    try:
        if not path.is_dir() and path.stat().st_size == 0:
            raise ReconError(f"{path} is an empty file.", "Export or copy it again.")
        if path.is_dir() != folder:
            raise ReconError(
                f"{path} is a {'file' if folder else 'folder'}.",
                "An OME-Zarr image is a folder: unpack it, if it is an archive."
                if folder
                else "Give one image file in it.",
            )
        yield
    except ReconError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.exists():
            raise ReconError(f"A part of {path} is missing ({error}).", "Export or copy all of it again.") from error
        raise ReconError(f"There is no file {path}.", "Check its name and folder.") from error
    except PermissionError as error:
        raise ReconError(f"{path} may not be read.", "Ask its owner for permission, or copy it.") from error
    except MemoryError as error:
        raise ReconError(f"{path} does not fit into memory.", "Crop it in another program first.") from error
    except Exception as error:  # on damaged bytes decoders raise whatever comes, from KeyError to struct.error
        hint = "It may be damaged or cut short: export or copy it again, or save it as TIFF in another program."
        if "imagecodecs" in str(error):
            hint = "Run `pip install imagecodecs`, or save it uncompressed in another program."
        raise ReconError(f"{path} cannot be read ({type(error).__name__}: {error}).", hint) from error


def check_memory(nbytes: int, what: str) -> None:
    """Refuse what is larger than the free memory, before it is allocated."""
    free = available_memory()
    if nbytes > free:
        raise ReconError(
            f"{what} needs {nbytes / 2**30:.1f} GiB of memory, but only {free / 2**30:.1f} GiB are free.",
            "Crop it or take fewer planes, or close other programs.",
        )


def check_writable(path: Path) -> None:
    """Fail before the work, not after it, when the result has nowhere to go."""
    folder = path.parent
    with writing(path):  # a name may be too long even to be looked for
        if not folder.is_dir():
            raise ReconError(f"The folder {folder} does not exist.", "Make it, or choose another.")
        if not os.access(folder, os.W_OK):
            raise ReconError(f"The folder {folder} may not be written to.", "Ask for permission, or choose another.")
        if path.is_dir() and not is_store(path):
            raise ReconError(f"{path} is a folder.", "Give the name of a file in it.")


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises `ReconError` when that is not possible."""
    check_local(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReconError(f"The folder {path} cannot be made ({error}).", "Choose another one.") from error


def _write_error(path: Path, error: OSError) -> ReconError:
    if error.errno in _FULL:
        return ReconError(f"The disk is full, {path} was not written.", "Free some space, or choose another folder.")
    if error.errno in _FORBIDDEN:
        return ReconError(f"{path} may not be written.", "Choose another folder, or ask for permission.")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ReconError(f"There is no folder {path.parent}.", "Create it, or choose another folder.")
    return ReconError(f"{path} could not be written ({error}).", "Check the folder and its free space.")
