"""Shows a certificate as a web page for people, in one file that opens without a network."""

import io
from collections.abc import Iterable
from html import escape

from conversion.certificate import PUBLISHED, Case, Certificate, Parity
from conversion.planning import classes_text
from mpncov_zoo.errors import InputError

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; text-align: right }
th { border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left }
.facts td { text-align: left; overflow-wrap: anywhere } .facts td:first-child { white-space: nowrap }
.passed { color: #176 }
.failed { color: #b22; font-weight: bold }
svg { max-width: 100%; height: auto }
"""


def html_report(certificate: Certificate) -> str:
    """The page for a conversion whose parity was checked.

    Raises:
        InputError: parity was not checked.
        ImportError: matplotlib is not installed; the extra [conversion] brings it.
    """
    parity = certificate.parity
    if parity is None:
        raise InputError("A report is of a conversion whose parity was checked.")
    title = f"{certificate.model}.{certificate.tag}: parity {certificate.verdict}"
    drift = f'<p class="failed">First drift: {escape(parity.first_drift)}.</p>' if parity.first_drift else ""
    body = [
        f'<h1 class="{certificate.verdict}">{escape(title)}</h1>',
        drift,
        _facts(certificate, parity),
        "<h2>Drift, stage by stage</h2>",
        "<p>Largest difference from the source network in float64, over the stage's largest value. PyTorch's own "
        "float32 shows what rounding alone does; a wrong weight or operation is orders of magnitude above it.</p>",
        _plot(parity),
        *(_table(case) for case in parity.cases),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _facts(certificate: Certificate, parity: Parity) -> str:
    source = certificate.source
    versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
    facts = (
        ("source", f"{source.name}, {source.format}, {source.size:,} bytes"),
        ("sha256", f"{source.sha256} ({PUBLISHED[source.published]})"),
        *([] if certificate.key is None else [("key", certificate.key)]),
        ("names", certificate.family),
        ("map", f"sha256 {certificate.map_sha256}; {certificate.tensors} tensors, each placed once"),
        ("network", f"{certificate.parameters:,} parameters, {classes_text(certificate.num_classes)}"),
        ("reference", f"{parity.reference}, in PyTorch"),
        ("device", parity.device),
        ("versions", versions),
        *(("note", note) for note in certificate.notes),
    )
    rows = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts)
    return f'<table class="facts">{"".join(rows)}</table>'


def _table(case: Case) -> str:
    with_tf32 = any(errors.ours_tf32 is not None for errors in case.stages)
    names = ["stage", "PyTorch, float32", "ours, float32", *(["ours, TF32"] if with_tf32 else []), "bound", ""]
    rows = []
    for errors in case.stages:
        values = [errors.pytorch, errors.ours, *([errors.ours_tf32] if with_tf32 else []), errors.bound]
        cells = [escape(errors.stage), *("" if value is None else f"{value:.1e}" for value in values)]
        verdict = "passed" if errors.within else "failed"
        rows.append(_row("td", [*cells, f'<span class="{verdict}">{verdict}</span>']))
    agreement = "" if case.top5_agreement is None else f"; top-5 agreement {case.top5_agreement:.0%}"
    heading = f"Images {case.shape}, weights {case.weights}{agreement}"
    return f"<h3>{escape(heading)}</h3><table>{_row('th', names)}{''.join(rows)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _plot(parity: Parity) -> str:
    """A plot of the errors of all cases over the stages, as SVG for the page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    stages = [errors.stage for errors in parity.cases[0].stages]
    for index, case in enumerate(parity.cases):
        first = index == 0
        by_kind = zip(*((errors.pytorch, errors.ours, errors.bound) for errors in case.stages), strict=True)
        styles = (("PyTorch, float32", "C0o-"), ("ours, float32", "C1s-"), ("bound", "k:"))
        for values, (label, style) in zip(by_kind, styles, strict=True):
            axes.plot(
                stages, [max(value or 0, 1e-9) for value in values], style, alpha=0.6, label=label if first else None
            )
    axes.set(yscale="log", ylabel="relative error")
    axes.tick_params("x", rotation=20)
    axes.legend()
    axes.grid(alpha=0.3)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "report"}):  # the same certificate gives the same page
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<!DOCTYPE")[2].partition(">\n")[2]
