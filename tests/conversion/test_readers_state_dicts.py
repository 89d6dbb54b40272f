"""Which tensors of a training checkpoint are taken: the only state_dict there is, or the one that the user names."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.readers import read_checkpoint, state_dicts
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo.errors import ConversionError
from tests.conversion.checkpoints import save


def weights(value: float = 1) -> dict[str, np.ndarray]:
    return {"fc.weight": np.full((2, 3), value, np.float32), "fc.bias": np.full(2, value, np.float32)}


ADAM = {  # as torch.optim.Adam saves it: moments by the number of the parameter
    "state": {0: {"step": np.ones(()), "exp_avg": np.ones((2, 3)), "exp_avg_sq": np.ones((2, 3))}},
    "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}],
}
BY_NAME = {"state": {name: {"momentum_buffer": array} for name, array in weights(9).items()}, "param_groups": []}
BESIDE = {"epoch": 9, "arch": "resnet18", "best": 0.5, "losses": [1.0, 2.0], "scheduler": None, "top1": np.ones(())}


def read(content: Any, folder: Path, key: str | None = None):
    save(content, folder / "a.pth")
    return read_checkpoint(folder / "a.pth", key)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (weights(), None),
        *(({**BESIDE, key: weights()}, key) for key in ("state_dict", "model", "net", "model_state_dict", "weights")),
        ({**BESIDE, "model": {"state_dict": weights(), "depth": 18}}, "model.state_dict"),
        ({"run": {"best": {"model": weights()}}, "log": []}, "run.best.model"),
        ([weights(), 9], "0"),
        ((9, {"net": weights()}), "1.net"),
        ({"state_dict": weights(), "optimizer": ADAM, "epoch": 1}, "state_dict"),
        (
            {"optimizer_states": [ADAM], "state_dict": weights(), "callbacks": {"best": {"score": np.ones(())}}},
            "state_dict",
        ),
        ({"opt": ADAM, "model": weights()}, "model"),
        ({"opt": {"m": weights(9), "v": weights(9)}, "model": weights()}, "model"),
        ({"optim": weights(9), "model": weights()}, "model"),
        ({"training": BY_NAME, "model": weights()}, "model"),
        ({"adam": {"exp_avg": weights(9), "exp_avg_sq": weights(9)}, "model": weights()}, "model"),
        ({"normalization": {"mean": np.ones(3), "std": np.ones(3)}, "model": weights()}, "model"),
        ({"loss": {"centers": np.ones((2, 3))}, "model": weights()}, "model"),
        ({"snapshots": {10: weights()}}, "snapshots.10"),
        ({0: weights()}, "0"),
        ({"a": {"b": {"c": {"d": {"e": {"f": weights()}}}}}}, "a.b.c.d.e.f"),
        ({"opt": {"ema": weights()}}, "opt.ema"),
        ({"optimizer": {"ModelEma": weights()}}, "optimizer.ModelEma"),
        ({"optimizer": {"state_dict": {"lr": 0.1}, "momentum": weights(9)}, "model": weights()}, "model"),
        ({"optimizer": {"flat": [np.ones((2, 3)), np.ones(2)]}, "model": weights()}, "model"),
        ({"rng": [np.ones((8, 8), np.uint8)] * 2, "model": weights()}, "model"),
        ({"prototypes": [np.ones((2, 3))], "model": weights()}, "model"),
    ],
)
def test_the_only_state_dict_needs_no_key(content: Any, key: str | None, tmp_path: Path) -> None:
    stored = read(content, tmp_path)
    assert (stored.key, stored.others) == (key, ())
    assert {name: array.tolist() for name, array in stored.tensors.items()} == {
        name: array.tolist() for name, array in weights().items()
    }
    if key is not None:
        assert list(read(content, tmp_path, key).tensors) == list(stored.tensors)


PAIRS = [
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("state_dict", "ema_state_dict"),
    ("student", "teacher"),
    ("model.last", "model.best"),
    ("0", "1"),
    ("model", "opt.ema"),
    ("model", "optimizer.averaged_model"),
    ("model", "a.b.c.d.e.f.g"),
    ("model", "opt.model-ema"),
    ("model", "opt.emaModel"),
    ("model", "optimizer.params"),
]


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_of_several_the_user_chooses(one: str, other: str, tmp_path: Path) -> None:
    first, second = nested(one, weights(1)), nested(other, weights(2))
    content = {**BESIDE, **first, **second}
    if "." in one:
        content["model"] = {**first["model"], **second["model"]}
    with pytest.raises(ConversionError) as caught:
        read(content, tmp_path)
    said = f"a.pth: it holds 2 state_dicts: '{one}' (2 tensors), '{other}' (2 tensors); say which of them is meant"
    assert said in str(caught.value) and f"--key {other} on the command line, or key='{other}'" in str(caught.value)
    for key, value in ((one, 1), (other, 2)):
        stored = read(content, tmp_path, key)
        assert (stored.key, stored.tensors["fc.bias"].tolist()) == (key, [value, value])


TORCH_EMA = {"decay": 0.99, "num_updates": 7, "shadow_params": list(weights(2).values()), "collected_params": None}


@pytest.mark.parametrize(
    ("ema", "key"),
    [
        (TORCH_EMA, "ema.shadow_params"),
        (list(weights(2).values()), "ema"),
        (dict(enumerate(weights(2).values())), "ema"),
    ],
)
def test_averaged_weights_without_names(ema: Any, key: str, tmp_path: Path) -> None:
    """They are neither passed over without a word nor guessed at: their order is known to the network alone."""
    content = {"model": weights(), "ema": ema}
    with pytest.raises(ConversionError) as caught:
        read(content, tmp_path)
    said = f"it holds 2 state_dicts: 'model' (2 tensors), '{key}' (2 tensors without names); say which of them is meant"
    assert said in str(caught.value) and "--key model on" in str(caught.value)
    assert read(content, tmp_path, "model").tensors["fc.bias"].tolist() == [1, 1]
    for held, asked in ((content, key), ({"ema": ema}, None)):
        with pytest.raises(
            ConversionError, match=rf"the 2 tensors under the key '{key}' have no names.*\[p\.data\.copy_"
        ):
            read(held, tmp_path, asked)


def test_a_key_that_is_a_number_and_the_same_as_text(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"2 state_dicts under the key 'epochs\.1'"):
        read({"epochs": {1: weights(1), "1": weights(2)}}, tmp_path, "epochs.1")
    assert read({"epochs": {1: weights(1), 2: weights(2)}}, tmp_path, "epochs.2").tensors["fc.bias"].tolist() == [2, 2]


def test_parts_of_one_network(tmp_path: Path) -> None:
    body = {"conv1.weight": np.ones((2, 3), np.float32)}
    with pytest.raises(ConversionError) as caught:
        read({"nets": {"backbone": body, "head": weights()}}, tmp_path)
    joined = "torch.save({**file['nets']['backbone'], **file['nets']['head']}, 'weights.pth')"
    assert "They share no layer: if they are the parts of one network, join them" in str(caught.value)
    assert joined in str(caught.value)
    stored = read({"backbone": body, "head": {"weight": np.ones((2, 3)), "bias": np.ones(2)}}, tmp_path)
    assert (stored.key, stored.passed_over) == ("backbone", ("'head' (2 tensors)",))
    assert read({"backbone": body, "head": {"weight": np.ones((2, 3))}}, tmp_path, "backbone").passed_over == ()


def test_what_lies_at_an_optimizers_key_is_said_and_can_be_had(tmp_path: Path) -> None:
    content = {"model": weights(1), "optim": weights(2)}
    assert read(content, tmp_path).passed_over == ("'optim' (2 tensors)",)
    assert read(content, tmp_path, "optim").tensors["fc.bias"].tolist() == [2, 2]
    with pytest.raises(
        ConversionError, match=r"one state_dict: 'opt' \(2 tensors\), under the key of an.* --key opt on"
    ):
        read({"opt": weights(2), "epoch": 1}, tmp_path)
    assert read({"opt": weights(2), "epoch": 1}, tmp_path, "opt").key == "opt"


def test_numbers_at_an_optimizers_key_are_no_weights(tmp_path: Path) -> None:
    content = {"optimizer": {"rates": np.ones(3)}}
    with pytest.raises(ConversionError, match="where a state_dict was expected: no tensors by name"):
        read(content, tmp_path)
    with pytest.raises(ConversionError, match=r"no state_dict under the key 'x'; it holds one state_dict: 'optimizer'"):
        read(content, tmp_path, "x")


@pytest.mark.parametrize(
    "content", [[weights(), {"a.b": np.ones((2, 2))}], {"a.b": np.ones((2, 2)), "head": weights()}]
)
def test_parts_that_no_line_of_code_joins(content: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        read(content, tmp_path)
    assert "2 state_dicts" in str(caught.value) and "join them" not in str(caught.value)


def test_many_tensors_are_a_network_s_whatever_they_are_called(tmp_path: Path) -> None:
    """Averages are kept under names without dots, too, or by number beside a count."""
    plain = {f"conv{n}weight": np.ones((2, 2), np.float32) for n in range(12)}
    numbered = {"num_updates": np.array([3.0]), **{n: np.ones((2, 2), np.float32) for n in range(12)}}
    for averages in (plain, numbered):
        with pytest.raises(ConversionError, match=r"2 state_dicts: 'state_dict' \(2 tensors\), 'ema' \(1[23] tensors"):
            read({"state_dict": weights(), "ema": averages}, tmp_path)


def test_a_long_key_can_be_copied_from_the_message(tmp_path: Path) -> None:
    key = "EMACallback{'decay': 0.9999, 'every_n_train_steps': 1, 'start_step': 0, 'to': 'the end of the training'}"
    content = {"callbacks": {key: {"ema": weights(2)}}, "state_dict": weights(1)}
    with pytest.raises(ConversionError) as caught:
        read(content, tmp_path)
    (suggested,) = re.findall(r"--key (.+) on the command line", str(caught.value))
    assert shlex.split(suggested) == [f"callbacks.{key}.ema"]
    assert read(content, tmp_path, f"callbacks.{key}.ema").tensors["fc.bias"].tolist() == [2, 2]


def test_copies_under_other_prefixes_are_not_parts(tmp_path: Path) -> None:
    averaged = {f"module.{name}": array for name, array in weights(2).items()}
    with pytest.raises(ConversionError) as caught:
        read({"model": weights(1), "swa": averaged}, tmp_path)
    assert "2 state_dicts" in str(caught.value) and "join them" not in str(caught.value)


def test_one_dictionary_under_two_keys_is_one(tmp_path: Path) -> None:
    same = weights()
    content = {"state_dict": same, "best": dict(same), "model": same}
    assert [read(content, tmp_path, key).key for key in (None, "best", "model")] == ["state_dict", "best", "model"]


def test_tensors_at_the_top_and_in_a_dictionary(tmp_path: Path) -> None:
    content = {**weights(1), "ema": weights(2)}
    with pytest.raises(ConversionError, match=r"2 state_dicts: '\.' \(2 tensors\), 'ema' \(2 tensors\)"):
        read(content, tmp_path)
    assert read(content, tmp_path, ".").tensors["fc.bias"].tolist() == [1, 1]
    assert read(content, tmp_path, ".").key == "."


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    assert read({**weights(), "epoch": 3, "arch": "x"}, tmp_path).others == ("epoch", "arch")


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (
            {"a": weights(), "b": weights(2)},
            "c",
            "no state_dict under the key 'c'; it holds 2 state_dicts: 'a' (2 tensors), 'b'",
        ),
        (
            {"model": weights()},
            "ema",
            "no state_dict under the key 'ema'; it holds one state_dict: 'model' (2 tensors).",
        ),
        ({"model": weights(), "epoch": 1}, "epoch", "no state_dict under the key 'epoch'"),
        ({"model": weights(), "optimizer": ADAM}, "optimizer", "no state_dict under the key 'optimizer'"),
        ({"model": weights(), "optimizer": ADAM}, "optimizer.state.0", "no state_dict under the key"),
        ({"a.b": weights(), "a": {"b": weights(2)}}, "a.b", "2 state_dicts under the key 'a.b'"),
        (weights(), "state_dict", "its 2 tensors are under no key; leave out the key 'state_dict'."),
        (
            {"optimizer": ADAM, "epoch": 1},
            None,
            "a dict where a state_dict was expected: no tensors by name, apart from",
        ),
        ({"model": weights()}, "x\n\x1b[31m", "under the key 'x\\n\\x1b[31m'"),
        ({f"{n}": weights(n) for n in range(30)}, None, "30 state_dicts: '0' (2 tensors), '1' "),
        ({f"{n}": weights(n) for n in range(30)}, None, "'9' (2 tensors), ... and 20 more"),
    ],
)
def test_keys_that_choose_nothing(content: Any, key: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        read(content, tmp_path, key)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["safetensors", "MATLAB", "HDF5"])
def test_formats_without_keys(name: str, tmp_path: Path) -> None:
    beginnings = {"MATLAB": b"MATLAB 5.0", "HDF5": b"\x89HDF\r\n\x1a\n"}
    if name == "safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors")
        write_safetensors(weights(), tmp_path / "a")
    else:
        (tmp_path / "a").write_bytes(beginnings[name])
    message = (
        f"only PyTorch's files hold tensors under a key, and this is of the format {name}. Leave out the key 'ema'."
    )
    with pytest.raises(ConversionError) as caught:
        read_checkpoint(tmp_path / "a", "ema")
    assert str(caught.value) == f"{tmp_path / 'a'}: {message}"


def test_a_file_of_ours_has_no_keys(tmp_path: Path) -> None:
    write_pth(weights(), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").key is None
    with pytest.raises(ConversionError, match="are under no key; leave out the key 'model'"):
        read_checkpoint(tmp_path / "a.pth", "model")


def test_containers_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked into once, whatever refers to it."""
    endless: dict[str, Any] = {"model": weights()}
    endless["self"] = endless
    assert read(endless, tmp_path).key == "model"
    level: list[Any] = [weights()]
    for _ in range(64):
        level = [level, level]
    with pytest.raises(ConversionError, match="more than 20 deep in each other"):
        read(level, tmp_path)
    monkeypatch.setattr(state_dicts, "MAX_CONTAINERS", 100)
    with pytest.raises(ConversionError, match="more than 100 lists and dictionaries"):
        read({"model": weights(), "log": [[n] for n in range(200)]}, tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_torch_reads_what_these_tests_write(legacy: bool, protocol: int, tmp_path: Path) -> None:
    import torch

    content = {"model": weights(), "optimizer": ADAM, "epoch": 3}
    save(content, tmp_path / "a.pth", protocol=protocol, legacy=legacy)
    loaded = torch.load(tmp_path / "a.pth", weights_only=protocol == 2)
    assert (loaded["epoch"], loaded["model"]["fc.weight"].tolist()) == (3, weights()["fc.weight"].tolist())
