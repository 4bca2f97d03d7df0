"""What a study chooses among: sound parameters, grids that can be counted, and plans that can be built."""

import pytest

from fashion_mnist import models, spaces  # isort: skip  first, so that TensorFlow starts silently

from fashion_mnist.spaces import SPACES, Float, Plan, Space
from fashion_mnist.training import RECIPES, Recipe


def space(**parameters):
    return Space("mine", parameters, lambda values: Plan("mlp", {"hidden": (values["units"],)}, RECIPES["plain"]))


def test_the_starting_projects_grids():
    cnn, resnet = SPACES["cnn_grid"].configurations(), SPACES["resnet_grid"].configurations()
    assert (len(cnn), len(resnet)) == (36, 12)
    assert len({tuple(values.values()) for values in cnn}) == 36
    assert {"f1": 64, "f2": 128, "kernel": 3, "dense": 32} in cnn
    assert {"blocks": 3, "filters": 64} in resnet


@pytest.mark.parametrize("name", SPACES)
def test_whatever_a_space_holds_can_be_built(name):
    space = spaces.named(name)
    for values in space.probes():
        plan = space.plan(values)
        model = models.build(plan.architecture, **plan.arguments)
        assert model.output_shape == (None, 10)
        assert isinstance(plan.recipe, Recipe)


def test_the_plan_of_a_search_follows_its_values():
    values = {"normalisation": "batch", "convolutions": 2, "stages": 3, "width": 16, "dense": 64, "dropout": 0.1}
    values |= {"optimizer": "sgd", "learning_rate": 1e-3, "batch_size": 256, "augmentation": "flip and shift"}
    plan = SPACES["cnn_search"].plan(values)
    assert plan.architecture == "deep_cnn"
    assert plan.arguments == {"widths": (16, 32, 64), "dense": 64, "dropouts": (0.1,) * 4}
    assert (plan.recipe.optimizer, plan.recipe.batch_size) == ("sgd", 256)
    assert plan.recipe.learning_rate == pytest.approx(0.05)
    assert (plan.recipe.augmentation.flip, plan.recipe.augmentation.shift) == (True, 2)
    assert SPACES["cnn_search"].plan(values | {"convolutions": 1}).architecture == "regularised_cnn"
    assert SPACES["cnn_search"].plan(values | {"normalisation": "none"}).architecture == "cnn"
    adam = SPACES["cnn_search"].plan(values | {"optimizer": "adam"}).recipe
    assert (adam.optimizer, adam.learning_rate) == ("adam", 1e-3)


def test_probes_move_one_parameter_at_a_time():
    probed = list(space(units=(1, 2, 3), rate=Float(0.1, 0.2)).probes())
    assert probed == [
        {"units": 1, "rate": 0.1},
        {"units": 2, "rate": 0.1},
        {"units": 3, "rate": 0.1},
        {"units": 1, "rate": 0.2},
    ]


@pytest.mark.parametrize("values", [(), (1, 1), [1, 2], Float(1, 1), Float(3, 2), Float(0, 1, log=True)], ids=repr)
def test_a_parameter_without_sense_is_refused(values):
    with pytest.raises(ValueError, match="Parameter 'units' of space 'mine'"):
        space(units=values)


def test_a_parameter_named_like_a_column_of_trials_is_refused():
    with pytest.raises(ValueError, match="Space 'mine': rename epochs, state"):
        space(state=(1,), units=(2,), epochs=(3,))


def test_a_range_is_no_grid():
    assert space(units=(1, 2)).is_grid
    assert not space(units=Float(1, 9)).is_grid
    with pytest.raises(ValueError, match="no grid: units have a range"):
        space(units=Float(1, 9)).configurations()


def test_a_space_is_found_by_name_or_given():
    mine = space(units=(1, 2))
    assert spaces.named(mine) is mine
    assert spaces.named("cnn_grid") is SPACES["cnn_grid"]
    with pytest.raises(ValueError, match="There is no space 'dance'; choose one of cnn_grid"):
        spaces.named("dance")
