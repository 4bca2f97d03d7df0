"""Import Keras without the log lines that TensorFlow's native code prints at start-up.

They are written before any Python code could turn them off, straight to file descriptor 2, and would stand in every
notebook's first output. So would TensorFlow's warning of many models traced in one process, which is what a study does.
Errors are exceptions and are not lost.
"""

import logging
import os
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _silent_stderr():
    try:
        saved = os.dup(2)
    except OSError:  # no standard error, as under pythonw
        yield
        return
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with _silent_stderr():
    import keras  # noqa: F401

logging.getLogger("tensorflow").setLevel(logging.ERROR)
