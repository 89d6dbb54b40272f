"""Input that cannot be meant: one warning a process with what to do, nothing for what can be meant or in a graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mpncov_zoo import plausibility
from mpncov_zoo.classifier import FeatureExtractor
from mpncov_zoo.errors import InputError
from mpncov_zoo.representations import BCNN, CBP, MPNCOV
from tests import networks
from tests.photos import photo


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plausibility, "_said", set())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("mpncov_zoo")]
    caplog.clear()
    return messages


def test_raw_pixels_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    model = networks.tiny()
    raw = np.stack([photo(12, 12)] * 2).astype(np.float32)
    model(model.preprocess(raw.astype(np.uint8)))
    model(np.random.default_rng(0).normal(0, 1, (2, 12, 12, 3)).astype(np.float32))
    assert said(caplog) == []
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    y = np.zeros(2, np.int32)
    for call in (
        model,
        lambda x: model(tf.constant(x)),
        lambda x: model.predict(x, verbose=0),
        model.predict_on_batch,
        lambda x: model.evaluate(x, y, verbose=0),
        lambda x: model.fit(x, y, verbose=0),
        FeatureExtractor(model, ["stage2"]),
    ):
        call(raw)
        (message,) = said(caplog)
        assert "wants them normalised" in message and "Take model.preprocess(images)" in message
        call(raw)
        assert said(caplog) == []
        plausibility._said.clear()
    tf.function(lambda x: model(x))(raw)
    assert said(caplog) == []


def test_images_with_the_channels_in_front_are_refused() -> None:
    model = networks.tiny(input_shape=(None, None, 3))
    with pytest.raises(InputError, match=r"\(2, 3, 12, 12\), which has the channels in front: images\.transpose"):
        model(np.zeros((2, 3, 12, 12), np.float32))
    model(np.zeros((2, 3, 12, 3), np.float32))


@pytest.mark.parametrize("layer", [MPNCOV, BCNN, CBP])
def test_features_with_the_channels_in_front_are_warned_of(
    layer: type[keras.Layer], caplog: pytest.LogCaptureFixture
) -> None:
    layer()(np.zeros((1, 7, 7, 64), np.float32))
    layer()(np.zeros((1, 32, 8, 8), np.float32))  # a tall image, perhaps
    assert said(caplog) == []
    layer()(np.zeros((1, 64, 7, 7), np.float32))
    layer()(np.zeros((1, 64, 7, 7), np.float32))
    (message,) = said(caplog)
    assert "7x7 positions with 64 channels in front, as PyTorch has them: x.transpose(0, 2, 3, 1)" in message


def test_one_image_without_a_batch_is_refused() -> None:
    """A network for any size would take its rows for images."""
    network = networks.tiny(input_shape=(None, None, 3))
    with pytest.raises(InputError, match=r"Received: \(12, 12, 3\); one image is images\[None\]"):
        network(np.zeros((12, 12, 3), np.float32))
