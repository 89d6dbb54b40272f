"""The page itself: an image, one network or two side by side, and their answers. It needs Gradio."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio

from mpncov_zoo.demo.answering import EMPTY, compare, status_line
from mpncov_zoo.demo.neighbours import Neighbours
from mpncov_zoo.demo.networks import Network
from mpncov_zoo.demo.uploads import LIMITS, MOST_WAITING, UPLOADS, uploaded_path

TITLE = "What a second-order network sees"
NONE = "none"
HERE = Path(__file__).parent
EXAMPLES = sorted(str(path) for path in (HERE / "examples").glob("*.png"))
STYLE = HERE / "page.css"
SCRIPT = HERE / "page.js"
REMOVAL = (600, 3000)  # seconds: how often uploads are looked through, and the age from which they are removed
_HEAD = (
    f'<div class="mz-head"><h1>{TITLE}</h1><p>A network with covariance pooling classifies an image by which of its '
    "channels vary together. Choose an image and a network: the page shows the prediction, the pixels that the "
    "network gets, and the covariance that it computes from them.</p></div>"
)


def build_page(networks: Sequence[Network], neighbours: Neighbours | None, matched: set[str]) -> gradio.Blocks:
    """Lay out the page and wire it.

    Args:
        networks: to choose from; the first one is chosen at the beginning.
        neighbours: the images of a features file, if there is one.
        matched: names of the networks to which that file belongs.
    """
    known = {network.name: network for network in networks}

    def answer(file: Any, first: Any, second: Any, progress: Any = gradio.Progress()) -> tuple[str, str]:  # noqa: B008
        """The status line and the panels of an uploaded file, by the networks of these names."""
        chosen = [known[name] for name in dict.fromkeys((str(first), str(second))) if name in known]
        found = {name: neighbours for name in matched if neighbours}
        path = None if file is None else uploaded_path(file, os.environ[UPLOADS])
        return compare(path, chosen, found, lambda done, of, name: progress((done, of), desc=name))

    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=REMOVAL, fill_width=True) as page:
        gradio.HTML(_HEAD, elem_classes="mz-block")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                image, first, second = _inputs([*known])
            with gradio.Column(scale=5, min_width=320):
                status = gradio.HTML(status_line("Loading."), elem_id="status", elem_classes="mz-block")
                panels = gradio.HTML(EMPTY, elem_id="answer", elem_classes="mz-block")
        triggers = [page.load, image.change, first.change, second.change]
        gradio.on(
            triggers,
            answer,
            [image, first, second],
            [status, panels],
            api_name="answer",
            trigger_mode="always_last",
            show_progress_on=panels,
            preprocess=False,  # which would decode the image, before its limits are looked at
        )
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
    return page


def _inputs(names: list[str]) -> tuple[gradio.Image, gradio.Dropdown, gradio.Dropdown]:
    """The image, the network and the one beside it."""
    image = gradio.Image(
        EXAMPLES[0] if EXAMPLES else None,
        label="Image",
        sources=["upload", "clipboard"],
        buttons=[],
        height=260,
        alt_text="The chosen image",
        elem_id="image",
    )
    if EXAMPLES:
        gradio.Examples(EXAMPLES, image, label="Examples, of Fashion-MNIST", elem_id="examples")
    first = gradio.Dropdown(names, value=names[0], label="Network", filterable=False, elem_id="network")
    second = gradio.Dropdown([NONE, *names], value=NONE, label="Network beside it", filterable=False, elem_id="beside")
    note = f"{LIMITS} Images stay on this machine, for an hour at most."
    gradio.HTML(f'<p class="mz-limits">{note}</p>', elem_classes="mz-block")
    return image, first, second
