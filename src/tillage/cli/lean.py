"""Keeps a command short: imports that libraries try only to see whether they would succeed, garbage, memory.

numba imports scipy's BLAS and cffi as soon as the first kernel is loaded, pyarrow imports pandas as soon as
the first array is made. None is used here, and where other packages have brought them along they take a
quarter of a second. Both libraries go on without, and import pandas later where somebody really needs it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ASKED = ("scipy.linalg", "cffi", "pandas")


class _Absent(MetaPathFinder):
    """Says of some modules that they are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def spare_imports() -> None:
    """Let numba and pyarrow, where they are loaded, ask for such modules now, and deny them.

    To be called once whatever a user brings has been loaded: a module that is there by then is left alone,
    since its objects may come along.
    """
    absent = _Absent(*(name for name in _ASKED if name not in sys.modules))
    sys.meta_path.insert(0, absent)
    try:
        with uncollected():
            if "numba" in sys.modules:
                import_module("numba.np.arraymath")
                target = import_module("numba.core.registry").cpu_target
                # What the first kernel would load of numba's own.
                target.typing_context.refresh()
                target.target_context.refresh()
            if "pyarrow" in sys.modules:
                import_module("pyarrow").array([None])
    finally:
        sys.meta_path.remove(absent)


def reuse_memory() -> None:
    """Let Arrow, where it is loaded, take its memory from the C library, which keeps what was freed.

    pyarrow's own allocator gives it back, and clearing fresh pages took a tenth of a run's processor time.
    """
    if "pyarrow" in sys.modules:
        arrow = import_module("pyarrow")
        arrow.set_memory_pool(arrow.system_memory_pool())


@contextmanager
def uncollected() -> Generator[None]:
    """Without garbage collection: modules that are being loaded leave none, and looking for it takes a fifth
    of the time of loading them. What there is then is not looked through again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
