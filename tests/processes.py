"""Python in a process of a test's own, as where TensorFlow and Keras find no library to import but their own."""

import subprocess
import sys
from typing import Any

from mpncov_zoo.quiet import SPARED

BESIDE = ("jax", *SPARED)  # importing them takes as long as importing TensorFlow and Keras


def run_python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code to its end, whatever it returns; `options` are those of `subprocess.run`."""
    code = f"import sys\nsys.modules |= dict.fromkeys({BESIDE})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
