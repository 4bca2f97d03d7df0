"""Steps are what the optimisers' papers say, kernel by kernel."""

import numpy as np
import pytest

from fashion_mnist import models, optimizers  # isort: skip  first, so that TensorFlow starts silently
import keras


def test_weight_decay_shrinks_kernels_only():
    model = models.regularised_cnn((4,), dense=8)
    optimizer = optimizers.build("sgd", 0.5, weight_decay=0.1)
    optimizer.build(model.trainable_variables)
    before = [keras.ops.convert_to_numpy(variable) + 1 for variable in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        expected = value * 0.95 if variable.name == "kernel" else value
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("shape", [(288, 64), (27, 64)])
def test_orthogonalised_keeps_singular_vectors_and_evens_singular_values(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ np.asarray(optimizers.orthogonalised(matrix)) @ right.T
    assert values.max() / values.min() > 1.5
    assert np.diag(inside).min() > 0.5 and np.diag(inside).max() < 1.3
    np.testing.assert_allclose(inside - np.diag(np.diag(inside)), 0, atol=0.02)  # bfloat16 where the CPU has it


def test_muon_moves_a_kernel_by_its_rate_and_keeps_its_norm_but_leaves_the_rest_to_sgd():
    keras.utils.set_random_seed(0)
    model = models.build("deep_cnn", widths=(4, 8, 8), dense=16)
    optimizer = optimizers.build("muon", 0.1, weight_decay=1e-3)
    kernel = model.get_layer("stage2_conv1").kernel
    before = {weight.path: np.asarray(weight) for weight in model.trainable_weights}
    gradients = [np.random.default_rng(1).normal(size=w.shape).astype(np.float32) for w in model.trainable_weights]
    optimizer.apply(gradients, model.trainable_weights)
    unit = before[kernel.path] * (8**0.5 / np.linalg.norm(before[kernel.path]))
    step = np.linalg.norm((unit - np.asarray(kernel)).reshape(-1, 8), ord=2)
    assert 0.5 < step / (0.1 * 0.35) < 1.3
    rest = [(w, g) for w, g in zip(model.trainable_weights, gradients, strict=True) if len(w.shape) < 4]
    for weight, gradient in rest:
        decay = 0.1 * 1e-3 * before[weight.path] if weight.path.endswith("kernel") else 0
        expected = before[weight.path] - decay - 0.1 * 1.9 * gradient  # Nesterov's first step with momentum 0.9
        np.testing.assert_allclose(np.asarray(weight), expected, rtol=1e-4, atol=1e-5)


def test_muon_with_adam_moves_hidden_kernels_by_its_rate_and_the_rest_as_adam_does():
    def trained(name):
        keras.utils.set_random_seed(0)
        model = models.build("mini_resnet", blocks=1, filters=4)
        before = {weight.path: np.asarray(weight) for weight in model.trainable_weights}
        rng = np.random.default_rng(1)
        gradients = [rng.normal(size=weight.shape).astype(np.float32) for weight in model.trainable_weights]
        optimizers.build(name, 0.01).apply(gradients, model.trainable_weights)
        return {weight.path: np.asarray(weight) - before[weight.path] for weight in model.trainable_weights}

    ours, adam = trained("muon_adam"), trained("adam")
    hidden = {"block1_conv1/kernel", "block1_conv2/kernel", "dense/kernel"}
    assert hidden < set(ours)
    for path, change in ours.items():
        if path in hidden:
            singular = np.linalg.svd(change.reshape(-1, change.shape[-1]), compute_uv=False)
            assert singular.min() / (10 * 0.01) > 0.5 and singular.max() / (10 * 0.01) < 1.3
        else:
            np.testing.assert_array_equal(change, adam[path])
