"""`tenor` with inference threads that can be killed: `python -m serve.tenor_killable serve RUN …`.

SIGUSR1 ends the thread `tenor-inference-0` wherever it is, SIGUSR2 all inference threads.
"""

import ctypes
import signal
import sys
import threading

from tenor.cli.main import main


class Killed(BaseException):
    """Raised in a thread by a signal."""


def kill(number: int, _: object) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("tenor-inference-0" if number == signal.SIGUSR1 else "tenor-inference-"):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Killed))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, kill)
    signal.signal(signal.SIGUSR2, kill)
    sys.exit(main())
