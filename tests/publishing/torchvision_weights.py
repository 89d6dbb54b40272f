"""The table of weights in torchvision's source, read without running it: its compiled part fits one PyTorch alone."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = ("alexnet", "densenet", "inception", "resnet", "vgg")


@dataclass(frozen=True)
class Published:
    """One set of weights: `ResNet50_Weights.IMAGENET1K_V2` has model "resnet50" and version "v2".

    Attributes:
        model, version: of the name.
        url: of the checkpoint.
        crop, resize: pixels; the short side before the crop.
        parameters: learned numbers of the whole network.
        top1, top5: accuracies on ImageNet-1K in percent.
        size_mib: of the checkpoint.
        default: torchvision's own choice.
        others: what else its preprocessing states; nothing where it is that of most.
    """

    model: str
    version: str
    url: str
    crop: int
    resize: int
    parameters: int
    top1: float
    top5: float
    size_mib: float
    default: bool
    others: tuple[str, ...]


def published(models: Path) -> Iterator[Published]:
    """The weights on ImageNet-1K in torchvision/models, in the order of its files."""
    for module in MODULES:
        for node in ast.parse((models / f"{module}.py").read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("_Weights"):
                yield from _of_class(node)


def _of_class(node: ast.ClassDef) -> Iterator[Published]:
    model = node.name.removesuffix("_Weights").lower()
    assigned = {
        name.id: statement.value
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for name in statement.targets
        if isinstance(name, ast.Name)
    }
    for name, call in assigned.items():
        if not name.startswith("IMAGENET1K_V") or not isinstance(call, ast.Call):
            continue  # DEFAULT, and features without a classifier
        values = {keyword.arg: keyword.value for keyword in call.keywords}
        transforms = {k.arg: ast.literal_eval(k.value) for k in values["transforms"].keywords}  # pyright: ignore
        meta = _literals(values["meta"])
        accuracy = meta["_metrics"]["ImageNet-1K"]
        yield Published(
            model=model,
            version=name.removeprefix("IMAGENET1K_").lower(),
            url=ast.literal_eval(values["url"]),
            crop=transforms.pop("crop_size"),
            resize=transforms.pop("resize_size", 256),
            parameters=meta["num_params"],
            top1=accuracy["acc@1"],
            top5=accuracy["acc@5"],
            size_mib=meta["_file_size"],
            default=getattr(assigned["DEFAULT"], "id", "") == name,
            others=tuple(transforms),
        )


def _literals(node: Any) -> dict[str, Any]:
    """The entries of a dictionary that are written out."""
    pairs = ((key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None)
    return {ast.literal_eval(key): _value(value) for key, value in pairs}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # the name of something else, such as the list of categories
