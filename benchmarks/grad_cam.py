"""How many Grad-CAM maps a second: a whole batch in one compiled pass against the usual loop over images.

The loop is written after the widely copied Keras example (keras.io/examples/vision/grad_cam, Apache 2.0): a second
model that also gives the convolution's output, and a gradient tape, image by image. The starting project builds that
second model anew for each image, and the headline `speedup_vs_loop` is against that; the example as published builds it
once. The last row compiles the loop as well, so what it lacks is the batch alone.
Same network (CNN 32-64-3-64, last convolution), same images, same process; the contenders take turns, the maps are
compared before anything is timed, and rates are medians over the repeats. The measured numbers are in
results/bench_grad_cam.json.

    python benchmarks/grad_cam.py               # the test images
    python benchmarks/grad_cam.py --images 50   # a quick look, written below build/smoke/
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from tqdm import tqdm

from fashion_mnist import explain, models, study  # first, so that TensorFlow starts silently

import keras  # isort: skip
import tensorflow as tf  # isort: skip

IMAGES = 500
REPEATS = 5
NETWORK, LAYER = "cnn_seed0", "conv2"
OURS = "ours, batched"


def with_convolution(model: keras.Model) -> keras.Model:
    """The example's second model: convolution and prediction."""
    return keras.Model(model.inputs, [model.get_layer(LAYER).output, model.output])


def usual_grad_cam(grad_model: keras.Model, image: tf.Tensor) -> tf.Tensor:
    """The Keras example's heat map of one image, shape (1, 28, 28, 1); its model has no softmax either."""
    with tf.GradientTape() as tape:
        features, predictions = grad_model([image])
        score = predictions[:, tf.argmax(predictions[0])]
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(0, 1, 2))
    heatmap = tf.squeeze(features[0] @ weights[..., tf.newaxis])
    return tf.maximum(heatmap, 0) / tf.math.reduce_max(heatmap)


def contenders(model: keras.Model) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name and function from images to maps, ours first."""
    once = with_convolution(model)
    compiled = tf.function(lambda image: usual_grad_cam(once, image), reduce_retracing=True)

    def loop(heatmap: Callable) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: np.stack([heatmap(tf.constant(image[None], tf.float32)).numpy() for image in images])

    return {
        OURS: lambda images: explain.grad_cam(model, images, LAYER),
        "loop, model rebuilt for each image": loop(lambda image: usual_grad_cam(with_convolution(model), image)),
        "loop, model built once": loop(lambda image: usual_grad_cam(once, image)),
        "loop, built once and compiled": loop(compiled),
    }


def check_equal(competing: dict[str, Callable], images: np.ndarray) -> None:
    """All contenders must give the same maps; the example divides 0 by 0 where ours is all zero."""
    expected = competing[OURS](images)
    for name, maps in competing.items():
        difference = np.abs(np.nan_to_num(maps(images)) - expected).max()
        if difference > 1e-3:
            raise AssertionError(f"The maps of '{name}' differ from ours by up to {difference:.2g}.")


def seconds(maps: Callable, images: np.ndarray) -> float:
    """How long a contender takes for the maps of images."""
    begin = time.perf_counter()
    maps(images)
    return time.perf_counter() - begin


def measure(competing: dict[str, Callable], images: np.ndarray, repeats: int) -> pd.DataFrame:
    """Maps a second, a row a contender; one repeat times every contender before the next one starts."""
    turns = tqdm(range(repeats), desc="repeats", disable=None, leave=False)
    took = pd.DataFrame([{name: seconds(maps, images) for name, maps in competing.items()} for _ in turns])
    rates = len(images) / took
    table = pd.DataFrame({"maps_per_second": rates.median(), "lowest": rates.min(), "highest": rates.max()})
    table["speedup_of_ours"] = table.loc[OURS, "maps_per_second"] / table["maps_per_second"]
    return table.rename_axis("method")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help=f"images to explain, 1 to 200, for a quick look (full: {IMAGES})")
    parser.add_argument("--data", help="the data set; searched if not given")
    arguments = parser.parse_args()
    if arguments.images is not None and not 1 <= arguments.images <= 200:
        parser.error(f"--images is {arguments.images}; give 1 to 200, or leave it out for the full benchmark")

    profile, repeats = ("full", REPEATS) if arguments.images is None else ("smoke", 2)
    run = study.start("bench_grad_cam", profile, 0, arguments.data)
    images = run.data.x_test[: arguments.images or IMAGES]
    competing = contenders(models.load(NETWORK))
    compile_seconds = seconds(competing[OURS], images[:1])
    check_equal(competing, images[: min(50, len(images))])
    table = measure(competing, images, repeats)
    print(f"\n{len(images)} test images, {NETWORK}, layer {LAYER}, median of {repeats} repeats\n")
    print(table.to_string(float_format="{:,.1f}".format))
    _, rebuilt, built_once, compiled = table["speedup_of_ours"]
    headline = {
        "maps_per_second": table.loc[OURS, "maps_per_second"],
        "speedup_vs_loop": rebuilt,
        "speedup_vs_loop_built_once": built_once,
        "speedup_vs_loop_compiled": compiled,
        "first_call_seconds": compile_seconds,
        "images": len(images),
        "repeats": repeats,
    }
    run.save_result(headline, {"methods": table, "model": {"network": NETWORK, "layer": LAYER}})


if __name__ == "__main__":
    main()
