"""The exceptions of mpncov_zoo.

ZooError
├── UnknownModel          no model of that name
├── NoPretrainedWeights   the model has no weights of that tag
├── ManifestError         weights_manifest.json or an artifact's model.json is not valid
├── FetchError            weights could not be obtained from any source
│   └── OfflineError      they would have to be downloaded, and the network is switched off
├── IntegrityError        files or tensors are not the ones that were published
├── ConversionError       a published checkpoint does not map onto the network
├── ParityError           a converted network does not compute the same
└── InputError            what the caller gave cannot be used
"""


class ZooError(Exception):
    """Base of every error that mpncov_zoo raises on purpose."""


class UnknownModel(ZooError):
    """No model of that name exists; the message lists close matches."""


class NoPretrainedWeights(ZooError):
    """The model exists, but no weights of the requested tag do."""


class ManifestError(ZooError):
    """A manifest or an artifact's description is malformed or of an unknown schema version."""


class FetchError(ZooError):
    """Weights could not be obtained from any of their sources."""


class OfflineError(FetchError):
    """Weights are not at hand and the network is switched off."""


class IntegrityError(ZooError):
    """Files or tensors differ from what was published; nothing was loaded."""


class ConversionError(ZooError):
    """A published checkpoint could not be mapped one to one onto the network."""


class ParityError(ZooError):
    """A converted network does not reproduce the published one within the stated bounds."""


class InputError(ZooError, ValueError):
    """An argument, image or data set cannot be used as given."""
