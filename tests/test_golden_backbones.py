"""The first-order networks of the published code on seeded weights, against that code in float64; golden/README.md."""

from collections.abc import Mapping

import numpy as np
import pytest

from conversion import maps
from conversion.recognition import recognise
from mpncov_zoo import architectures, registry
from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
from mpncov_zoo.representations.mpncov import MPNCOV
from tests import networks, published
from tests.published import relative_error

BOUND = 3 * 1.4e-5  # the published code's own float32 error on the logits of mpncovresnet50, three times
WHOLE, ODD = (1, 3, 224, 224), (1, 3, 193, 161)
BEFORE_POOL = "features_without_last_pool"
VGG = {BEFORE_POOL: "stage5"}
DENSENET = {"denseblock2": "stage2", "denseblock3": "stage3", "norm5": "norm"}
NETWORKS: Mapping[str, tuple[Mapping[str, str], tuple[tuple[int, ...], ...]]] = {  # their stages -> ours; shapes
    "alexnet": ({BEFORE_POOL: "stage3"}, (WHOLE,)),
    "vgg11": (VGG, (WHOLE,)),
    "vgg13_bn": (VGG, (WHOLE,)),
    "vgg19_bn": (VGG, (WHOLE,)),
    "densenet121": (DENSENET, (WHOLE, ODD)),
    "densenet161": (DENSENET, (WHOLE, ODD)),
    "inception_v3": (
        {"Mixed_5d": "mixed_5d", "Mixed_6e": "mixed_6e", "Mixed_7c": "mixed_7c"},
        ((1, 3, 299, 299),),
    ),
}


def filled(net: str) -> ImageClassifier:
    """The network with the published code's seeded weights, each placed by the map of its family."""
    model, tensors = networks.bare(net), published.seeded_state_dict(net)
    variables = model.named_variables()
    steps = recognise(tensors, architectures.of_model(net)).steps
    assert {step.target for step in steps} == variables.keys()
    for step in steps:
        variables[step.target].assign(maps.TRANSFORMS[step.transform](tensors[step.source]))
    return model


def images(net: str, shape: tuple[int, ...]) -> np.ndarray:
    """Seeded images, normalised as the network wants them: the published Inception normalises within, once more."""
    usual, own = registry.IMAGENET_INPUT, registry.BACKBONES[net].input
    values = published.seeded_images(net, shape).transpose(0, 2, 3, 1).astype(np.float64)
    pixels = values * np.array(usual.std) + np.array(usual.mean)
    return ((pixels - np.array(own.mean)) / np.array(own.std)).astype(np.float32)


@pytest.mark.parametrize("net", NETWORKS)
def test_every_golden_value(net: str) -> None:
    """Logits, stages, and the published covariance of the last features, at every size that there is."""
    stages, shapes = NETWORKS[net]
    *_, last = stages.values()
    extract = FeatureExtractor(filled(net), [*stages.values(), "logits"])
    for shape in shapes:
        computed = extract(images(net, shape))
        golden = published.golden(net, shape)
        error = relative_error(computed["logits"].numpy(), golden.pop("logits"))
        print(f"{net}, {shape}: logits differ by {error:.1e} of the largest")
        assert error <= BOUND
        if "isqrtcov/length" in golden:
            vector = MPNCOV()(computed[last]).numpy()
            assert vector.shape == (1, golden.pop("isqrtcov/length"))
            assert relative_error(vector[:, :4096], golden.pop("isqrtcov/first")) <= BOUND
            assert np.linalg.norm(vector) == pytest.approx(golden.pop("isqrtcov/norm")[0], rel=1e-5)
        for theirs, name in stages.items():
            assert_stage(computed[name].numpy().transpose(0, 3, 1, 2), golden, theirs, rectified=theirs == "norm5")
        assert not golden, sorted(golden)


def assert_stage(actual: np.ndarray, golden: dict[str, np.ndarray], name: str, *, rectified: bool) -> None:
    """Compare with its four facts and take these out; of a stage that is rectified here and not there only two."""
    shape, mean, std, corner = (golden.pop(f"{name}/{fact}") for fact in ("shape", "mean", "std", "corner"))
    assert actual.shape == tuple(shape)
    assert relative_error(actual[:, :8, :4, :4], np.maximum(corner, 0) if rectified else corner) <= BOUND
    if not rectified:
        assert actual.mean() == pytest.approx(mean, rel=1e-5, abs=1e-6 * std)
        assert actual.std() == pytest.approx(std, rel=1e-5)
