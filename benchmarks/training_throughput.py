"""How many images a second do ours, plain Keras and PyTorch train on this machine?

    python benchmarks/training_throughput.py

Three networks at three batch sizes, every peer in a process of its own, one after the other, rounds interleaved so that
a slow minute of the machine hits all alike. A figure is the median over rounds of the median epoch after the first,
each epoch without its first step.

Peers
    ours              `training.fit`: bfloat16 where the CPU has it, fused batch normalisation
    keras_float32     `model.compile` and `model.fit`, as most people write it
    keras_bfloat16    the same with Keras's global policy "mixed_bfloat16"
    torch_float32     PyTorch eager, `channels_last`
    torch_bfloat16    the same under `torch.autocast`
The best PyTorch setting is whichever of the two is faster for the network and batch size.

A bfloat16 (float32 without hardware for it) matrix product's rate is measured in the same run; the table says what
fraction of it the convolutions and dense layers of each peer reach. Writes results/bench_training_throughput.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from statistics import median

NETWORKS = {
    "cnn": {"f1": 32, "f2": 64, "kernel": 3, "dense": 64},
    "mini_resnet": {"blocks": 3, "filters": 64},
    "deep_cnn": {},
}
PEERS = ("ours", "keras_float32", "keras_bfloat16", "torch_float32", "torch_bfloat16")
BATCHES = (32, 128, 512)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repeats of every measurement at batch 128 (others: 1)")
    parser.add_argument("--seconds", type=float, default=6.0, help="aim of one measurement, start-up apart")
    parser.add_argument("--smoke", action="store_true", help="one tiny round; writes to build/smoke/")
    parser.add_argument("--measure", nargs=3, metavar=("PEER", "NETWORK", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        peer, network, batch = options.measure
        print(json.dumps(measure(peer, network, int(batch), options.seconds)))
        return 0

    from fashion_mnist import study

    run = study.start("bench_training_throughput", "smoke" if options.smoke else "full")
    check_networks()
    rounds, seconds, batches = (1, 0.1, (32,)) if options.smoke else (options.rounds, options.seconds, BATCHES)
    figures: dict[tuple[str, str, int], list[float]] = {}
    rates = []
    for turn in range(rounds):
        rates.append(in_own_process("matmul", "-", 0, seconds)["tflops"])
        for network in NETWORKS:
            for batch in batches:
                if turn and batch != 128:
                    continue
                for peer in PEERS:
                    found = in_own_process(peer, network, batch, seconds)
                    figures.setdefault((network, peer, batch), []).append(found["images_per_second"])
                    print(
                        f"{turn + 1} {network:12} {batch:4} {peer:15} {found['images_per_second']:8,.0f}",
                        file=sys.stderr,
                    )

    rate = median(rates)
    table = []
    for (network, peer, batch), values in figures.items():
        speed = median(values)
        fraction = speed * training_flops(network) / (rate * 1e12)
        table.append(
            {
                "network": network,
                "batch": batch,
                "peer": peer,
                "images_per_second": round(speed, 1),
                "rounds": [round(value, 1) for value in values],
                "fraction_of_matmul": round(fraction, 4),
            }
        )
    headline: dict[str, float] = {"matmul_tflops": round(rate, 3)}
    batch = 32 if options.smoke else 128
    for network in NETWORKS:
        ours, keras32, _, *torch = (median(figures[network, peer, batch]) for peer in PEERS)
        headline[f"{network}_vs_torch"] = round(ours / max(torch), 3)
        headline[f"{network}_vs_keras"] = round(ours / keras32, 3)
        headline[f"{network}_images_per_second"] = round(ours, 1)
    for row in table:
        print(
            f"{row['network']:12} {row['batch']:4} {row['peer']:15} {row['images_per_second']:8,.0f} images/s "
            f"{100 * row['fraction_of_matmul']:5.1f} % of a matrix product"
        )
    print("  ".join(f"{key} {value:.2f}" for key, value in headline.items()))
    run.save_result(headline, {"throughput": table})
    return 0


def check_networks() -> None:
    """Stop if a network of PyTorch's has not as many trainable parameters as ours."""
    from fashion_mnist import models

    for network, arguments in NETWORKS.items():
        ours = sum(math.prod(weight.shape) for weight in models.build(network, **arguments).trainable_weights)
        theirs = sum(weight.numel() for weight in torch_network(network).parameters())
        if ours != theirs:
            raise SystemExit(f"{network} has {ours:,} trainable parameters here and {theirs:,} in PyTorch.")


def in_own_process(peer: str, network: str, batch: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--measure", peer, network, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise SystemExit(f"{peer} on {network} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(peer: str, network: str, batch: int, seconds: float) -> dict[str, float]:
    if peer == "matmul":
        return {"tflops": matmul_tflops(seconds)}
    # Epochs long enough that their number does not matter, whole batches only; three counted, one to warm up.
    guess = {"cnn": 6000, "mini_resnet": 500, "deep_cnn": 600}[network] / (1 if "bf" in peer or peer == "ours" else 2.5)
    steps = max(3, math.ceil(guess * seconds / 3 / batch))
    images, labels = random_images(steps * batch)
    epochs = {"ours": ours, "keras": keras_epochs, "torch": torch_epochs}[peer.split("_")[0]](
        network, images, labels, batch, peer.partition("_")[2]
    )
    return {"images_per_second": (len(images) - batch) / median(epochs[1:])}


def random_images(count: int):
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, count)


def ours(network, images, labels, batch, _) -> list[float]:
    from fashion_mnist import models, training

    model = models.build(network, **NETWORKS[network])
    recipe = training.Recipe(epochs=4, batch_size=batch)
    clock = epoch_clock()
    training.fit(model, (images, labels), (images[:32], labels[:32]), recipe, callbacks=[clock])
    return clock.seconds


def keras_epochs(network, images, labels, batch, precision) -> list[float]:
    import keras

    from fashion_mnist import models

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    model = models.build(network, **NETWORKS[network])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    clock = epoch_clock()
    model.fit(images, labels, batch_size=batch, epochs=4, verbose=0, callbacks=[clock])
    return clock.seconds


def epoch_clock():
    """Callback whose ``seconds`` holds the time of every epoch's training steps but the first.

    The first step also starts the input pipeline, which is lost in a real epoch of hundreds of steps and would not be
    in the short ones measured here.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_train_batch_end(self, batch, logs=None):
            self.last = time.perf_counter()
            if batch == 0:
                self.started = self.last

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(self.last - self.started)

    return Clock()


def torch_epochs(network, images, labels, batch, precision) -> list[float]:
    import torch

    model = torch_network(network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, foreach=True)
    criterion = torch.nn.CrossEntropyLoss()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # (n, 1, 28, 28) in memory as channels_last
    targets = torch.from_numpy(labels)
    seconds = []
    for _ in range(4):
        order = torch.randperm(len(pixels))
        for start in range(0, len(pixels), batch):
            if start == batch:
                started = time.perf_counter()
            chosen = order[start : start + batch]
            inputs = (pixels[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                loss = criterion(model(inputs), targets[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds


def torch_network(network: str):
    """The same layers in PyTorch; `check_networks` compares the parameter counts."""
    from torch import nn

    def conv(inputs, outputs, bias):
        return nn.Conv2d(inputs, outputs, 3, padding="same", bias=bias)

    def conv_bn(inputs, outputs):
        return nn.Sequential(conv(inputs, outputs, False), nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU())

    if network == "cnn":
        return nn.Sequential(
            *(conv(1, 32, True), nn.ReLU(), nn.MaxPool2d(2)),
            *(conv(32, 64, True), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
    if network == "deep_cnn":
        layers, width = [], 1
        for stage, wider in enumerate((64, 128, 256)):
            layers += [conv_bn(width, wider), conv_bn(wider, wider)]
            layers += [nn.MaxPool2d(2) if stage < 2 else nn.AdaptiveAvgPool2d(1), nn.Dropout((0.25, 0.3, 0.4)[stage])]
            width = wider
        head = [
            nn.Flatten(),
            nn.Linear(256, 256, bias=False),
            nn.BatchNorm1d(256, eps=1e-3),
            nn.ReLU(),
            nn.Dropout(0.4),
        ]
        return nn.Sequential(*layers, *head, nn.Linear(256, 10))

    class Block(nn.Module):
        def __init__(self, filters):
            super().__init__()
            self.body = nn.Sequential(conv(filters, filters, True), nn.ReLU(), conv(filters, filters, True))

        def forward(self, x):
            return nn.functional.relu(self.body(x) + x)

    blocks = [Block(64) for _ in range(3)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(conv(1, 64, True), nn.ReLU(), *blocks, *head)


def matmul_tflops(seconds: float, size: int = 2048) -> float:
    """Best rate of a square matrix product, in 10^12 multiplications and additions a second."""
    import tensorflow as tf

    from fashion_mnist import training

    dtype = tf.bfloat16 if training.best_precision() == "bfloat16" else tf.float32
    matrix = tf.cast(tf.random.normal((size, size)), dtype)
    times = []
    until = time.perf_counter() + max(seconds, 0.5)
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        tf.linalg.matmul(matrix, matrix).numpy()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / median(times) / 1e12


def training_flops(network: str) -> float:
    """Multiplications and additions of one image's forward and backward pass, convolutions and dense layers only."""
    from fashion_mnist import models

    total = 0
    for layer in models.build(network, **NETWORKS[network]).layers:
        if hasattr(layer, "kernel"):
            positions = math.prod(layer.output.shape[1:-1])
            total += 2 * math.prod(layer.kernel.shape) * positions
    return 3 * total  # the gradients for inputs and for weights cost as much as the forward pass each


if __name__ == "__main__":
    raise SystemExit(main())
