"""Recipes: what is read, what may be changed, and every refusal."""

from pathlib import Path

import pytest

from mpncov_zoo.errors import InputError, UnknownModel
from mpncov_zoo.training.recipes import Augmentation, list_recipes, load_recipe


def test_the_recipe_of_the_bundled_weights() -> None:
    recipe = load_recipe("fashion_mnist")
    assert "fashion_mnist" in list_recipes()
    assert (recipe.model, recipe.tag, recipe.dataset) == ("mpncov_cifar_resnet20", "retrained", "fashion_mnist")
    assert recipe.input.size == (28, 28) and recipe.input.channels == 1
    assert recipe.holdout == 0 and recipe.optimizer.nesterov


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("model=cifar_resnet20", "model", "cifar_resnet20"),
        ('model="cifar_resnet20"', "model", "cifar_resnet20"),
        ("optimizer.learning_rate=0.05", "optimizer.learning_rate", 0.05),
        ("augmentation.flip=false", "augmentation.flip", False),
        ('augmentation.crop="random"', "augmentation.crop", "random"),
        ("input.mean=[0.5]", "input.mean", (0.5,)),
    ],
)
def test_a_setting_changes_one_value(setting: str, path: str, value: object) -> None:
    before, after = load_recipe("fashion_mnist").model_dump(), load_recipe("fashion_mnist", [setting]).model_dump()
    *sections, last = path.split(".")
    for section in sections:
        before, after = before[section], after[section]
    assert after[last] == value
    assert {**after, last: before[last]} == before


def test_a_setting_may_add_a_section_and_the_last_one_counts() -> None:
    recipe = load_recipe("fashion_mnist", ["options.features.repeats=2", "epochs=5", "epochs=6"])
    assert recipe.options == {"features": {"repeats": 2}}
    assert recipe.epochs == 6


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shipped = Path(__file__).parents[2] / "mpncov_zoo" / "training" / "recipes" / "fashion_mnist.toml"
    path.write_text(shipped.read_text().replace("epochs = 24", "epochs = 7"))
    assert load_recipe(str(path)) == load_recipe("fashion_mnist", ["epochs=7"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", r"^Recipe fashion_mnist: unknown field 'epoch'; allowed: model, tag,.*\. Did you mean 'epochs'\?"),
        ("optimizer.learningrate=1", r"Did you mean 'learning_rate'\?"),
        ("early_stop=3", "early_stop needs images to measure on: set validation or holdout"),
        ("validation=train", "validation must be another split than 'train'"),
        ("holdout=1.5", "holdout: it is a whole number of images, or a share of them between 0 and 1, such as 0.2"),
        ("holdout=-1", "holdout: it is a whole number of images, or a share"),
        ("holdout=true", "holdout: it is a whole number of images, or a share"),
        ("holdout=many", "holdout: it is a whole number .*; received 'many'"),
        ("remainder=some", "remainder: .*'train' or 'skip'; received 'some'"),
        ("split=0.2", r"split: it is a section of test, val and seed, for example split\.test=0\.2"),
        ("split.seed=1", "split: test and val are shares, .* which together are above 0 and below 1"),
        ("split.test=1", "split.test: .*less than 1; received 1"),
        ("split.tests=0.1", "split: unknown field 'tests'; allowed: test, val, seed"),
        ("ema=1", "ema: .*less than 1; received 1"),
        ("first_stage.epochs=2", "first_stage.optimizer: "),
        ("optimizer.beta=1", "optimizer: unknown field 'beta'; allowed: learning_rate,"),
        ("augmentation.crop=corner", "augmentation.crop: .*'center' or 'random'; received 'corner'"),
        ("augmentation.random_resized_crop={}", "random_resized_crop is a crop already: leave crop and pad_crop"),
        ("augmentation.random_resized_crop.scale=[1,2]", r"scale is \(least, most\), above 0 and at most 1; received"),
        ("epochs=0", "epochs: .*greater than or equal to 1; received 0"),
        ("epochs=many", "epochs must be a number; received 'many'"),
        ("epochs='3'", "epochs must be a number; received '3'"),
        ("optimizer.accumulate=true", "optimizer: accumulate must be a number; received True"),
        ("optimizer.learning_rate=nan", "not finite|finite number|JSON"),
        ("optimizer.warmup_epochs=24", "optimizer.warmup_epochs must be less than epochs"),
        ("precision=float64", "precision: .*'float32', 'mixed_bfloat16' or 'mixed_float16'"),
        ("tag=My.Tag", "tag: .*received 'My.Tag'"),
        ("epochs", "A setting is key=value, for example epochs=10. Received: 'epochs'"),
        ("=3", "A setting is key=value"),
        ("epochs=5\nseed=3", "A setting is one key=value"),
        ("seed=" + "9" * 5000, r"seed must be a number; received '9+\.\.\.$"),
        ("model.depth=3", "'model' in 'model.depth=3' is not a section"),
    ],
)
def test_settings_that_are_refused(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_recipe("fashion_mnist", [setting])
    assert "\n" not in str(caught.value)


def test_two_kinds_of_validation_are_refused() -> None:
    with pytest.raises(InputError, match="validation names a split, holdout takes training images"):
        load_recipe("fashion_mnist", ["validation=test", "holdout=100"])


@pytest.mark.parametrize(
    ("setting", "images", "count"),
    [("30", 330, 30), ("0.2", 45, 9), ("0.1", 4, 1), ("0.5", 5, 2), ("0", 5, 0), ("0.0", 5, 0)],
)
def test_a_holdout_is_a_number_of_images_or_a_share(setting: str, images: int, count: int) -> None:
    assert load_recipe("fashion_mnist", [f"holdout={setting}"]).held_out(images) == count


def test_a_validation_split_that_is_made_is_watched() -> None:
    assert load_recipe("fashion_mnist", ["split.val=0.2"]).validation == "val"
    assert load_recipe("fashion_mnist", ["split.val=0.2", "validation=test"]).validation == "test"
    assert load_recipe("fashion_mnist", ["split.test=0.2"]).validation is None
    assert load_recipe("fashion_mnist", ["split.test=0.2", "split={}"]).split is None
    for settings in (["split.test=0.5", "split.val=0.5"], ["split.val=0.2", "holdout=3"]):
        with pytest.raises(InputError, match=r"together are above 0 and below 1|leave one of them out"):
            load_recipe("fashion_mnist", settings)


# --- one recipe on top of another -------------------------------------------------------------------------------------


def test_a_recipe_extends_another_section_by_section(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "cub_mpncov_vgg16_bn"\ntag = "mine"\n[optimizer]\nstep_epochs = [9, 12]\n')
    mine, base = load_recipe(str(path)), load_recipe("cub_mpncov_vgg16_bn")
    optimizer = base.optimizer.model_copy(update={"step_epochs": (9, 12)})
    assert mine == base.model_copy(update={"tag": "mine", "optimizer": optimizer})
    assert base.optimizer.learning_rate == 3e-3 and base.optimizer.classifier_factor == 5  # its own, and its base's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "nothing"', "No recipe 'nothing'"),
        ('extends = "{own}"', "extends itself: .*mine.toml -> .*mine.toml"),
        ('extends = "./mine.toml"', "extends itself: .*mine.toml -> .*mine.toml"),
        ("extends = 3", "No recipe '3'"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("{own}", str(path)))
    with pytest.raises(InputError, match=message):
        load_recipe(str(path))


def test_a_base_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "elpv"\ntag = "base"')
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "mine.toml"
    path.write_text('extends = "../base.toml"\nepochs = 9')
    assert load_recipe(str(path)) == load_recipe("elpv").model_copy(update={"tag": "base", "epochs": 9})


def test_an_empty_section_takes_back_what_the_base_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "elpv"\nmodel = "efficientnet_lite0"\noptions = {}\naugmentation = {}')
    recipe = load_recipe(str(path))
    assert (recipe.options, recipe.augmentation) == ({}, Augmentation())
    path.write_text('extends = "cub_bcnn_vgg16_bn"\nfirst_stage = {}')
    assert load_recipe(str(path)).first_stage is None


def test_empty_text_takes_back_too() -> None:
    assert load_recipe("elpv", ["validation=", "holdout=100", "freeze="]).validation is None
    assert load_recipe("elpv", ["validation=", "freeze="]).freeze is None


def test_what_the_input_leaves_out_is_as_the_backbone_has_it() -> None:
    spec = load_recipe("elpv", ["model=resnet18"]).input
    assert (spec.size, spec.crop_fraction) == ((224, 224), 1.0)  # the recipe's
    assert (spec.interpolation, spec.mean) == ("bilinear", (0.485, 0.456, 0.406))


def test_two_stages_are_two_recipes() -> None:
    alone, everything = load_recipe("cub_bcnn_vgg16_bn", ["ema=0.9", "freeze=stage1"]).phases()
    assert (alone.freeze, alone.optimizer.learning_rate, alone.epochs, alone.ema) == ("representation", 1.0, 25, 0)
    assert (everything.freeze, everything.optimizer.learning_rate, everything.ema) == ("stage1", 0.01, 0.9)
    assert load_recipe("fashion_mnist").phases() == (load_recipe("fashion_mnist"),)


def test_published_settings() -> None:
    """The published settings of fine-tuning and of training from scratch, each at one place of the files."""
    for dataset, resize, fraction in (
        ("cub", "short_side", 1),
        ("aircraft", "squash", 448 / 512),
        ("cars", "squash", 1),
    ):
        for model, rate, batch in (
            ("mpncov_resnet50", 1e-3, 8),
            ("mpncov_resnet101", 1e-3, 8),
            ("mpncov_vgg16_bn", 3e-3, 10),
        ):
            recipe = load_recipe(f"{dataset}_{model}")
            assert (recipe.dataset, recipe.model, recipe.batch_size) == (dataset, model, batch)
            assert recipe.input.size == (448, 448)
            assert (recipe.input.resize, recipe.input.crop_fraction) == (resize, fraction)
            settings = recipe.optimizer
            assert (settings.learning_rate, settings.classifier_factor, settings.weight_decay) == (rate, 5, 1e-4)
            assert recipe.augmentation.flip and recipe.augmentation.crop == "center"
    for name, epochs, rate, steps in (("gap", 140, 0.1, (90, 120)), ("mpncov", 110, 0.25, (80, 95))):
        recipe = load_recipe(f"cifar100_{name}")
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (epochs, 128, rate)
        assert recipe.optimizer.step_epochs == steps and recipe.optimizer.weight_decay == 1e-4
    recipe = load_recipe("imagenet_mpncov_resnet101")
    assert (recipe.batch_size, recipe.optimizer.learning_rate, recipe.optimizer.warmup_epochs) == (160, 0.1, 5)
    assert recipe.optimizer.step_epochs == (35, 55, 75, 85) and recipe.optimizer.decay_all


def test_an_unknown_model_is_refused_with_close_names() -> None:
    with pytest.raises(UnknownModel, match="'mpncov_cifar_resnet20'"):
        load_recipe("fashion_mnist", ["model=mpncov_cifar_resnet21"])


def test_no_such_recipe() -> None:
    with pytest.raises(
        InputError, match=r"No recipe 'imagenet'; allowed are .*fashion_mnist, .*, or the path of a \.t"
    ):
        load_recipe("imagenet")


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("epochs = = 3")
    with pytest.raises(InputError, match=r"broken\.toml: not valid TOML"):
        load_recipe(str(tmp_path / "broken.toml"))


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "fashion_mnist"\ntag = "mine"\n', encoding="utf-8-sig")
    assert load_recipe(tmp_path / "mine.toml").tag == "mine"


def test_a_recipe_that_is_not_there_is_no_wrong_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^No recipe 'mine\.toml'; allowed are "):
        load_recipe("mine.toml")


def test_stages_that_a_recipe_leaves_out_are_the_models(tmp_path: Path) -> None:
    """They stand in the recipe then, so that a run says what it trained, whatever the table says later."""
    given = 'tag = "mine"\ndataset = "folders"\nepochs = 1\nbatch_size = 2\n[optimizer]\nlearning_rate = 0.1\n'
    (tmp_path / "mine.toml").write_text(f'model = "mpncov_efficientnet_lite0"\n{given}')
    assert load_recipe(tmp_path / "mine.toml").stages == ("stage5", "stage6")
    assert load_recipe(tmp_path / "mine.toml", ["stages=[]"]).stages == ()
    assert load_recipe(tmp_path / "mine.toml", ["model=mpncov_resnet50"]).stages == ()
