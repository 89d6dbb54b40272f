"""The manifest's entries of torchvision's weights against torchvision's own table."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mpncov_zoo import registry
from mpncov_zoo.manifest import WeightsEntry, load_manifest
from tests.publishing.torchvision_weights import Published, published

pytestmark = pytest.mark.parity

AUXILIARY = 3_326_696  # learned numbers of Inception's classifier beside the trunk, which is not converted


def table() -> dict[str, Published]:
    found = find_spec("torchvision")  # which finds it without importing it
    if found is None or found.origin is None:
        pytest.skip("needs torchvision")
    rows = published(Path(found.origin).parent / "models")
    return {f"{row.model}.imagenet_torchvision_{row.version}": row for row in rows if row.model in registry.BACKBONES}


def test_every_entry_is_torchvisions() -> None:
    rows = table()
    entries = {entry.name: entry for entry in load_manifest().entries if "torchvision" in entry.tag}
    assert entries.keys() == rows.keys()
    for name, entry in entries.items():
        assert_same(entry, rows[name])


def assert_same(entry: WeightsEntry, row: Published) -> None:
    upstream, specification = entry.upstream, entry.input
    assert upstream is not None and upstream.url == row.url
    assert upstream.file_name == row.url.rpartition("/")[2]
    assert upstream.sha256_prefix == row.url.rpartition("-")[2].removesuffix(".pth")
    assert upstream.size_mib == row.size_mib
    assert entry.default is row.default
    assert specification.size == (row.crop, row.crop) and not row.others
    assert round(row.crop / specification.crop_fraction) == row.resize
    assert [metric.value for metric in entry.metrics] == [row.top1, row.top5]
    assert entry.parameters == row.parameters - (AUXILIARY if entry.model == "inception_v3" else 0)
