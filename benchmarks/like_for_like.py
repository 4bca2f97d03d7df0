"""How long does the starting project's Mini ResNet take by its own recipe, in plain Keras and by `training.fit`?

    python benchmarks/like_for_like.py

The same network, `mini_resnet(3, 64)`, the same recipe (Adam at 0.001, batches of 32) and the same images, a quarter of
them held out. Theirs is `model.fit` on arrays in float32, as most write it. Both are measured on the same part of an
epoch, validation included and the first step apart, in turn, so that a slow minute hits both. Epochs and accuracies
are those of the three trainings by that recipe in 04_resnet_tuning, which stopped by themselves.

Writes results/bench_like_for_like.json.
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean, median

REPORTED = 0.9295
TRAIN, HELD_OUT = 45_000, 15_000  # as published


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=3200, help="part of an epoch, a multiple of 32")
    parser.add_argument("--smoke", action="store_true", help="a few images; writes to build/smoke/")
    options = parser.parse_args()

    from fashion_mnist import evaluation, study

    run = study.start("bench_like_for_like", "smoke" if options.smoke else "full")
    seeds = list(run.networks("starting_mini_resnet_seed*").values())
    if not seeds:
        raise SystemExit("There is no starting_mini_resnet of this data here: run 04_resnet_tuning first.")
    rows = []
    for turn in range(1 if options.smoke else options.rounds):
        rows.append({"round": turn + 1, **seconds_per_epoch(run.data, 64 if options.smoke else options.images)})
        print(rows[-1], file=sys.stderr)

    ratios = [row["keras"] / row["fit"] for row in rows]
    accuracy, spread = evaluation.mean_and_std([one.card["scores"]["test"]["accuracy"] for one in seeds])
    headline = {"seeds": len(seeds), "epochs": mean(one.card["epochs"] for one in seeds), "rounds": len(rows)}
    headline |= {"test_accuracy_mean": accuracy, "test_accuracy_std": spread}
    for who in ("keras", "fit"):
        headline[f"{who}_seconds_per_epoch"] = round(median(row[who] for row in rows), 1)
        headline[f"{who}_seconds"] = round(headline["epochs"] * headline[f"{who}_seconds_per_epoch"], 1)
    headline |= {"ratio": median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
    print("\n".join(f"{key:24} {value:,.3f}" for key, value in headline.items()))
    run.save_result(headline, {"rounds": rows}, readme=readme(headline, rows[0]["precision"]))
    return 0


def readme(headline: dict[str, float], precision: str) -> str:
    """What docs/RESULTS.md says of it; `precision` is that of `fit`."""
    accuracy = f"{100 * headline['test_accuracy_mean']:.2f} ± {100 * headline['test_accuracy_std']:.2f} %"
    return (
        f"A starting project reports {100 * REPORTED:.2f} % of the test images for a Mini ResNet 3-64. By its recipe "
        f"the network has {accuracy} here, after {headline['epochs']:.0f} epochs on average (seeds: "
        f"{headline['seeds']}). In plain Keras, in float32, that takes about {headline['keras_seconds'] / 60:.0f} "
        f"minutes, by `training.fit`, with the same network, recipe and images in {precision}, about "
        f"{headline['fit_seconds'] / 60:.0f}: {headline['ratio']:.2f} times as fast (rounds: {headline['rounds']}, "
        f"from {headline['ratio_low']:.2f} to {headline['ratio_high']:.2f}; both extrapolated from part of an epoch). "
        + "Most of that is the number format: in the table above plain Keras in bfloat16 is level with `fit` on this "
        "network." * (precision == "bfloat16")
    )


def seconds_per_epoch(images, count: int) -> dict[str, float | str]:
    """A whole epoch with its validation, by plain Keras and by `fit`, extrapolated from so many images."""
    from fashion_mnist import models, training, tuning

    plan = tuning.Plan("mini_resnet", {"blocks": 3, "filters": 64}, training.RECIPES["starting_resnet"])
    training_rate, evaluation_rate = tuning.plain_keras_rates(plan, images.x_train, images.y_train, count=count)
    held_out = count * HELD_OUT // TRAIN
    done = training.fit(
        models.build(plan.architecture, **plan.arguments),
        (images.x_train[:count], images.y_train[:count]),
        (images.x_val[:held_out], images.y_val[:held_out]),
        plan.recipe.replace(epochs=2),
    )
    ours = done.history["seconds"][1] * TRAIN / count  # the first epoch traces the step
    theirs = TRAIN / training_rate + HELD_OUT / evaluation_rate
    return {"keras": theirs, "fit": ours, "precision": done.precision}


if __name__ == "__main__":
    raise SystemExit(main())
