"""How much memory is free; known without psutil too, as on a cluster that has the numerical packages alone."""

import os


def available_memory() -> int:
    """Bytes that programs may still use on this machine."""
    try:
        import psutil
    except ImportError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)
