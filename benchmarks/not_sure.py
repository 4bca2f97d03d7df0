"""Can a network tell what is no garment?

    python benchmarks/not_sure.py               # every network with weights
    python benchmarks/not_sure.py --missing     # those that the record lacks or has of another training
    python benchmarks/not_sure.py --images 50   # a quick look, written below build/smoke/

Three kinds of pictures that are no garments go the way of an uploaded one: noise, scikit-learn's handwritten digits
enlarged, and crops of its two photographs. Five scores say how strange an image is to a network, see
`expert.strangeness`. Each gets the threshold that refuses `REFUSED` of one half of each kind or, if that cost more than
`GARMENTS` of the validation images, the one that costs so many; the score that refuses most of the kind it is worst at
is chosen. Only then do the other half and the test images say how good that is. The measured numbers are in
results/bench_not_sure.json, where `fashion-mnist app` and `predict` find score and threshold; the features of garments
lie in results/arrays/.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_images
from tqdm import tqdm

from fashion_mnist import data, explain, networks, photos, records, study
from fashion_mnist.headless import expert

COUNT = 1000  # of noise and of crops
TRAIN = 10_000  # training images from which the features of the classes are known
GARMENTS = 0.04  # of the validation garments are refused at most, to stay below one in twenty on the test
REFUSED = 0.95  # of each kind of non-garments, where that costs fewer garments
HOME = ("centres", "whitening")  # of features; the second for Mahalanobis distances only
SHRINKAGE = 0.1  # of the mean variance, added to each: directions that hardly vary must not decide alone


def prepared(pictures) -> np.ndarray:
    """Pictures as the demo prepares them, without those it refuses because they are of one colour."""
    images = []
    for picture in pictures:
        try:
            images.append(photos.prepare(Image.fromarray(picture)))
        except photos.PhotoError:
            continue
    return np.stack(images)


def noise(count: int, rng: np.random.Generator):
    """Uniform noise, from fine grain to clouds of three pixels, each over the full range of greys."""
    for _ in range(count):
        grain = ndimage.gaussian_filter(rng.random((28, 28)), rng.choice((0, 0.5, 1, 2, 3)))
        yield (255 * (grain - grain.min()) / np.ptp(grain)).astype(np.uint8)


def digits(count: int):
    """Handwritten digits, 8 x 8, enlarged to 224 x 224, white on black."""
    for image in load_digits().images[:count]:
        yield np.asarray(Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((224, 224), Image.BICUBIC))


def crops(count: int, rng: np.random.Generator):
    """Squares out of a temple and a flower, from 28 pixels to the height of the photograph."""
    pictures = load_sample_images().images
    for index in range(count):
        picture = pictures[index % 2]
        side = rng.integers(28, picture.shape[0] + 1)
        top, left = (rng.integers(0, length - side + 1) for length in picture.shape[:2])
        yield picture[top : top + side, left : left + side]


def home_of(model, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What `expert.strangeness` has to know of the features of garments."""
    found = expert.features(model, images).astype(np.float64)
    centres = np.stack([found[labels == label].mean(axis=0) for label in range(10)])
    values, vectors = np.linalg.eigh(np.cov((found - centres[labels]).T))
    whitening = vectors / np.sqrt(values + SHRINKAGE * values.mean())
    return {"centres": centres.astype(np.float32), "whitening": whitening.astype(np.float16)}


def compared(network, home: dict, garments: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a score: its threshold, and the shares of garments and non-garments that it refuses; the best first."""

    def strange(images: np.ndarray) -> dict[str, np.ndarray]:
        logits = explain.feature_maps(network.model, images, network.model.layers[-1].name)
        return expert.strangeness(logits, network.card["temperature"], expert.features(network.model, images), home)

    by_kind = {kind: strange(images) for kind, images in {**garments, **others}.items()}
    rows = []
    for score, validation in by_kind["validation"].items():
        choosing = {kind: by_kind[kind][score][::2] for kind in others}
        needed = min(np.quantile(values, 1 - REFUSED) for values in choosing.values())
        threshold = max(needed, np.quantile(validation, 1 - GARMENTS))
        row = {"network": network.name, "trained": network.card["created"], "score": score, "threshold": threshold}
        row["worst_choosing"] = min((values > threshold).mean() for values in choosing.values())
        row |= {kind: (by_kind[kind][score][1::2] > threshold).mean() for kind in others}
        rows.append(row | {f"{split}_garments": (by_kind[split][score] > threshold).mean() for split in garments})
    return pd.DataFrame(rows).sort_values(["worst_choosing", "validation_garments"], ascending=[False, True])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help="images of each kind, 20 to 500, for a quick look")
    parser.add_argument("--missing", action="store_true", help="measure only what the record lacks")
    parser.add_argument("--data", help="the data set; searched if not given")
    arguments = parser.parse_args()
    if arguments.images is not None and not 20 <= arguments.images <= 500:
        parser.error(f"--images is {arguments.images}; give 20 to 500, or leave it out for the full benchmark")
    run = study.start("bench_not_sure", "smoke" if arguments.images else "full", 0, arguments.data)
    count, train = arguments.images or COUNT, arguments.images or TRAIN
    rng = np.random.default_rng(run.seed)
    others = {"noise": noise(count, rng), "digits": digits(arguments.images), "crops": crops(count, rng)}
    others = {kind: prepared(pictures) for kind, pictures in others.items()}
    garments = {"validation": run.data.x_val[: arguments.images], "test": run.data.x_test[: arguments.images]}

    tables, chosen = [], []
    every = networks.every(run.root, data.OFFICIAL_FINGERPRINT)
    # What a record has of a network as it is; without one all are measured.
    known = run.shipped["tables"]["scores"] if arguments.missing and run.shipped else []
    arrays = records.read_arrays(run.root / "results/arrays/bench_not_sure.npz") if known else {}
    for network in tqdm([each for each in every.values() if each.has_weights], disable=None):
        as_it_is = network.name, network.card["created"]
        rows = pd.DataFrame([row for row in known if (row["network"], row["trained"]) == as_it_is])
        home = {name: arrays[f"{network.name}/{name}"] for name in HOME if f"{network.name}/{name}" in arrays}
        if rows.empty:
            home = home_of(network.model, run.data.x_train[:train], run.data.y_train[:train])
            rows = compared(network, home, garments, others)
        tables.append(rows)
        chosen.append(rows.iloc[0])
        kept = HOME if "Mahalanobis" in chosen[-1]["score"] else HOME[:1]
        run.arrays |= {f"{network.name}/{name}": home[name] for name in kept}
    scores, chosen = pd.concat(tables, ignore_index=True), pd.DataFrame(chosen).reset_index(drop=True)
    print(scores.drop(columns="trained").to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    best = scores[scores["network"] == expert.find().name].set_index("score")
    shown = {"": best.iloc[0], "_by_probability": best.loc["probability"]}
    headline = {f"{kind}_refused{how}": row[kind] for how, row in shown.items() for kind in (*others, "test_garments")}
    found = sentence(best, scores)
    run.save_result(
        headline, {"networks": chosen, "scores": scores}, summary=found, readme=f"{table(chosen)}\n\n{found}"
    )


def table(chosen: pd.DataFrame) -> str:
    """What each network refuses by the score that was chosen for it, the most useful one first, in Markdown."""
    rows = [
        [
            f"`{row['network']}`",
            row["score"],
            *(f"{100 * row[kind]:.1f} %" for kind in ("noise", "digits", "crops", "test_garments")),
        ]
        for row in chosen.sort_values("worst_choosing", ascending=False).to_dict("records")
    ]
    return records.table(["Network", "Score", "Noise", "Digits", "Crops", "Test garments"], rows, left=2)


def sentence(best: pd.DataFrame, scores: pd.DataFrame) -> str:
    """What was found for the network that the demo uses, and how far another training of a kind is from the first."""
    row, naive = best.iloc[0], best.loc["probability"]
    kinds = {"noise": "of the noise", "digits": "of the digits", "crops": "of the crops of two photographs"}
    kinds["test_garments"] = "of the test garments"
    refused = study.listed(f"{row[kind]:.1%} {name}" for kind, name in kinds.items())
    text = (
        f"By the {row.name} of its features, `{row['network']}`, which the demo uses, refuses {refused}. By its "
        f"probability alone it would refuse {study.listed(f'{naive[kind]:.1%}' for kind in kinds)}."
    )
    same = scores[(scores["score"] == row.name) & scores["network"].str.startswith("cnn_seed")]["digits"]
    if len(same) > 1:
        text += f" Trainings differ: by that score {len(same)} seeds of the CNN refuse {same.min():.0%} to "
        text += f"{same.max():.0%} of the digits."
    return text


if __name__ == "__main__":
    main()
