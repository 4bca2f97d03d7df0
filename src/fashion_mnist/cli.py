"""The command line, ``fashion-mnist VERB``: results on standard output, messages on standard error.

Exit status 0 done, 1 failed, 2 wrong usage, 130 interrupted. Whatever is slow to import is imported by the verb that
needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fashion_mnist import __version__

SPLITS = ("train", "validation", "test")
PROFILES = ("smoke", "quick", "full")  # the keys of study.PROFILES, which costs NumPy to import
SPACES = ("cnn_grid", "resnet_grid", "cnn_search", "resnet_search")  # the keys of tuning.SPACES, which costs TensorFlow


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` if not given.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed, 130 interrupted. Wrong usage leaves through SystemExit(2), as argparse does it.
    """
    # Tables and progress hold characters that a Windows console's own encoding may lack.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        return chosen.act(chosen)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fashion-mnist … | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from fashion_mnist.data import DataError

        # Sentences meant for the user are the whole message; anything else is a bug and shows where it happened.
        if isinstance(error, (DataError, ValueError, OSError)):
            print(f"fashion-mnist: {error}", file=sys.stderr)
            return 1
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fashion-mnist",
        description="A study of Fashion-MNIST in notebooks: get the data, run the notebooks, render what they found.",
        epilog="Example: fashion-mnist run --profile quick && fashion-mnist report",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_run(verbs)
    _add_report(verbs)
    _add_data(verbs)
    _add_colab(verbs)
    _add_evaluate(verbs)
    _add_compare(verbs)
    _add_tune(verbs)
    return parser


def _verb(verbs: argparse._SubParsersAction, name: str, description: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=description[0].lower() + description[1:].split(".")[0],
        description=description,
        epilog=f"Example: {example}",
    )


def _add_study_options(verb: argparse.ArgumentParser, profile_help: str) -> None:
    """What decides the outcome of a study: --profile, --data and --seed."""
    verb.add_argument("--profile", choices=PROFILES, default="quick", help=f"{profile_help} (%(default)s)")
    _add_data_option(verb)
    verb.add_argument("--seed", type=_seed, default=0, help="seed of everything random (%(default)s)")


def _add_data_option(verb: argparse.ArgumentParser, what: str = "the data set") -> None:
    verb.add_argument("--data", type=Path, metavar="PATH", help=f"{what}; searched for if not given")


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..{2**32 - 1}")
    return seed


# ------------------------------------------------------------------------------------------------------------- run


def _add_run(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "run",
        "Execute the notebooks in order. What is done already for the same code, profile, seed and data is kept.",
        "fashion-mnist run 01_eda 02_baselines --profile quick",
    )
    verb.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="which ones, such as 01_eda; all if not given")
    _add_study_options(verb, profile_help="how much of everything")
    verb.add_argument("--fresh", action="store_true", help="execute also what is done already")
    verb.set_defaults(act=_run, parser=verb)


def _run(chosen: argparse.Namespace) -> int:
    from fashion_mnist import study

    _check_notebooks(chosen)
    return study.run(chosen.notebooks, chosen.profile, chosen.data, chosen.seed, chosen.fresh)


def _check_notebooks(chosen: argparse.Namespace) -> None:
    """Leave as for any wrong usage if a notebook was named that there is not."""
    from fashion_mnist import study

    if chosen.notebooks:
        try:
            study.notebooks(chosen.notebooks)
        except ValueError as error:
            chosen.parser.error(str(error))


# ---------------------------------------------------------------------------------------------------------- report


def _add_report(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "report",
        "Render the executed notebooks to HTML in build/report. With --readme, rewrite README's tables instead.",
        "fashion-mnist report --profile full",
    )
    verb.add_argument("--profile", choices=PROFILES, help="whose notebooks; quick if there are any, else full")
    verb.add_argument("--readme", action="store_true", help="rewrite the tables of README.md from results/")
    verb.add_argument("--check", action="store_true", help="with --readme: change nothing, fail if a table is stale")
    verb.set_defaults(act=_report, parser=verb)


def _report(chosen: argparse.Namespace) -> int:
    from fashion_mnist import study

    if chosen.check and not chosen.readme:
        chosen.parser.error("--check goes with --readme")
    if chosen.profile and chosen.readme:
        chosen.parser.error("--readme takes its numbers from results/, which are those of full; leave --profile out")
    if not chosen.readme:
        print(study.report(chosen.profile))
        return 0
    differing = study.readme(check=chosen.check)
    if differing and chosen.check:
        print(
            f"README.md differs from results/ in {', '.join(differing)}; `fashion-mnist report --readme` rewrites it.",
            file=sys.stderr,
        )
        return 1
    print(f"README.md: {', '.join(differing)} rewritten." if differing else "README.md agrees with results/.")
    return 0


# ------------------------------------------------------------------------------------------------------------ data


def _add_data(verbs: argparse._SubParsersAction) -> None:
    data = _verb(
        verbs,
        "data",
        "Get, check and pack the data set.",
        "fashion-mnist data fetch && fashion-mnist data verify",
    )
    actions = data.add_subparsers(title="verbs", metavar="VERB", required=True)

    fetch = _verb(
        actions,
        "fetch",
        "Download the four official files. Cut-off downloads go on; checksums are verified.",
        "fashion-mnist data fetch --to Data",
    )
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="where to; Data/ if not given")
    fetch.set_defaults(act=_data_fetch)

    verify = _verb(
        actions, "verify", "Compare files with the official checksums.", "fashion-mnist data verify --data Data"
    )
    _add_data_option(verify, "folder of the files")
    verify.set_defaults(act=_data_verify)

    pack = _verb(
        actions,
        "pack",
        "Pack the real data into one zip, for Colab or a machine without network. "
        "Not over the checkout's data.zip unless told: that is the sample, and under version control.",
        "fashion-mnist data pack --to /media/stick/data.zip",
    )
    _add_data_option(pack)
    pack.add_argument("--to", type=Path, metavar="FILE", help="zip to write; build/data.zip if not given")
    pack.set_defaults(act=_data_pack)

    sample = _verb(
        actions,
        "sample",
        "Generate the small offline sample from the real data, the same bytes every time.",
        "fashion-mnist data sample --to data.zip",
    )
    _add_data_option(sample, "the real data")
    sample.add_argument("--to", type=Path, metavar="FILE", help="zip to write; the checkout's data.zip if not given")
    sample.set_defaults(act=_data_sample)

    info = _verb(actions, "info", "Say which data would be used, and what is in it.", "fashion-mnist data info")
    _add_data_option(info)
    info.set_defaults(act=_data_info)


def _data_fetch(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data

    print(data.fetch(chosen.to))
    return 0


def _data_verify(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data

    checks = data.verify(chosen.data)
    width = max(len(file) for file, *_ in checks)
    for file, expected, actual, right in checks:
        verdict = "ok" if right else f"{actual}, {expected}" if right is None else f"WRONG: {actual}, not {expected}"
        print(f"{file:<{width}}  {verdict}")
    if wrong := [file for file, _, _, right in checks if right is False]:
        print(f"{len(wrong)} of {len(checks)} files are not what they should be.", file=sys.stderr)
        return 1
    return 0


def _data_pack(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data

    print(data.pack(chosen.data, chosen.to or data.root() / "build" / "data.zip"))
    return 0


def _data_sample(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data

    source = data.load(chosen.data)
    print("Fitting and drawing ten classes takes about a minute.", file=sys.stderr)
    print(data.write_sample(source, chosen.to or data.root() / "data.zip"))
    return 0


def _data_info(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data

    facts = data.info(chosen.data)
    for name in ("path", "source", "kind", "fingerprint"):
        print(f"{name:<12}  {facts[name]}")
    for number, (file, size) in enumerate(facts["files"].items()):
        print(f"{'files' if number == 0 else '':<12}  {file}, {size:,} bytes")
    splits = facts["images"]
    print(f"\n{'images':<12}" + "".join(f"{split:>12}" for split in splits))
    for name in data.CLASS_NAMES:
        print(f"{name:<12}" + "".join(f"{facts['classes'][split][name]:>12,}" for split in splits))
    print(f"{'all':<12}" + "".join(f"{count:>12,}" for count in splits.values()))
    if facts["kind"] == "sample":
        print(data.SAMPLE_BANNER, file=sys.stderr)
    return 0


# ----------------------------------------------------------------------------------------------------------- colab


def _add_colab(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "colab",
        "Write copies of the notebooks that run on Google Colab with nothing else uploaded.",
        "fashion-mnist colab main --to build/colab",
    )
    verb.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="which ones, such as 01_eda; all if not given")
    verb.add_argument("--to", type=Path, metavar="FOLDER", help="where to; build/colab if not given")
    verb.set_defaults(act=_colab, parser=verb)


def _colab(chosen: argparse.Namespace) -> int:
    from fashion_mnist import colab

    _check_notebooks(chosen)
    for copy in colab.write_colab(chosen.notebooks, chosen.to):
        print(f"{copy.path}  {copy.size / 1e6:.1f} MB")
        if copy.left_out:
            print(f"{copy.path.name} is full; left out: {', '.join(copy.left_out)}", file=sys.stderr)
    return 0


# ------------------------------------------------------------------------------------------------------------ tune


def _add_tune(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "tune",
        "Search a space of configurations by successive halving. Validation images decide; a killed study resumes.",
        "fashion-mnist tune cnn_grid --profile quick --workers 2",
    )
    verb.add_argument("space", choices=SPACES, metavar="SPACE", help=f"one of {', '.join(SPACES)}")
    verb.add_argument("--workers", type=_count, default=1, metavar="N", help="processes on this machine (%(default)s)")
    verb.add_argument("--scheduler", type=_address, metavar="ADDRESS", help="Dask scheduler to use: tcp://host:8786")
    verb.add_argument("--storage", metavar="URL", help="Optuna storage; SQLite in build/tuning if not given")
    verb.add_argument("--trials", type=_count, metavar="N", help="configurations; all of a grid, 36 of a search")
    verb.add_argument("--epochs", type=_count, metavar="E", help="of a whole training; the profile's if not given")
    _add_study_options(verb, profile_help="how many images and epochs")
    verb.add_argument("--name", help="of the study; made from its settings if not given")
    verb.add_argument("--resume", action="store_true", help="go on with the study if it was begun")
    verb.set_defaults(act=_tune, parser=verb)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def _address(text: str) -> str:
    if "://" not in text:
        raise argparse.ArgumentTypeError(f"{text} is no address such as tcp://host:8786")
    return text


def _tune(chosen: argparse.Namespace) -> int:
    if chosen.scheduler and chosen.workers > 1:
        chosen.parser.error("--workers starts processes here, --scheduler uses those that are; give one of them")

    from fashion_mnist import data, study

    profile = study.profile_named(chosen.profile)
    dataset = data.load(chosen.data).subset(profile.train_images, profile.validation_images, profile.test_images)
    print(dataset.describe(), file=sys.stderr)

    from fashion_mnist import tuning

    try:
        tuned = tuning.tune(
            chosen.space,
            (dataset.x_train, dataset.y_train),
            (dataset.x_val, dataset.y_val),
            epochs=chosen.epochs or (profile.resnet_epochs if "resnet" in chosen.space else profile.cnn_epochs),
            trials=chosen.trials,
            seed=chosen.seed,
            storage=chosen.storage,
            name=chosen.name,
            workers=chosen.workers,
            scheduler=chosen.scheduler,
            resume=chosen.resume,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted. The same command with --resume goes on.") from None

    names = list(tuned.space.parameters)
    rows = [["accuracy", "epochs", "seconds", *names]]
    for trial in tuned.top(10):
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.params.values()]
        rows.append([f"{trial.accuracy:.4f}", str(trial.epochs), f"{trial.seconds:.0f}", *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)))
    if dataset.kind == "sample":
        print(data.SAMPLE_BANNER, file=sys.stderr)
    for trial in tuned.trials:
        if trial.state == "failed":
            print(f"Trial {trial.number}, {trial.params}, failed: {trial.error}", file=sys.stderr)
    states = [trial.state for trial in tuned.trials]
    print(
        f"Study {tuned.name}: {states.count('complete')} trained out, {states.count('pruned')} pruned, "
        f"{states.count('failed')} failed; {tuned.epochs} epochs in {tuned.seconds:.0f} s",
        file=sys.stderr,
    )
    return 0


# ------------------------------------------------------------------------------------------------ evaluate, compare


def _add_evaluate(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "evaluate",
        "Measure a Keras model of yours or ours on a split of the data. It takes 28 x 28 images, with or without a "
        "channel axis or flat, and gives ten probabilities or logits.",
        "fashion-mnist evaluate models/cnn_seed0.keras --split test",
    )
    verb.add_argument("model", type=Path, metavar="MODEL", help="a saved Keras model: .keras, or .h5 of Keras 2")
    _add_measuring(verb)
    verb.set_defaults(act=_evaluate, parser=verb)


def _add_compare(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "compare",
        "Say which of several Keras models is better on the same images, if that can be said. "
        "It is about these trained models: other seeds of the same recipe differ too.",
        "fashion-mnist compare models/mlp_seed0.keras models/cnn_seed0.keras",
    )
    verb.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="two saved Keras models or more")
    _add_measuring(verb)
    verb.set_defaults(act=_compare, parser=verb)


def _add_measuring(verb: argparse.ArgumentParser) -> None:
    _add_data_option(verb)
    verb.add_argument("--split", choices=SPLITS, default="test", help="which images (%(default)s)")
    verb.add_argument(
        "--scaled",
        choices=("auto", "raw", "unit"),
        default="auto",
        help="whether the model wants pixels in 0..255 (raw) or 0..1 (unit); auto tries both on validation images",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")


def _evaluate(chosen: argparse.Namespace) -> int:
    from fashion_mnist import data, evaluation

    model = evaluation.load_classifier(chosen.model)
    dataset = data.load(chosen.data)
    print(dataset.describe(), file=sys.stderr)
    labels = dataset.splits()[chosen.split][1]
    probabilities, how = _answers(model, chosen.model, chosen, dataset)
    summary = evaluation.evaluate(labels, probabilities)
    summary["calibration_error"] = evaluation.calibration_error(labels, probabilities)
    report = evaluation.class_report(labels, probabilities.argmax(axis=1), data.CLASS_NAMES)
    if chosen.json:
        classes = report.reset_index().to_dict("records")
        _print_json({**_measured(chosen, dataset), "model": str(chosen.model), **how, **summary, "classes": classes})
        return 0

    print(f"{chosen.model}: {len(labels):,} images of the {chosen.split} split")
    low, high = summary["accuracy_low"], summary["accuracy_high"]
    print(f"\n{'accuracy':<30}{summary['accuracy']:8.2%}  (95% interval {low:.2%} to {high:.2%})")
    for name in ("precision", "recall", "f1"):
        print(f"{f'{name}, mean of the classes':<30}{summary[f'{name}_macro']:8.2%}")
    print(f"{'loss (nats)':<30}{summary['loss']:8.4f}")
    print(f"{'expected calibration error':<30}{summary['calibration_error']:8.2%}")
    print(f"\n{'class':<12}{'precision':>11}{'recall':>11}{'f1':>11}{'images':>9}")
    for name, precision, recall, f1, images in report.itertuples():
        print(f"{name:<12}{precision:11.2%}{recall:11.2%}{f1:11.2%}{images:9,}")
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    if len(chosen.models) < 2:
        chosen.parser.error("give two models or more")
    if len(set(chosen.models)) < len(chosen.models):
        chosen.parser.error("a model is named twice")

    from fashion_mnist import data, evaluation

    stems = [path.stem for path in chosen.models]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in chosen.models]
    models = [evaluation.load_classifier(path) for path in chosen.models]
    dataset = data.load(chosen.data)
    print(dataset.describe(), file=sys.stderr)
    labels = dataset.splits()[chosen.split][1]
    predictions, rows = {}, []
    for name, path, model in zip(names, chosen.models, models, strict=True):
        probabilities, how = _answers(model, path, chosen, dataset)
        predictions[name] = probabilities.argmax(axis=1)
        correct = int((predictions[name] == labels).sum())
        low, high = evaluation.wilson_interval(correct, len(labels))
        accuracy = {"accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}
        rows.append({"name": name, "model": str(path), **how, **accuracy})
    pairs = evaluation.pairwise(labels, predictions).to_dict("records")
    if chosen.json:
        _print_json({**_measured(chosen, dataset), "models": rows, "pairs": pairs})
        return 0

    print(f"{len(labels):,} images of the {chosen.split} split\n")
    width = max(map(len, names))
    for row in rows:
        low, high = row["accuracy_low"], row["accuracy_high"]
        print(f"{row['name']:<{width}}  {row['accuracy']:7.2%}  (95% interval {low:.2%} to {high:.2%})")
    print()
    for pair in pairs:
        print(_verdict(pair, adjusted=len(pairs) > 1))
    return 0


def _verdict(pair: dict, adjusted: bool) -> str:
    """What a comparison shows, in words."""
    first, second, difference = pair["first"], pair["second"], pair["difference"]
    if pair["p_adjusted"] < 0.05:
        better, worse = (first, second) if difference > 0 else (second, first)
        says = f"{better} is better than {worse}"
    else:
        says = f"No difference shown between {first} and {second}"
    correction = f", {pair['p_adjusted']:.2g} after Holm's correction" if adjusted else ""
    return (
        f"{says}: {first} less {second} is {100 * difference:+.2f} points "
        f"(95% interval {100 * pair['low']:+.2f} to {100 * pair['high']:+.2f}); right alone on {pair['only_first']:,} "
        f"and {pair['only_second']:,} images, exact McNemar p = {pair['p_value']:.2g}{correction}."
    )


def _answers(model, path: Path, chosen: argparse.Namespace, dataset) -> tuple:
    """A model's probabilities for the chosen split, and how its input and output were understood."""
    from fashion_mnist import evaluation

    scaling = chosen.scaled
    if scaling == "auto":
        every = max(1, len(dataset.y_val) // 2000)
        images, labels = dataset.x_val[::every], dataset.y_val[::every]
        scaling, accuracies = evaluation.find_scaling(model, images, labels)
        used, other = ("0..255", "0..1") if scaling == "raw" else ("0..1", "0..255")
        best, worst = max(accuracies.values()), min(accuracies.values())
        print(
            f"{path}: pixels go in as {used}, with which it has {best:.1%} of {len(labels):,} validation images right; "
            f"as {other} it has {worst:.1%}.",
            file=sys.stderr,
        )
        if best < 0.5:
            print(
                f"{path}: neither is good. If the model was trained on pixels scaled otherwise, or on classes in "
                "another order, give it a first layer that scales or a last one that reorders.",
                file=sys.stderr,
            )
    probabilities, kind = evaluation.classify(model, dataset.splits()[chosen.split][0], scaling)
    if kind == "scores":
        print(f"{path}: its outputs do not sum to one; they are divided by their sum.", file=sys.stderr)
    return probabilities, {"scaled": scaling, "outputs": kind}


def _measured(chosen: argparse.Namespace, dataset) -> dict:
    return {
        "split": chosen.split,
        "images": len(dataset.splits()[chosen.split][1]),
        "data": {"source": dataset.source, "kind": dataset.kind, "fingerprint": dataset.fingerprint},
    }


def _print_json(facts: dict) -> None:
    import json

    print(json.dumps(facts, indent=2))
