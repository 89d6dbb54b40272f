"""The key of stored features: size, preprocessing, precision and weights count; those of the classifier do not."""

from mpncov_zoo.assembly import precision
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.features.stored import identity_of
from mpncov_zoo.specification import InputSpecification
from tests import networks


def test_what_decides_on_the_features_is_in_the_key() -> None:
    network = networks.tiny()

    def identity(specification: InputSpecification = network.input_specification, side: int = 12) -> bytes:
        return identity_of(network.architecture, (side, side, 3), specification, network)

    first = identity()
    add_to(network, "classifier/")
    assert identity() == first
    found = {first, identity(side=13), identity(network.input_specification.model_copy(update={"mean": (0.1,) * 3}))}
    with precision("mixed_bfloat16"):
        found.add(identity())
    for part in ("features/", "representation/"):
        add_to(network, part)
        found.add(identity())
    assert len(found) == 6


def add_to(network: ImageClassifier, part: str) -> None:
    """Change the first variable of a part of the network."""
    next(value for name, value in network.named_variables().items() if name.startswith(part)).assign_add([1.0])
