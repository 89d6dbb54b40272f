"""The answer of one network as HTML: prediction, pixels, spectrum, covariance, pairs of channels, neighbours."""

from collections.abc import Sequence
from html import escape
from pathlib import PurePath

import numpy as np
from PIL import Image

from mpncov_zoo.demo import second_order
from mpncov_zoo.demo.charts import bars, shares, spectrum_chart
from mpncov_zoo.demo.neighbours import Neighbour
from mpncov_zoo.demo.networks import Answer, Network
from mpncov_zoo.demo.pictures import data_address, heat_map, is_small, overlay
from mpncov_zoo.demo.uploads import read_limited
from mpncov_zoo.errors import InputError

PAIRS = 3
MOST_CHANNELS = 128  # of a heat map
THUMBNAIL = 96  # pixels a side


def network_panel(network: Network, answer: Answer, pixels: np.ndarray, neighbours: Sequence[Neighbour] | None) -> str:
    """Everything about one network and one image.

    Args:
        network: that answered.
        answer: its answer.
        pixels: of the image, as the network got them, uint8 (height, width, channels).
        neighbours: of the image; None where no features file belongs to the network.
    """
    matrix = second_order.covariance(answer.features)
    cards = [
        _card("Prediction", _prediction(answer)),
        _card("What the network gets", _pixels(pixels)),
        _card("Spectrum of the covariance", _spectrum(network, answer)),
        _card("The covariance", _covariance(network, answer, matrix)),
        _card("Channels that vary together", _pairs(network, answer, matrix, pixels), wide=True),
    ]
    if neighbours is not None:
        cards.append(_card("Nearest neighbours", _neighbours(neighbours), wide=True))
    name, trust = escape(network.name), f"Verified: {escape(network.trust)}" if network.trust else "Not verified"
    title = f'<h2>{name.replace(".", ".<wbr>")}</h2><p class="mz-trust">{trust}.</p>'
    return (
        f'<section class="mz-network" aria-label="{name}">{title}<div class="mz-cards">{"".join(cards)}</div></section>'
    )


def message(text: str) -> str:
    """One message in the place of an answer, which is read out at once."""
    return f'<p class="mz-message" role="alert">{escape(text)}</p>'


def summary(network: Network, answer: Answer) -> str:
    """The answer in a sentence."""
    if not answer.prediction:
        return f"{network.name} has computed the image."
    label, probability = answer.prediction[0]
    return f"{network.name} says: {label}, {100 * probability:.1f} %."


def _card(title: str, content: str, *, wide: bool = False) -> str:
    return f'<div class="mz-card{" mz-wide" if wide else ""}"><h3>{title}</h3>{content}</div>'


def _prediction(answer: Answer) -> str:
    if answer.prediction is None:
        return "<p>The classifier of this network is not trained, so there is no prediction.</p>"
    return bars(answer.prediction)


def _pixels(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    colours = "grey" if channels == 1 else "colour"
    return _figure(
        data_address(pixels, exact=True),
        f"The image as the network gets it, {width} by {height} pixels",
        f"{width}x{height} pixels, {colours}: after resizing and cropping, before normalisation.",
        small=is_small(pixels),
    )


def _spectrum(network: Network, answer: Answer) -> str:
    before = second_order.spectrum(answer.features)
    if not before[0]:
        return "<p>All positions have the same features, so the covariance is zero.</p>"
    curves = {"covariance": before}
    text = f"The covariance has rank {second_order.rank(before)} of {len(before)}. "
    text += f"Its largest eigenvalue is {100 * shares(before)[0]:.0f} % of the sum"
    if answer.root is None:
        text += f". This network takes no covariance: it is computed here, of the stage “{network.stage}”."
    else:
        curves["square root"] = after = second_order.eigenvalues(answer.root)
        text += f", and {100 * shares(after)[0]:.0f} % after the square root."
    axes = '<p class="mz-note">Each eigenvalue as a share of the sum of all; both axes are logarithmic.</p>'
    return f"{spectrum_chart(curves, text)}{axes}<p>{escape(text)}</p>"


def _covariance(network: Network, answer: Answer, matrix: np.ndarray) -> str:
    chosen = second_order.most_varying(matrix, MOST_CHANNELS)
    grid = np.ix_(chosen, chosen)
    pictures = _figure(data_address(heat_map(matrix[grid]), exact=True), "Heat map of the covariance", "covariance")
    if answer.root is not None:
        root = data_address(heat_map(answer.root.astype(np.float64)[grid]), exact=True)
        pictures += _figure(root, "Heat map of its square root", "its square root")
    which = f"of the stage “{network.stage}”"
    if len(chosen) < len(matrix):
        which += f", whose {len(chosen)} channels with the largest variances are shown"
    text = f"A row and a column for each channel {which}. Red: they vary together; blue: against each other."
    return f'<div class="mz-row mz-heat">{pictures}</div><p>{escape(text)}</p>'


def _pairs(network: Network, answer: Answer, matrix: np.ndarray, pixels: np.ndarray) -> str:
    pairs = second_order.strongest_pairs(matrix, PAIRS)
    if not pairs:
        return "<p>No two channels vary together.</p>"
    rows = "".join(_pair(answer.features, pair, pixels) for pair in pairs)
    text = (
        f"The pairs with the largest covariances of the stage “{network.stage}”, each channel in one pair only. "
        "In a map of a channel, red is above its mean and blue below. "
        "The product is red where both are on the same side, and blue where they are not; its mean is the covariance."
    )
    return f"<p>{escape(text)}</p>{rows}"


def _pair(features: np.ndarray, pair: second_order.Pair, pixels: np.ndarray) -> str:
    maps = {
        f"channel {pair.first}": second_order.channel_map(features, pair.first),
        f"channel {pair.second}": second_order.channel_map(features, pair.second),
        "product": second_order.product_map(features, pair),
    }
    title = f"Channels {pair.first} and {pair.second}"
    figures = "".join(
        _figure(data_address(overlay(pixels, values)), f"{title}: {name} over the image", name, small=is_small(pixels))
        for name, values in maps.items()
    )
    values = f"covariance {pair.covariance:+.3g},<br>correlation {pair.correlation:+.2f}".replace("-", "−")
    return (
        f'<div class="mz-pair"><h4>{title}<span class="mz-note">{values}</span></h4>'
        f'<div class="mz-row">{figures}</div></div>'
    )


def _neighbours(neighbours: Sequence[Neighbour]) -> str:
    figures = "".join(_thumbnail(neighbour) for neighbour in neighbours)
    text = "The images of the features file whose representations have the largest cosines with this one."
    return f'<p>{text}</p><div class="mz-row mz-neighbours">{figures}</div>'


def _thumbnail(neighbour: Neighbour) -> str:
    name, cosine = PurePath(neighbour.path).name, f"{neighbour.cosine:.3f}"
    try:
        image = read_limited(neighbour.path, "RGB")
    except (InputError, OSError):
        return f"<figure><figcaption>{escape(name)}, {cosine}: the file cannot be read</figcaption></figure>"
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return _figure(data_address(pixels), f"Neighbour {name}", f"{name}, {cosine}", small=is_small(pixels))


def _figure(address: str, alternative: str, caption: str, *, small: bool = True) -> str:
    kind = ' class="mz-pixels"' if small else ""
    return (
        f'<figure><img{kind} src="{address}" alt="{escape(alternative)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
