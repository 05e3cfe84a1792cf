"""Recipes: what they hold, what they refuse."""

import pytest

from ctma import load_recipe
from ctma.errors import SettingError, UnknownNameError
from ctma.training.recipes import list_recipes
from ctma.training.settings import BCESettings, NLLSettings
from support import ROOT

DATA = ("svcd", "levir-cd", "whu-cd")


def test_a_recipe_in_a_file_takes_teachers_as_the_recipe_itself_does(ctma, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(ctma("recipes", "levir-cd/ctma-s").stdout)
    settings = ["teacher.checkpoints={ctma-lite: 1}"]
    assert load_recipe(str(path), settings).teacher.checkpoints == {"ctma-lite": 1}
    assert (
        load_recipe("levir-cd/ctma-s", settings).teacher == load_recipe(str(path), settings).teacher
    )


@pytest.mark.parametrize(
    ("dataset", "lr", "step_size", "gamma", "epochs", "repeats", "fusion"),
    [
        ("svcd", 4e-4, 10, 0.1, 30, 7, 0.5),
        ("levir-cd", 2e-3, 30, 0.2, 40, 2, 0.67),
        ("whu-cd", 4e-4, 15, 0.2, 30, 7, 0.7),
    ],
)
@pytest.mark.parametrize("network", ["ctma", "ctma-s"])
def test_recipes_hold_the_published_figures(
    dataset, network, lr, step_size, gamma, epochs, repeats, fusion
):
    recipe = load_recipe(f"{dataset}/{network}")
    assert recipe.network == network
    assert recipe.arguments["fusion"] == fusion
    assert recipe.arguments["video_len"] == 8
    assert (recipe.optimizer.name, recipe.optimizer.lr) == ("adam", lr)
    assert recipe.optimizer.weight_decay == 0
    assert (recipe.schedule.name, recipe.schedule.step_size) == ("step", step_size)
    assert recipe.schedule.gamma == gamma
    assert (recipe.trainer.epochs, recipe.data.repeats) == (epochs, repeats)
    assert (recipe.data.batch_size, recipe.data.crop_size) == (8, 256)
    assert recipe.data.augmentation == "paper"
    assert (recipe.loss.class_weights, recipe.loss.coarse) == ((0.5, 0.5), 0.4)
    assert recipe.loss.dice == 0


def test_settings_change_a_recipe():
    recipe = load_recipe("levir-cd/ctma", ["optimizer.lr=1e-3", "model.pretrained=false"])
    assert recipe.optimizer.lr == 1e-3
    assert recipe.arguments["pretrained"] is False


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {name: ctma-s}\ntrainer: {epochs: 3}\n")
    assert load_recipe(str(path)).trainer.epochs == 3


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {name: ctma-s}\ntrainer: {epochs: 3}\ntrainer: {patience: 2}\n")
    with pytest.raises(SettingError, match="'trainer' stands twice"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["optimizer.lrr=1"], r"optimizer\.lrr.*optimizer\.lr"),
        (["optimiser.lr=1"], r"optimiser.*optimizer"),
        (["teacher.checkpoint={ctma-lite: 1}"], r"teacher\.checkpoint'.*teacher\.checkpoints"),
        (["model.videolen=3"], r"model\.videolen.*model\.video_len"),
        (["model.name=cdma"], r"cdma.*ctma"),
        (["data.augmentation=papers"], r"papers.*paper"),
        (["data.augmentation=strong", "data.without=[swop]"], r"swop.*swap"),
        (["data.augmentation=none", "data.without=[swap]"], r"swap.*there is none"),
    ],
)
def test_unknown_keys_suggest_the_nearest(settings, expected):
    with pytest.raises(UnknownNameError, match=expected):
        load_recipe("levir-cd/ctma-s", settings)


def test_one_margin_holds_for_network_and_loss():
    with pytest.raises(SettingError, match=r"loss\.margin: is 1, and model\.margin 2"):
        load_recipe("levir-cd/stanet", ["model.margin=2"])
    recipe = load_recipe("levir-cd/stanet", ["model.margin=2", "loss.margin=2"])
    assert recipe.loss.margin == 2


@pytest.mark.parametrize(
    "setting",
    ["optimizer.lr=fast", "optimizer.lr=-1", "trainer.epochs=1.5", "model.video_len=long",
     "loss.class_weights=[0, 1]", "data.sources=[{folder: x, single: true}]",
     "data.batch_size=0", "schedule.name=cosine", "trainer.precision=half"],
)  # fmt: skip
def test_wrong_values_name_their_key(setting):
    with pytest.raises(SettingError, match=setting.split("=")[0].replace(".", r"\.")):
        load_recipe("levir-cd/ctma-s", [setting])


def test_unknown_recipes_suggest_the_nearest():
    assert {"svcd/ctma", "levir-cd/ctma", "whu-cd/ctma", "levir-cd/ctma-s"} <= set(list_recipes())
    with pytest.raises(UnknownNameError, match="levir-cd/ctma"):
        load_recipe("levir/ctma")


@pytest.mark.parametrize("split", ["test", "train", "./test", "all"])
def test_the_best_checkpoint_is_never_picked_on_test_or_train(split):
    with pytest.raises(SettingError, match="validation_split"):
        load_recipe("levir-cd/ctma", [f"data.validation_split={split}"])


def test_every_key_of_a_recipe_and_every_recipe_is_documented():
    text = (ROOT / "docs/reference/recipes.md").read_text()
    content = load_recipe("levir-cd/ctma-s").model_dump()
    keys = [
        f"{part}.{key}"
        for part in ("data", "optimizer", "schedule", "loss", "trainer")
        for key in content[part]
    ]
    assert [name for name in [*keys, *list_recipes()] if f"`{name}`" not in text] == []


def test_the_network_part_of_a_recipe_says_what_differs_by_data():
    fusions = [load_recipe(f"{data}/ctma-s").arguments["fusion"] for data in DATA]
    assert fusions == [0.5, 0.67, 0.7]
    assert {f"{data}/{network}" for data in DATA for network in ("ctma", "ctma-s")} < {
        *list_recipes()
    }


def test_a_family_of_losses_has_its_own_keys():
    assert load_recipe("levir-cd/ctma-s").loss == BCESettings()
    recipe = load_recipe("levir-cd/ctma-s", ["loss.name=nll", "loss.class_weights=[1, 2]"])
    assert recipe.loss == NLLSettings(class_weights=(1, 2))
    with pytest.raises(
        UnknownNameError, match=r"'loss\.coarse': did you mean loss\.name, loss\.class_weights\?"
    ):
        load_recipe("levir-cd/ctma-s", ["loss.name=nll", "loss.coarse=1"])
    with pytest.raises(UnknownNameError, match=r"loss 'mse': did you mean bce, .*nll"):
        load_recipe("levir-cd/ctma-s", ["loss.name=mse"])
    with pytest.raises(SettingError, match="data: expected keys and values, got 1"):
        load_recipe("levir-cd/ctma-s", ["data=1"])


def test_a_recipe_without_a_family_means_the_papers_loss(tmp_path):
    """Recipes of runs before there were families say none."""
    path = tmp_path / "former.yaml"
    path.write_text("model: {name: ctma-s}\nloss: {coarse: 1.0, dice: 0.5}\n")
    assert load_recipe(str(path)).loss == BCESettings(coarse=1.0, dice=0.5)
