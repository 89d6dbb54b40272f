"""Found by Python processes that the tests start: there TensorFlow and Keras find no library to import but their own.

Those that they look for take as long to import as they do themselves.
"""

import os
import sys

# Names with spaces between. A test whose process needs one of these libraries sets it otherwise.
spared = {*os.environ.get("MPNCOV_ZOO_TESTS_SPARE", "").split()} - {os.environ.get("KERAS_BACKEND")}
sys.modules |= dict.fromkeys(spared)
