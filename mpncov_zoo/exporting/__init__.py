"""Exports of networks to other runtimes, each of which is run and compared before its file appears.

`formats` has a row for each format: what it needs, how it is written and how it is opened in its runtime. `exporter`
writes, compares and describes; `report` is what it says.
"""

from typing import TYPE_CHECKING

from mpncov_zoo.lazy import lazy_names

if TYPE_CHECKING:
    from mpncov_zoo.exporting.exporter import export
    from mpncov_zoo.exporting.formats import FORMATS
    from mpncov_zoo.exporting.report import ExportReport

_HOMES = {"exporter": ("export",), "formats": ("FORMATS",), "report": ("ExportReport",)}

__all__ = ["FORMATS", "ExportReport", "export"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
