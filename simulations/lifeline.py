"""A command that ends with the process that started it, also when that one was killed and could end nothing itself.

`python -m simulations.lifeline PARENT MODULE ...` runs a module as `python -m MODULE ...` does. On Linux the kernel
sends it SIGTERM when process PARENT has died; elsewhere it runs on (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1


def main() -> None:
    """Bind this process to its parent, then become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            sys.exit(128 + signal.SIGTERM)  # it died before it was asked for
    del sys.argv[:2]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
