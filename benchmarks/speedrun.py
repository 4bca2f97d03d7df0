"""How many seconds of training does a mean test accuracy of 94.0 and of 95.0 % take on this machine?

    python benchmarks/speedrun.py --choose [--target 94]    # how long each has to train, on validation images
    python benchmarks/speedrun.py [--target 94]             # the race, to one target or to both

Ours    `mini_resnet_bn` with `training.fit`, orthogonalised steps, flips, batches of 512; `SETTINGS` has its sizes. It
        answers with the mean over an image and its mirror image.
Theirs  airbench94 (Jordan, 2024, https://arxiv.org/abs/2404.00498), the fastest published recipe for CIFAR-10, in
        PyTorch as published: whitened first layer, dirac initialisation, alternating flips, Nesterov SGD with decoupled
        settings, lookahead. What the data forces is different: one channel, 28 pixels. In channels_last, and in
        bfloat16 where the processor multiplies it, the fastest of its settings. Also tried: the paper's shifts of two
        pixels, with which it answers as published, with the mean over an image, its mirror image and both shifted by a
        pixel; and to 95 % the widths of the paper's airbench95.

The clock runs from the arrays in memory to the trained weights, in a process of its own whose imports are done:
building and compiling count, evaluation does not. `--choose` trains on 50,000 images and takes the fewest epochs whose
mean validation accuracy is half a point above the target; the race trains on 60,000, so many epochs, and only then
looks at the test set. The record keeps the race to the other target, if it was run on such a machine.

Needs the extra `bench`. Writes results/bench_speedrun.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import mean, median

import numpy as np

from fashion_mnist import records

# Seeds are those of the race. To 94 %, of the validation images, three seeds each: ours has 94.23 after 6 epochs,
# 94.47 after 7 and 94.39 after 8, never the 94.5 that it needs. All epochs here are placeholders until `--choose` has
# found them.
SETTINGS = {
    ("ours", "94"): {"filters": 32, "epochs": 8, "seeds": 5},
    ("torch", "94"): {"widths": (64, 256, 256), "shift": 0, "epochs": 8, "seeds": 5},
    ("ours", "95"): {"filters": 64, "epochs": 20, "seeds": 3},
    ("torch", "95"): {"widths": (64, 256, 256), "shift": 0, "epochs": 32, "seeds": 1},
}
CANDIDATES = {"94": (4, 5, 6, 7, 8, 10, 12), "95": (14, 18, 24, 32)}  # epochs
WIDER = {"widths": (128, 384, 384)}  # those of airbench95
MARGIN = 0.005


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true", help="find the epochs on validation images; writes nothing")
    parser.add_argument("--target", choices=CANDIDATES, help="race to this one only")
    parser.add_argument("--smoke", action="store_true", help="tiny trainings; writes to build/smoke/")
    parser.add_argument("--train", metavar="SETTINGS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(**json.loads(options.train))))
        return 0
    if importlib.util.find_spec("torch") is None:
        raise SystemExit('The peer is PyTorch\'s: pip install -e ".[bench]"')
    targets = [options.target] if options.target else list(CANDIDATES)
    if options.choose:
        choose(targets, options.smoke)
        return 0

    from fashion_mnist import study

    run = study.start("bench_speedrun", "smoke" if options.smoke else "full")
    like = run.shipped.get("machine", {}).get("flags") == records.machine()["flags"]
    kept = run.shipped["tables"]["trainings"] if like else []
    rows = [row for row in kept if row["target"] not in targets]
    rows += [row for target in targets for row in race(target, options.smoke)]
    headline = summary(rows)
    print("\n".join(f"{key:36} {value:,.4f}" for key, value in headline.items()))
    run.save_result(headline, {"trainings": rows}, readme=readme(headline))
    return 0


def race(target: str, smoke: bool) -> list[dict]:
    """All trainings to a target, ours and theirs in turn, so that a slow minute hits both."""
    seeds = {who: 1 if smoke else SETTINGS[who, target]["seeds"] for who in ("ours", "torch")}
    return [
        alone(who, target, SETTINGS[who, target], seed, "test", smoke)
        for seed in range(max(seeds.values()))
        for who in seeds
        if seed < seeds[who]
    ]


def summary(rows: list[dict]) -> dict[str, float]:
    headline = {}
    for target in sorted({row["target"] for row in rows}):
        for who, start in (("ours", ""), ("torch", "torch_")):
            own = [row for row in rows if row["who"] == who and row["target"] == target]
            headline[f"{start}seconds_to_{target}"] = round(median(row["seconds"] for row in own), 1)
            headline[f"{start}test_accuracy_{target}"] = mean(row["accuracy"] for row in own)
            headline[f"{start}epochs_{target}"], headline[f"{start}seeds_{target}"] = own[0]["epochs"], len(own)
        theirs, ours = headline[f"torch_seconds_to_{target}"], headline[f"seconds_to_{target}"]
        headline[f"ratio_{target}"] = round(theirs / ours, 3)
    return headline


def readme(headline: dict[str, float]) -> str:
    """Seconds and accuracy of both at both targets, in Markdown."""
    rows = []
    for target in (target for target in CANDIDATES if f"ratio_{target}" in headline):
        cells = [
            "{:.0f} s, {:.2%} (seeds: {}, epochs: {})".format(
                *(headline[f"{start}{what}_{target}"] for what in ("seconds_to", "test_accuracy", "seeds", "epochs"))
            )
            for start in ("", "torch_")
        ]
        rows.append([f"{target}.0 %", *cells, f"{headline[f'ratio_{target}']:.2f}"])
    return records.table(["Target", "Ours", "airbench94 in PyTorch", "Ratio"], rows, left=3)


def choose(targets: Sequence[str], smoke: bool) -> None:
    """Print how long each has to train: the fewest epochs with a mean validation accuracy above target and margin."""
    others = [(("torch", target), SETTINGS["torch", target] | {"shift": 2}) for target in CANDIDATES]
    others.append((("torch", "95"), SETTINGS["torch", "95"] | WIDER))
    for (who, target), settings in [*SETTINGS.items(), *others]:
        if target not in targets:
            continue
        for epochs in CANDIDATES[target][: 1 if smoke else None]:
            tried = settings | {"epochs": epochs}
            seeds = range(100, 101 if smoke else 102 if target == "95" else 103)  # none of the race's
            rows = [alone(who, target, tried, seed, "validation", smoke) for seed in seeds]
            reached = mean(row["accuracy"] for row in rows)
            print(f"{who:6} {target} {tried} {reached:.4f} in {rows[0]['seconds']:.0f} s", flush=True)
            if reached >= int(target) / 100 + MARGIN:
                break


def alone(who: str, target: str, settings: dict, seed: int, split: str, smoke: bool) -> dict:
    """Train in a process of its own; at `smoke` for an epoch."""
    settings = settings | ({"epochs": 1} if smoke else {})
    asked = {"who": who, "target": target, "settings": settings, "seed": seed, "split": split, "smoke": smoke}
    done = subprocess.run([sys.executable, __file__, "--train", json.dumps(asked)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr}")
    row = json.loads(done.stdout.splitlines()[-1])
    print(f"{who:6} {target} seed {seed}: {row['seconds']:.1f} s, {row['accuracy']:.2%}", file=sys.stderr)
    return row


def train(who: str, target: str, settings: dict, seed: int, split: str, smoke: bool) -> dict:
    """One training: its seconds, and its accuracy on the images of `split`."""
    from fashion_mnist import data

    images = data.load()
    if smoke:
        images = images.subset(2_048, 500, 500)
    x, y, judged = images.x_train, images.y_train, (images.x_val, images.y_val)
    if split == "test":
        x, y = np.concatenate([x, images.x_val]), np.concatenate([y, images.y_val])
        judged = images.x_test, images.y_test
    trainer = ours if who == "ours" else airbench
    seconds, answer = trainer(x, y, seed, settings)
    accuracy = float((answer(judged[0]).argmax(axis=1) == judged[1]).mean())
    row = {"who": who, "target": target, "epochs": settings["epochs"], "seed": seed}
    return row | {"seconds": seconds, "accuracy": accuracy}


def ours(x: np.ndarray, y: np.ndarray, seed: int, settings: dict):
    from fashion_mnist import models, training
    from fashion_mnist._backend import keras
    from fashion_mnist.augment import Augmentation

    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = models.build("mini_resnet_bn", blocks=1, filters=settings["filters"], stages=3)
    faster = {"batch_size": min(512, len(x)), "learning_rate": 0.2, "augmentation": Augmentation(flip=True)}
    recipe = training.RECIPES["muon"].replace(epochs=settings["epochs"], **faster)
    # Nothing is chosen on validation images, so a batch is enough to see whether a training goes astray.
    training.fit(model, (x, y), (x[:512], y[:512]), recipe, seed=seed)
    seconds = time.perf_counter() - began
    return seconds, lambda images: training.predict(model, images, mirror=True)


# --- airbench94 ------------------------------------------------------------------------------------------------------


def airbench(x: np.ndarray, y: np.ndarray, seed: int, settings: dict):
    import torch
    import torch.nn.functional as f

    from fashion_mnist._backend import best_precision

    in_hardware = best_precision() == "bfloat16"  # elsewhere it is emulated, which takes several times as long
    batch, momentum, smoothing, whitening_epochs = min(1024, len(x)), 0.85, 0.2, 3
    epochs = settings["epochs"]
    kilostep = 1024 * (1 + 1 / (1 - momentum))
    rate, decay, bias_scaler = 11.5 / kilostep, 0.0153 * batch / kilostep, 64.0

    began = time.perf_counter()
    torch.manual_seed(seed)
    center, spread = float(x.mean() / 255), float(x.std() / 255)

    def ready(images: np.ndarray):
        values = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return ((values - center) / spread).contiguous(memory_format=torch.channels_last)

    images, labels = ready(x), torch.from_numpy(y)
    model = _airbench_network(images[:5000], *settings["widths"])
    flipped = torch.where((torch.rand(len(images)) < 0.5)[:, None, None, None], images.flip(-1), images)
    shift = settings["shift"]
    padded = f.pad(flipped, (shift,) * 4, mode="reflect") if shift else flipped

    biases = [p for name, p in model.named_parameters() if p.requires_grad and "norm" in name]
    others = [p for name, p in model.named_parameters() if p.requires_grad and "norm" not in name]
    groups = [
        {"params": biases, "lr": rate * bias_scaler, "weight_decay": decay / (rate * bias_scaler)},
        {"params": others, "lr": rate, "weight_decay": decay / rate},
    ]
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=True)
    per_epoch = len(images) // batch
    total = per_epoch * epochs

    def triangle(step: int) -> float:  # from 0.2 up to 1 at 23 % of the steps, then down to 0.07
        return float(np.interp(step, [0, int(0.23 * total), total], [0.2, 1, 0.07]))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, triangle)
    slow = {name: value.clone() for name, value in model.state_dict().items()}

    def lookahead(keep: float) -> None:
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.dtype == torch.float32:
                    slow[name].lerp_(value, 1 - keep)
                    value.copy_(slow[name])

    step = 0
    for epoch in range(epochs):
        model.train()
        model[0].bias.requires_grad_(epoch < whitening_epochs)
        order = torch.randperm(len(images))
        for start in range(0, per_epoch * batch, batch):
            chosen = order[start : start + batch]
            inputs = _shifted(padded[chosen], shift) if shift else padded[chosen]
            inputs = inputs.flip(-1) if epoch % 2 else inputs  # every image alternates
            with torch.autocast("cpu", torch.bfloat16, enabled=in_hardware):
                outputs = model(inputs)
            loss = f.cross_entropy(outputs.float(), labels[chosen], label_smoothing=smoothing, reduction="sum")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if step % 5 == 0:
                lookahead(0.95**5 * (step / total) ** 3)
    lookahead(1.0)
    seconds = time.perf_counter() - began

    def said(unseen: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            sides = ready(unseen), ready(unseen[:, :, ::-1])
            logits = sum(torch.cat([model(part) for part in side.split(500)]) for side in sides) / 2
        return f.log_softmax(logits, dim=1).numpy()

    return seconds, (lambda unseen: averaged(said, unseen)) if shift else said


def averaged(answer, images: np.ndarray) -> np.ndarray:
    """Log-probabilities over an image and its mirror image, half of them of the image in place, half of both shifts."""
    frame = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    views = {1: 0.5, 0: 0.25, 2: 0.25}  # where the window begins, in rows and columns, and how much it counts
    return sum(share * answer(frame[:, at : at + 28, at : at + 28]) for at, share in views.items())


def _shifted(padded, shift: int):
    """Each image of a batch moved by up to so many pixels either way."""
    import torch

    side, count = padded.shape[-1] - 2 * shift, len(padded)
    moves = torch.randint(0, 2 * shift + 1, (2, count, 1))
    rows, columns = (moves[axis] + torch.arange(side) for axis in (0, 1))
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)  # channels last in memory


def _airbench_network(images, *widths: int):
    """Whitening, three groups of two convolutions, one linear layer."""
    import torch
    from torch import nn

    def conv(inside: int, outside: int):
        layer = nn.Conv2d(inside, outside, 3, padding="same", bias=False)
        torch.nn.init.dirac_(layer.weight[:inside].data)
        return layer

    def norm(channels: int):
        layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
        layer.weight.requires_grad_(False)
        return layer

    def group(inside: int, outside: int):
        parts = {"conv1": conv(inside, outside), "pool": nn.MaxPool2d(2), "norm1": norm(outside), "act1": nn.GELU()}
        parts |= {"conv2": conv(outside, outside), "norm2": norm(outside), "act2": nn.GELU()}
        group = nn.Sequential()
        for name, part in parts.items():
            group.add_module(name, part)
        return group

    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(x) / 9

    whitening = nn.Conv2d(1, 8, 2)
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).reshape(-1, 4).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    white = (vectors / torch.sqrt(values + 5e-4)).T.flip(0).reshape(4, 1, 2, 2).float()
    whitening.weight.data = torch.cat([white, -white])
    whitening.weight.requires_grad_(False)
    groups = [group(inside, outside) for inside, outside in zip((8, *widths), widths, strict=False)]
    parts = [whitening, nn.GELU(), *groups, nn.MaxPool2d(3), nn.Flatten()]
    return nn.Sequential(*parts, Scaled(widths[-1], 10, bias=False)).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    raise SystemExit(main())
