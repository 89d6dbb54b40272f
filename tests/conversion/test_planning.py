"""A file's names decide what it is: every spelling is understood, and anything else is refused with both lists."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from conversion.maps import families_of
from conversion.planning import make_plan, num_classes
from conversion.recognition import recognise
from mpncov_zoo import architectures
from mpncov_zoo.errors import ConversionError
from tests import networks
from tests.conversion.checkpoints import CLASSES, MODEL, family, tensors

ARCHITECTURE = architectures.of_model(MODEL)
Names = dict[str, np.ndarray]

FINE_TUNED = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


@pytest.fixture(scope="module")
def upstream() -> Names:
    return tensors()


def sources(model: str, names: str = "upstream PyTorch", *, classifier: bool = True) -> list[str]:
    """What a family's files call the tensors of a network."""
    return [step.source for step in family(model, names).steps(architectures.of_model(model), classifier=classifier)]


def renamed(rule: Callable[[str], str]) -> Callable[[Names], Names]:
    return lambda names: {rule(name): array for name, array in names.items()}


def fine_tuned(reduction: dict[str, str]) -> Callable[[str], str]:
    """The published fine-tuning's name of a layer."""
    table = {**{layer: f"features.{number}" for layer, number in FINE_TUNED.items()}, **reduction, "fc": "classifier"}

    def rule(name: str) -> str:
        layer = max((known for known in table if name.startswith(f"{known}.")), key=len)
        return table[layer] + name[len(layer) :]

    return rule


SPELLINGS: dict[str, Callable[[Names], Names]] = {
    "plain": lambda names: names,
    "DataParallel": renamed(lambda name: f"module.{name}"),
    "DataParallel of a part": renamed(lambda name: name.replace("layer1.", "layer1.module.")),
    "fine-tuned": renamed(fine_tuned({"layer_reduce": "features.8", "layer_reduce_bn": "features.9"})),
    "fine-tuned from scratch": renamed(
        fine_tuned(
            {"layer_reduce": "representation.conv_dr_block.0", "layer_reduce_bn": "representation.conv_dr_block.1"}
        )
    ),
    "averaged": lambda names: {"n_averaged": np.int64(3), **renamed(lambda name: f"module.{name}")(names)},
    "compiled in parts": renamed(lambda name: name.replace("layer1.", "layer1._orig_mod.")),
    "with counters": lambda names: {**names, "bn1.num_batches_tracked": np.int64(7)},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_means_the_same(upstream: Names, spelling: str) -> None:
    found = SPELLINGS[spelling](upstream)
    recognition = recognise(found, ARCHITECTURE)
    assert recognition.family.name == "upstream PyTorch"
    plain = recognise(upstream, ARCHITECTURE)
    assert [(s.target, s.transform) for s in recognition.steps] == [(s.target, s.transform) for s in plain.steps]
    assert {step.source for step in recognition.steps} | set(recognition.unused) == set(found)
    assert num_classes(recognition, found) == CLASSES


PREFIXES = ["_orig_mod.", "module.", "model.", "net.", "student.model.", "backbone.", "model._orig_mod.module.", "fc."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", ["upstream PyTorch", "pytorchcv"])
def test_a_prefix_of_all_names_is_left_out(family: str, prefix: str) -> None:
    architecture = architectures.of_model(MODEL)
    known = next(found for found in families_of(architecture) if found.name == family)
    plain = [step.source for step in known.steps(architecture)] + ["bn1.num_batches_tracked"]
    recognition = recognise([prefix + name for name in plain], architecture)
    assert (recognition.family, recognition.prefix) == (known, prefix)
    assert list(recognition.names) == [prefix + name for name in plain[:-1]]
    assert recognition.unused == (f"{prefix}bn1.num_batches_tracked",)
    assert [step.target for step in recognition.steps] == [step.target for step in recognise(plain, architecture).steps]
    assert recognise(plain, architecture).prefix == ""


def test_a_prefix_of_some_names_is_not_guessed(upstream: Names) -> None:
    names = [f"model.{name}" for name in upstream] + ["criterion.weight"]
    advice = "torch.save({k: v for k, v in state_dict.items() if k.startswith('model.')}, 'weights.pth')"
    with pytest.raises(ConversionError) as caught:
        recognise(names, ARCHITECTURE)
    assert f"Those that begin with 'model.' are: save them alone, {advice}." in str(caught.value)
    both = [f"{part}.{name}" for part in ("student", "teacher") for name in upstream]
    with pytest.raises(ConversionError, match=r"Those that begin with 'student\.' are.* So are .* 'teacher\.'\. Of"):
        recognise(both, ARCHITECTURE)
    beside = [*upstream, *(f"ema.{name}" for name in upstream)]
    with pytest.raises(ConversionError, match=r"'ema\.' are: .* So are all others\. Of"):
        recognise(beside, ARCHITECTURE)
    deep = [f"nets.{name}" for name in both] + ["nets.temperature", "step.count"]
    with pytest.raises(ConversionError, match=r"'nets\.student\.' are: .* So are .* 'nets\.teacher\.'\. Of"):
        recognise(deep, ARCHITECTURE)


@pytest.mark.parametrize(
    ("head", "way"), [("", r"k\.removeprefix\('body\.'\)"), ("head.", r"k\.partition\('\.'\)\[2\]")]
)
def test_names_of_which_some_begin_with_a_part(head: str, way: str, upstream: Names) -> None:
    names = [f"{head if name.startswith('fc.') else 'body.'}{name}" for name in upstream]
    with pytest.raises(ConversionError, match=rf"Under shorter names they are: .*\{{{way}: v for k, v in state_dict"):
        recognise(names, ARCHITECTURE)


@pytest.mark.parametrize("family", [family.name for family in families_of(ARCHITECTURE)])
def test_every_family_is_recognised(family: str) -> None:
    recognition = recognise(tensors(names=family), ARCHITECTURE)
    assert recognition.family.name == family


def test_a_vgg_fine_tuned_with_one_linear_layer_is_a_network_without_hidden_ones() -> None:
    family = next(f for f in families_of(architectures.of_model("mpncov_vgg16_bn")) if "one linear" in f.name)
    architecture = architectures.with_options(architectures.of_model("mpncov_vgg16_bn"), family.options)
    names = [step.source for step in family.steps(architecture)]
    assert "classifier.weight" in names and "representation.conv_dr_block.0.weight" in names
    found = [name.replace("features.", "features.module.") for name in names]
    recognition = recognise(found, architectures.of_model("mpncov_vgg16_bn"))
    assert (recognition.family, recognition.architecture.classifier_options["hidden"]) == (family, ())


def changed(names: Names, *, without: str = "", with_: str = "") -> Names:
    kept = {name: array for name, array in names.items() if name != without}
    return {**kept, with_: np.zeros(3, np.float32)} if with_ else kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": "bn1.bias"}, r"1 variables without a tensor: features/stem_bn/beta\.$"),
        ({"with_": "bn1.extra"}, r"1 tensors without a variable: bn1\.extra\.$"),
        (
            {"without": "bn1.bias", "with_": "bn1.beta"},
            r"1 tensors without a variable: bn1\.beta; 1 variables without a tensor: features/stem_bn/beta\.$",
        ),
        ({"with_": "module.bn1.bias"}, r"2 tensors of one meaning: bn1\.bias, module\.bn1\.bias\.$"),
    ],
)
def test_names_that_differ_are_listed_on_both_sides(upstream: Names, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        recognise(changed(upstream, **changes), ARCHITECTURE)


@pytest.mark.parametrize(
    ("model", "classifier"),
    [
        ("alexnet", ["classifier.1"]),  # Sequential(Dropout(), Linear())
        ("vgg16", ["classifier.0"]),  # Sequential(Linear())
        ("vgg16", ["classifier.0", "classifier.3"]),  # with one hidden layer
    ],
)
def test_logits_under_the_name_of_a_hidden_layer_are_not_left_out(model: str, classifier: list[str]) -> None:
    """As a fine-tuning leaves them."""
    trunk = sources(model, families_of(architectures.of_model(model))[0].name, classifier=False)
    assert recognise(trunk, architectures.of_model(model)).unused == ()
    head = [f"{name}.{leaf}" for name in classifier for leaf in ("weight", "bias")]
    with pytest.raises(ConversionError, match=r"variables without a tensor: classifier/"):
        recognise([*trunk, *head], architectures.of_model(model))


def test_a_foreign_head_is_named() -> None:
    """As a contrastive pretraining leaves one."""
    trunk = sources("resnet18", classifier=False)
    head = [f"fc.{place}.{leaf}" for place in (0, 2) for leaf in ("weight", "bias")]
    for prefix in ("", "module.encoder_q."):
        with pytest.raises(ConversionError) as raised:
            recognise([f"{prefix}{name}" for name in (*trunk, *head)], architectures.of_model("resnet18"))
        advice = f"Without those that begin with '{prefix}fc.' they are those of resnet18 without its classifier: save"
        assert advice in str(raised.value) and f"if not k.startswith(('{prefix}fc.',))" in str(raised.value)


def test_a_foreign_head_of_endless_names_makes_a_short_message() -> None:
    trunk = sources("resnet18", classifier=False)
    with pytest.raises(ConversionError) as raised:
        recognise([*trunk, f"{'x' * 100_000}.weight"], architectures.of_model("resnet18"))
    assert len(str(raised.value)) < 3000


def test_a_trunk_beside_another_part_is_named() -> None:
    trunk = [f"backbone.{name}" for name in sources("resnet18", classifier=False)]
    with pytest.raises(ConversionError, match=r"Those that begin with 'backbone\.' are: save them alone"):
        recognise([*trunk, "proj.weight"], architectures.of_model("resnet18"))


def test_a_classifier_of_no_class_is_refused() -> None:
    empty = {**tensors("resnet18"), "fc.weight": np.zeros((0, 512)), "fc.bias": np.zeros(0)}
    with pytest.raises(ConversionError, match=r"fc\.bias is empty: the layer of the logits has no class"):
        num_classes(recognise(empty, architectures.of_model("resnet18")), empty)


def test_a_list_without_names_is_not_taken_for_a_larger_network_without_its_classifier() -> None:
    names = sources("mpncov_vgg13", "upstream TensorFlow, .mat")
    assert names[0] == "params[0]"
    with pytest.raises(ConversionError, match="They are those of mpncov_vgg13: pass that as the model"):
        recognise(names, architectures.of_model("mpncov_vgg16"))


def test_the_lists_are_sorted_and_short(upstream: Names) -> None:
    with pytest.raises(ConversionError) as caught:
        recognise(upstream, architectures.of_model("mpncov_resnet34"))
    missing = re.findall(r"features/\S+?(?=[,.])", str(caught.value))
    assert missing == sorted(missing) and len(missing) == 10
    assert str(caught.value).endswith(", ... and 70 more.")  # 16 convolutions more, with 5 tensors each
    assert " They are those of mpncov_resnet18: pass that as the model. Here 80 variables" in str(caught.value)


def test_the_closest_model_is_named(upstream: Names) -> None:
    count = len(upstream)
    with pytest.raises(ConversionError) as caught:
        recognise(changed(upstream, without="bn1.bias", with_="bn1.beta"), ARCHITECTURE)
    said = f"It comes closest of the zoo's models: {count - 1} of its {count} tensors are in the file, and 1 others."
    assert said in str(caught.value)
    with pytest.raises(ConversionError) as caught:
        recognise(changed(upstream, without="bn1.bias"), architectures.of_model("vgg16"))
    said = (
        f"Of the zoo's models, {MODEL} comes closest: {count - 1} of its {count} tensors are in the file, and 0 others"
    )
    assert said in str(caught.value) and len(str(caught.value)) < 1500
    with pytest.raises(ConversionError, match=r"No model of the zoo has a tensor of any of these names: there are 2"):
        recognise(["a.weight", "b.bias"], ARCHITECTURE)


def test_names_of_any_length_make_short_messages() -> None:
    names = ["a." * 20_000 + "weight", *(f"{n}" * 5000 for n in range(1000))]
    with pytest.raises(ConversionError, match=r"\.\.\. and 991 more") as caught:
        recognise(names, ARCHITECTURE)
    assert len(str(caught.value)) < 5000


def test_networks_that_nobody_published() -> None:
    with pytest.raises(ConversionError, match="No published checkpoints of networks like 'mpncov_cifar_resnet20'"):
        recognise(["conv1.weight"], architectures.of_model("mpncov_cifar_resnet20"))


def test_shapes_are_all_checked_before_anything_is_placed(upstream: Names) -> None:
    wrong = {**upstream, "conv1.weight": upstream["conv1.weight"][:, :1], "bn1.bias": np.zeros((1, 64), np.float32)}
    model = networks.bare(MODEL, CLASSES)
    message = (
        r"2 tensors do not fit mpncov_resnet18: bn1\.bias \(1, 64\) -> .* \(64,\), as it is; conv1\.weight \(64, 1, "
    )
    with pytest.raises(ConversionError, match=message):
        make_plan(recognise(wrong, ARCHITECTURE), wrong, model)


def test_a_vector_where_a_kernel_belongs(upstream: Names) -> None:
    wrong = {**upstream, "conv1.weight": np.zeros(3, np.float32)}
    with pytest.raises(ConversionError, match=r"1 tensors do not fit .*: conv1\.weight \(3,\)"):
        make_plan(recognise(wrong, ARCHITECTURE), wrong, networks.bare(MODEL, CLASSES))


def test_a_plan_has_a_line_a_tensor_and_a_digest_of_the_map(upstream: Names) -> None:
    model = networks.bare(MODEL, CLASSES)
    plan = make_plan(recognise(upstream, ARCHITECTURE), upstream, model)
    lines = str(plan).splitlines()
    assert len(lines) == 1 + len(upstream)
    assert lines[1] == "conv1.weight (64, 3, 7, 7) -> features/stem_conv/kernel (7, 7, 3, 64), OIHW to HWIO"
    other = make_plan(
        recognise(SPELLINGS["DataParallel"](upstream), ARCHITECTURE), SPELLINGS["DataParallel"](upstream), model
    )
    assert len(plan.digest) == 64 and plan.digest != other.digest
