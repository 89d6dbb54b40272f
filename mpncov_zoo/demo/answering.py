"""From an image to what the page shows: the answers of one network or two, or what is wrong with the image."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from mpncov_zoo.demo.neighbours import Neighbours
from mpncov_zoo.demo.networks import Network
from mpncov_zoo.demo.panels import message, network_panel, summary
from mpncov_zoo.demo.uploads import read_limited
from mpncov_zoo.errors import ZooError
from mpncov_zoo.preprocessing import resize_and_crop

NEAREST = 8
EMPTY = '<p class="mz-empty">Choose an image: drop it, paste it, or take an example.</p>'
Progress = Callable[[int, int, str], object]  # how many networks are done, of how many, and which one is next


def compare(
    path: str | None, networks: Sequence[Network], neighbours: Mapping[str, Neighbours], progress: Progress
) -> tuple[str, str]:
    """Answer by each of the networks.

    Args:
        path: of the image; None for none.
        networks: one or two.
        neighbours: by the name of a network the images among which to look.
        progress: told before each network.

    Returns:
        The status line and the panels, as HTML; for what cannot be used, a message in the place of the panels.
    """
    if path is None:
        return status_line("There is no image yet."), EMPTY
    sentences, sections = [], []
    try:
        for done, network in enumerate(networks):
            progress(done, len(networks), network.name)
            sentence, section = _one(path, network, neighbours.get(network.name))
            sentences.append(sentence)
            sections.append(section)
    except ZooError as error:
        return status_line("The image cannot be used."), message(str(error))
    return status_line(" ".join(sentences)), f'<div class="mz-answer">{"".join(sections)}</div>'


def _one(path: str, network: Network, neighbours: Neighbours | None) -> tuple[str, str]:
    """The sentence and the section of one network."""
    specification = network.specification
    pixels = resize_and_crop(read_limited(path, specification.mode), specification)
    answer = network.answer(pixels)
    nearest = None if neighbours is None else neighbours.nearest(answer.representation, NEAREST)
    return summary(network, answer), network_panel(network, answer, pixels, nearest)


def status_line(text: str) -> str:
    """A sentence that is read out when it changes."""
    return f'<p class="mz-status" role="status">{escape(text)}</p>'
