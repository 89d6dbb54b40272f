"""From a feature map to one vector an image: the layers, and for each a function `(features, *, options) -> endpoints`.

`BUILDERS` holds these functions under the names of `mpncov_zoo.registry.REPRESENTATIONS`. An endpoint is a tensor under
a name; the last one is the representation, (batch, features).
"""

from collections.abc import Callable, Mapping

from keras import KerasTensor

from mpncov_zoo.representations import bcnn, cbp, gap, mpncov
from mpncov_zoo.representations.bcnn import BCNN
from mpncov_zoo.representations.cbp import CBP
from mpncov_zoo.representations.diagnosis import Diagnosis, diagnose
from mpncov_zoo.representations.gap import GAP
from mpncov_zoo.representations.mpncov import MPNCOV

__all__ = ["BCNN", "BUILDERS", "CBP", "GAP", "MPNCOV", "Diagnosis", "diagnose"]

BUILDERS: Mapping[str, Callable[..., dict[str, KerasTensor]]] = {
    "bcnn": bcnn.bcnn,
    "cbp": cbp.cbp,
    "flatten": gap.flatten,
    "gap": gap.gap,
    "mpncov": mpncov.mpncov,
}
