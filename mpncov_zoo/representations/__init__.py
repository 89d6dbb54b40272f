"""From a feature map to one vector an image: the layers, and for each a function `(features, *, options) -> endpoints`.

`mpncov_zoo.registry.REPRESENTATIONS` says which function a name stands for; an endpoint is a tensor under a name, the
last one is the representation, (batch, features).
"""

from mpncov_zoo.representations.bcnn import BCNN
from mpncov_zoo.representations.cbp import CBP
from mpncov_zoo.representations.diagnosis import Diagnosis, diagnose
from mpncov_zoo.representations.gap import GAP
from mpncov_zoo.representations.mpncov import MPNCOV

__all__ = ["BCNN", "CBP", "GAP", "MPNCOV", "Diagnosis", "diagnose"]
