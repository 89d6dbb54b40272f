"""`find`: every spelling of a name leads to one verified directory, and every wrong one to a clear refusal."""

import shutil
from pathlib import Path

import pytest

import mpncov_zoo
from mpncov_zoo.errors import FetchError, InputError, NoPretrainedWeights, UnknownModel
from mpncov_zoo.find import find
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.hub.resolve import BUNDLED, TRUST_MANIFEST, TRUST_OWN

MODEL = "mpncov_cifar_resnet20"
PUBLISHED, TEST = f"{MODEL}.fashion_mnist", f"{MODEL}.test"


@pytest.mark.parametrize("name", [MODEL, PUBLISHED, "cifar_mpncovresnet20", str(BUNDLED / PUBLISHED)])
def test_spellings_of_published_weights(name: str) -> None:
    found = find(name)
    assert found.artifact.directory == BUNDLED / PUBLISHED and found.artifact.trust == TRUST_MANIFEST
    assert (found.model, found.is_trunk, found.artifact.pending) == (MODEL, False, ())


def test_a_tag_beside_the_name() -> None:
    assert find(MODEL, "fashion_mnist") == find(PUBLISHED)
    assert find(MODEL, put_off_variables=True).artifact.pending


def test_paths(artifact_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact, and a run or hub that holds one; relative, absolute, in the home, as text and as a path."""
    monkeypatch.chdir(artifact_hub.parent)
    monkeypatch.setenv("HOME", str(artifact_hub.parent))
    relative = f"{artifact_hub.name}/{TEST}"
    for name in (artifact_hub / TEST, artifact_hub, f"./{relative}", relative, f"~/{relative}"):
        found = find(name)
        assert (found.model, found.artifact.description.tag, found.artifact.trust) == (MODEL, "test", TRUST_OWN)
    model = mpncov_zoo.load(relative, num_classes=3)
    assert model.load_report.weights == TEST and model.output_shape == (None, 3)


def test_paths_that_lead_to_no_artifact(artifact_hub: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/nothing: no such directory\. Allowed: an artifact directory, or a name"):
        find(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is no artifact: it holds no model\.json\. Give one that does"):
        find(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(artifact_hub / TEST, tmp_path / name)
    with pytest.raises(InputError, match=r"a directory of artifacts; give one of one, two"):
        find(tmp_path)
    for options in ({"hub": tmp_path}, {"pretrained": "test"}):
        with pytest.raises(InputError, match="is a path, which says all: leave out hub and the tag"):
            find(artifact_hub / TEST, **options)


def test_a_folder_with_a_name_is_a_name_and_the_message_says_how_to_mean_the_folder(
    artifact_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MODEL).mkdir()
    shutil.copytree(artifact_hub / TEST, tmp_path / "mine")
    assert find(MODEL).artifact.directory == BUNDLED / PUBLISHED
    with pytest.raises(UnknownModel, match=r"The folder of that name here is written '\./mine'"):
        find("mine")
    assert find("./mine").artifact.description.tag == "test"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match=r"run is a run that has not ended: go on with mpncov-zoo train .* --resume"):
        find("./run")
    for wrong in (None, 3):
        with pytest.raises(InputError, match="Expected a name"):
            find(wrong)  # pyright: ignore[reportArgumentType]


def test_what_is_a_path() -> None:
    assert is_path("runs/x") and is_path("~x") and is_path(Path("x"))
    assert not is_path("mpncov_resnet50.imagenet") and not is_path(None)


def test_a_trunk_stands_for_a_model_without_weights_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("mpncov_zoo.find.resolve", lambda *names, **_: asked.append(names) or 1 / 0)
    for options in ({}, {"hub": "https://example.org"}, {"trunk": False}):
        with pytest.raises(ZeroDivisionError):
            find("mpncov_efficientnet_lite0", **options)
    own = ("mpncov_efficientnet_lite0", None)
    assert asked == [("efficientnet_lite0", "imagenet"), own, own]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="Did you mean 'mpncov_resnet50'"):
        find("mpncov_resnet5O")
    with pytest.raises(NoPretrainedWeights, match="allowed: fashion_mnist"):
        find(f"{MODEL}.imagenet")
    with pytest.raises(FetchError, match=r"which was not converted here yet: mpncov-zoo cache prefetch"):
        find("mpncov_resnet50", cache_dir=tmp_path, convert=False)
