"""The command line, ``fashion-mnist VERB``: results on standard output, messages on standard error.

Exit status 0 done, 1 failed, 2 wrong usage, 130 interrupted. Whatever is slow to import is imported by the verb that
needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fashion_mnist import __version__
from fashion_mnist.profiles import PROFILES

SPACES = ("cnn_grid", "resnet_grid", "cnn_search", "resnet_search")  # the keys of spaces.SPACES, which costs TensorFlow


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
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.act(chosen) or 0
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fashion-mnist … | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from fashion_mnist.data import DataError
        from fashion_mnist.files import Busy

        # Sentences meant for the user are the whole message; anything else is a bug and shows where it happened.
        if isinstance(error, (Busy, DataError, ValueError, OSError)):
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
    for add in (_add_study, _add_data, _add_networks):
        add(verbs)
    return parser


def _verb(verbs: argparse._SubParsersAction, name: str, act: Callable[[argparse.Namespace], int]):
    """Add a verb; the docstring of what it does is its help, and ends with an example."""
    description, _, example = act.__doc__.partition("Example:")
    description = " ".join(description.split())
    summary = description[0].lower() + description[1:].split(". ")[0].removesuffix(".")
    verb = verbs.add_parser(name, help=summary, description=description, epilog=f"Example:{example.rstrip()}")
    verb.set_defaults(act=act, parser=verb)
    return verb


def _add_data_option(verb: argparse.ArgumentParser, what: str = "the data set") -> None:
    verb.add_argument("--data", type=Path, metavar="PATH", help=f"{what}; searched for if not given")


def _add_study_options(verb: argparse.ArgumentParser, profile: str, seed: str) -> None:
    """What decides the outcome of a study: --profile, --data and --seed."""
    verb.add_argument("--profile", choices=PROFILES, default="quick", help=f"{profile} (%(default)s)")
    _add_data_option(verb)
    verb.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, help=f"{seed} (%(default)s)")


def _whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from `low` to `high`, both included."""

    def read(text: str) -> int:
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text} is no whole number from {low} to {high}")

    return read


_count = _whole(1, 10**6)


def _notebook(name: str) -> str:
    """The type of an argument that names a notebook."""
    from fashion_mnist.headless import runner

    try:
        runner.notebooks([name])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


# ------------------------------------------------------------------------------------------------ run, train, report


def _add_study(verbs: argparse._SubParsersAction) -> None:
    run, train = _verb(verbs, "run", _run), _verb(verbs, "train", _train)
    report, colab = _verb(verbs, "report", _report), _verb(verbs, "colab", _colab)
    for verb in (run, train, colab):
        which = "which, such as 01_eda; all if not given"
        verb.add_argument("notebooks", nargs="*", type=_notebook, metavar="NOTEBOOK", help=which)
    _add_study_options(run, "how much of everything", "seed of everything random")
    again = run.add_mutually_exclusive_group()
    again.add_argument("--fresh", action="store_true", help="execute also what is done already, and train again")
    again.add_argument("--redraw", action="store_true", help="with --profile full: draw again, train no network")
    train.add_argument("--missing", action="store_true", required=True, help="those without a card or weights")
    _add_data_option(train)
    report.add_argument("--profile", choices=PROFILES, help="whose notebooks; quick if there are any, else full")
    report.add_argument("--readme", action="store_true", help="rewrite what README.md and docs/ show of results/")
    colab.add_argument("--to", type=Path, metavar="FOLDER", help="where to; build/colab if not given")


def _run(chosen: argparse.Namespace) -> int:
    """Execute the notebooks in order. What is done already for the same code, profile, seed and data is kept.

    Example: fashion-mnist run 01_eda 02_baselines --profile quick
    """
    from fashion_mnist.headless import runner

    if chosen.redraw and chosen.profile != "full":
        chosen.parser.error("--redraw goes with --profile full")
    return runner.run(chosen.notebooks, chosen.profile, chosen.data, chosen.seed, chosen.fresh, chosen.redraw)


def _train(chosen: argparse.Namespace) -> int:
    """Train the networks of the full study that are not there yet, most wanted first. Each is kept as it is done, and
    one that was interrupted goes on from its last epoch.

    Example: fashion-mnist train --missing 02_baselines
    """
    from fashion_mnist.headless import runner

    return runner.train_missing(chosen.notebooks, chosen.data)


def _report(chosen: argparse.Namespace) -> None:
    """Render the executed notebooks to HTML in build/report. With --readme, rewrite README's numbers instead.

    Example: fashion-mnist report --profile full
    """
    if chosen.profile and chosen.readme:
        chosen.parser.error("--readme takes its numbers from results/, which are those of full; leave --profile out")
    if chosen.readme:
        from fashion_mnist.headless import readme

        differing = readme.rewrite()
        print(f"Rewritten: {', '.join(differing)}" if differing else "The pages agree with results/.")
    else:
        from fashion_mnist.headless import report

        print(report.report(chosen.profile))


# -------------------------------------------------------------------------------------------------------------- data


def _add_data(verbs: argparse._SubParsersAction) -> None:
    data = verbs.add_parser(
        "data",
        help="get, check and pack the data set",
        description="Get, check and pack the data set.",
        epilog="Example: fashion-mnist data fetch && fashion-mnist data verify",
    )
    actions = data.add_subparsers(title="verbs", metavar="VERB", required=True)
    fetch = _verb(actions, "fetch", _data_fetch)
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="where to; Data/ if not given")
    verify = _verb(actions, "verify", _data_verify)
    _add_data_option(verify, "folder of the files")
    pack = _verb(actions, "pack", _data_pack)
    _add_data_option(pack)
    pack.add_argument("--to", type=Path, metavar="FILE", help="zip to write; build/data.zip if not given")
    info = _verb(actions, "info", _data_info)
    _add_data_option(info)


def _data_fetch(chosen: argparse.Namespace) -> None:
    """Download the four official files. Cut-off downloads are begun again; checksums are verified.

    Example: fashion-mnist data fetch --to Data
    """
    from fashion_mnist import data

    print(data.fetch(chosen.to))


def _data_verify(chosen: argparse.Namespace) -> int | None:
    """Compare files with the official checksums.

    Example: fashion-mnist data verify --data Data
    """
    from fashion_mnist import data

    checks = data.verify(chosen.data)
    width = max(len(file) for file, *_ in checks)
    for file, expected, actual, right in checks:
        verdict = "ok" if right else f"{actual}, {expected}" if right is None else f"WRONG: {actual}, not {expected}"
        print(f"{file:<{width}}  {verdict}")
    if wrong := [file for file, _, _, right in checks if right is False]:
        print(f"{len(wrong)} of {len(checks)} files are not what they should be.", file=sys.stderr)
        return 1


def _data_pack(chosen: argparse.Namespace) -> None:
    """Pack the real data into one zip, for Colab or a machine without network. Not over the checkout's data.zip unless
    told: that is the sample, and under version control.

    Example: fashion-mnist data pack --to /media/stick/data.zip
    """
    from fashion_mnist import data

    print(data.pack(chosen.data, chosen.to or data.root() / "build" / "data.zip"))


def _data_info(chosen: argparse.Namespace) -> None:
    """Say which data would be used, and what is in it.

    Example: fashion-mnist data info
    """
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


# -------------------------------------------------------------------------------------------------------------- tune


def _add_networks(verbs: argparse._SubParsersAction) -> None:
    tune = _verb(verbs, "tune", _tune)
    tune.add_argument("space", choices=SPACES, metavar="SPACE", help=f"one of {', '.join(SPACES)}")
    tune.add_argument("--workers", type=_count, default=1, metavar="N", help="processes on this machine (%(default)s)")
    tune.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler to use: tcp://host:8786")
    tune.add_argument("--storage", metavar="URL", help="Optuna storage; SQLite in build/tuning if not given")
    tune.add_argument("--trials", type=_count, metavar="N", help="configurations; all of a grid, 36 of a search")
    tune.add_argument("--epochs", type=_count, metavar="E", help="of a whole training; the profile's if not given")
    seed = "seed of configurations and trainings; without --deterministic, threads add up in any order, so that close "
    _add_study_options(tune, "how many images and epochs", f"{seed}calls may end otherwise in another run")
    tune.add_argument("--deterministic", action="store_true", help="the same numbers in every run here, more slowly")
    tune.add_argument("--name", help="of the study; made from its settings if not given")
    tune.add_argument("--resume", action="store_true", help="go on with the study if it was begun")

    evaluate, compare = _verb(verbs, "evaluate", _evaluate), _verb(verbs, "compare", _compare)
    export = _verb(verbs, "export", _export)
    for verb in (evaluate, export):
        verb.add_argument("model", metavar="MODEL", help="name or card of a network of ours, or a .keras or .h5 file")
    compare.add_argument("models", nargs="+", metavar="MODEL", help="two or more, named as for evaluate")
    scaled = "whether a model of yours wants pixels in 0..255 (raw) or 0..1 (unit); auto tries both on validation data"
    for verb in (evaluate, compare):
        _add_data_option(verb)
        splits = ("train", "validation", "test")
        verb.add_argument("--split", choices=splits, default="test", help="which images (%(default)s)")
        verb.add_argument("--scaled", choices=("auto", "raw", "unit"), default="auto", help=scaled)
        verb.add_argument("--json", action="store_true", help="print JSON")
    evaluate.add_argument("--out", type=Path, metavar="FOLDER", help="for report, metrics, predictions and figures")
    export.add_argument("--to", choices=("onnx", "keras"), required=True, help="format")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write; build/export/NAME if not given")

    predict, app = _verb(verbs, "predict", _predict), _verb(verbs, "app", _app)
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures, one garment in each")
    best = "name or card of a network of ours; the best on validation images if not given"
    for verb in (predict, app):
        verb.add_argument("--model", metavar="NAME|PATH", help=best)
    predict.add_argument("--json", action="store_true", help="print JSON")
    app.add_argument("--host", default="127.0.0.1", help="address to answer at; 0.0.0.0 lets others in (%(default)s)")
    app.add_argument("--port", type=_whole(1, 2**16 - 1), help="the first free one from 7860 on if not given")
    _add_data_option(app, "the data set, for examples")


def _tune(chosen: argparse.Namespace) -> None:
    """Search a space of configurations by successive halving. Validation images decide; a killed study resumes.

    Example: fashion-mnist tune cnn_grid --profile quick --workers 2
    """
    if chosen.scheduler and chosen.workers > 1:
        chosen.parser.error("--workers starts processes here, --scheduler uses those that are; give one of them")
    if chosen.scheduler and "://" not in chosen.scheduler:
        chosen.parser.error(f"--scheduler {chosen.scheduler} is no address such as tcp://host:8786")

    from fashion_mnist import data, profiles

    budget = profiles.named(chosen.profile)
    dataset, notes = data.load_with_notes(chosen.data)
    dataset = dataset.subset(budget.train_images, budget.validation_images, budget.test_images)
    print(*notes, dataset.describe(), sep="\n", file=sys.stderr)

    import pandas as pd

    from fashion_mnist import tuning

    try:
        tuned = tuning.tune(
            chosen.space,
            (dataset.x_train, dataset.y_train),
            (dataset.x_val, dataset.y_val),
            epochs=chosen.epochs or budget.tuning_epochs,
            trials=chosen.trials,
            seed=chosen.seed,
            deterministic=chosen.deterministic,
            storage=chosen.storage,
            name=chosen.name,
            workers=chosen.workers,
            scheduler=chosen.scheduler,
            resume=chosen.resume,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted. The same command with --resume goes on.") from None

    facts = [{"accuracy": t.accuracy, "epochs": t.epochs, "seconds": t.seconds, **t.params} for t in tuned.top(10)]
    places = {"accuracy": "{:.4f}".format, "seconds": "{:.0f}".format}
    print(pd.DataFrame(facts).to_string(index=False, formatters=places, float_format="{:.3g}".format))
    if dataset.kind == "sample":
        print(data.SAMPLE_BANNER, file=sys.stderr)
    states = [trial.state for trial in tuned.trials]
    for trial in tuned.trials:
        if trial.state == "failed":
            print(f"Trial {trial.number}, {trial.params}, failed: {trial.error}", file=sys.stderr)
    counts = f"{states.count('complete')} trained out, {states.count('pruned')} pruned, {states.count('failed')} failed"
    print(f"Study {tuned.name}: {counts}; {tuned.epochs} epochs in {tuned.seconds:.0f} s", file=sys.stderr)


# ----------------------------------------------------------------------------------------- evaluate, compare, export


def _evaluate(chosen: argparse.Namespace) -> None:
    """Measure a network of the study, or any Keras model, on a split of the data. A model of yours takes 28 x 28
    images, with or without a channel axis or flat, and gives ten probabilities or logits.

    Example: fashion-mnist evaluate cnn_seed0 --split test --out build/cnn
    """
    from fashion_mnist.headless import measure

    measure.evaluate(chosen.model, chosen.data, chosen.split, chosen.scaled, chosen.out, chosen.json)


def _compare(chosen: argparse.Namespace) -> None:
    """Say which of several networks is better on the same images, if that can be said. It is about these trained
    networks: other seeds of the same recipe differ too.

    Example: fashion-mnist compare mlp_seed0 cnn_seed0
    """
    if len(chosen.models) < 2:
        chosen.parser.error("give two models or more")
    if len(set(chosen.models)) < len(chosen.models):
        chosen.parser.error("a model is named twice")
    from fashion_mnist.headless import measure

    measure.compare(chosen.models, chosen.data, chosen.split, chosen.scaled, chosen.json)


def _export(chosen: argparse.Namespace) -> None:
    """Write a network of the study for use elsewhere. ONNX runs without Keras; a .keras file is for the Keras that is
    installed here. Both take uint8 pixels as floats in 0..255 and give logits.

    Example: fashion-mnist export cnn_seed0 --to onnx --out cnn.onnx
    """
    from fashion_mnist.headless import measure

    print(measure.export(chosen.model, chosen.to, chosen.out))


# ------------------------------------------------------------------------------------------------------ predict, app


def _predict(chosen: argparse.Namespace) -> int:
    """Name the garment in pictures of yours, or say that there is none. Best is one garment on a plain background; a
    picture that cannot be used is named on standard error, and the exit status is then 1.

    Example: fashion-mnist predict shirt.jpg boot.png --json
    """
    from fashion_mnist.headless import expert

    return expert.predict(chosen.images, chosen.model, chosen.json)


def _app(chosen: argparse.Namespace) -> int:
    """Show garments to a network in the browser: upload, paste or draw a picture, or pick a test image. Only this
    machine is answered unless --host says otherwise, and nothing is sent anywhere.

    Example: fashion-mnist app --model cnn_seed0 --port 7861
    """
    from fashion_mnist.headless import demo

    return demo.serve(chosen.model, chosen.host, chosen.port, chosen.data)


# ------------------------------------------------------------------------------------------------------------- colab


def _colab(chosen: argparse.Namespace) -> None:
    """Write copies of the notebooks that run on Google Colab with nothing else uploaded.

    Example: fashion-mnist colab main --to build/colab
    """
    from fashion_mnist.headless import colab

    for copy in colab.write_colab(chosen.notebooks, chosen.to):
        print(f"{copy.path}  {copy.path.stat().st_size / 1e6:.1f} MB")
        if copy.left_out:
            print(f"{copy.path.name} is full; left out: {', '.join(copy.left_out)}", file=sys.stderr)
