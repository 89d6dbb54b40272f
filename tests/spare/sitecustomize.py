"""Hides libraries from Python processes that the tests start, where TensorFlow and Keras import them if they are there.

To import them takes as long as TensorFlow itself. Python runs the first module of this name on its path.
"""

import os
import sys

# Names with spaces between; a test whose process needs one sets it otherwise. A backend that Keras has is needed.
spared = {*os.environ.get("MPNCOV_ZOO_TESTS_SPARE", "").split()} - {os.environ.get("KERAS_BACKEND")}
sys.modules |= dict.fromkeys(spared)
