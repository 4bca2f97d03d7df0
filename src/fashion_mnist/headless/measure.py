"""``fashion-mnist evaluate``, ``compare`` and ``export``: networks of the study, and anybody's Keras models."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_mnist import data, evaluation, files, records
from fashion_mnist.networks import Network

if TYPE_CHECKING:
    import keras
    import pandas as pd


@dataclass(frozen=True)
class Subject:
    """What is measured: ``network`` if it is one of ours, ``model`` unless only its predictions are kept."""

    name: str
    model: keras.Model | None
    network: Network | None = None

    @classmethod
    def find(cls, name: str) -> Subject:
        """Open a network by its name in ``models/`` or its card, or anybody's ``.keras`` or ``.h5`` file.

        Raises
        ------
        OSError, ValueError
            If there is no such thing, or it cannot be read; one or two sentences.
        """
        path = Path(name)
        if path.suffix not in (".json", ".safetensors") and (path.is_file() or path.suffix in (".keras", ".h5")):
            return cls(name, evaluation.load_classifier(path))
        card = path.with_suffix(".json") if path.suffix else data.root() / "models" / f"{name}.json"
        if not card.is_file():
            known = ", ".join(each.stem for each in sorted((data.root() / "models").glob("*.json"))) or "none"
            raise FileNotFoundError(
                f"{name} is neither a saved Keras model nor the name or card of a network; those in models/: {known}."
            )
        folder = card.resolve().parent  # what lies around models/ belongs to its cards, and to no card elsewhere
        network = Network(card.stem, records.read_json(card), folder.parent if folder.name == "models" else folder)
        if network.has_predictions and not card.with_suffix(".safetensors").is_file():
            return cls(name, None, network)
        from fashion_mnist import models

        model = models.load(card)
        vars(network)["model"] = model  # it would look for its weights in models/ only
        return cls(name, model, network)

    def answers(self, dataset: data.Dataset, split: str, scaling: str) -> tuple[np.ndarray, dict[str, str]]:
        """Class probabilities ``(n, 10)`` of a split, and how the network's input and output were understood."""
        model, images = self.model, dataset.splits()[split][0]
        if self.network is not None:
            scaling = "raw"
            if model is None:
                if (kept := self._kept(dataset, split)) is not None:
                    _say(f"{self.name}: its weights are not kept, so these are its kept predictions.")
                    return kept, {"scaled": scaling, "outputs": "probabilities"}
                model = self.network.model  # the error says that there are no weights
        elif scaling == "auto":
            scaling = self._scaling(dataset)
        probabilities, kind = evaluation.as_probabilities(evaluation.outputs(model, images, scaling))
        if kind == "scores":
            _say(f"{self.name}: its outputs do not sum to one; they are divided by their sum.")
        return probabilities, {"scaled": scaling, "outputs": kind}

    def _kept(self, dataset: data.Dataset, split: str) -> np.ndarray | None:
        """The predictions that were kept of a split, if they are of these images."""
        of = self.network.card["data"]
        own_split = "held_out" in of and split != "test"  # it was trained on other images, and watched others
        if of["fingerprint"] != dataset.fingerprint or own_split or split not in self.network.predictions:
            return None
        kept = self.network.predictions[split]
        return kept if len(kept) == len(dataset.splits()[split][1]) else None  # else a part of them was asked

    def _scaling(self, dataset: data.Dataset) -> str:
        """Whether a stranger's model wants pixels in 0..255 or 0..1, tried on some two thousand validation images."""
        every = max(1, len(dataset.y_val) // 2000)
        images, labels = dataset.x_val[::every], dataset.y_val[::every]
        scaling, accuracies = evaluation.find_scaling(self.model, images, labels)
        used, other = ("0..255", "0..1") if scaling == "raw" else ("0..1", "0..255")
        best, worst = max(accuracies.values()), min(accuracies.values())
        _say(
            f"{self.name}: pixels go in as {used}, with which it has {best:.1%} of {len(labels):,} validation images "
            f"right; as {other} it has {worst:.1%}."
        )
        if best < 0.5:
            _say(
                f"{self.name}: neither is good. If the model was trained on pixels scaled otherwise, or on classes in "
                "another order, give it a first layer that scales or a last one that reorders."
            )
        return scaling


def evaluate(name: str, place: Path | None, split: str, scaling: str, out: Path | None, as_json: bool) -> None:
    """Print how good a network is on a split; with `out`, write it there with predictions and figures.

    Parameters
    ----------
    name : str
        As `Subject.find` takes it.
    place : Path or None
        The data set.
    split : {"train", "validation", "test"}
    scaling : {"auto", "raw", "unit"}
        Of the pixels that a stranger's model wants.
    out : Path or None
        Folder for ``classification_report.txt``, ``metrics.json``, ``predictions.csv``, ``confusion_matrix.png`` and,
        where a card has a history, ``learning_curves.png``.
    as_json : bool
        Print the content of ``metrics.json`` instead of the report.

    Raises
    ------
    OSError, ValueError, data.DataError
        If network or data cannot be had.
    """
    subject = Subject.find(name)
    dataset = _load(place)
    labels = dataset.splits()[split][1]
    probabilities, how = subject.answers(dataset, split, scaling)
    summary = evaluation.evaluate(labels, probabilities)
    summary["calibration_error"] = evaluation.calibration_error(labels, probabilities)
    classes = evaluation.class_report(labels, probabilities.argmax(axis=1), data.CLASS_NAMES)
    report = f"{name}: {len(labels):,} images of the {split} split\n\n{_report(summary, classes)}"
    report += f"\n\n{data.SAMPLE_NOTE}" if dataset.kind == "sample" else ""
    facts = records.plain({**_measured(dataset, split), "model": name, **how, **summary, "classes": classes})
    print(json.dumps(facts, indent=2) if as_json else report)
    if out is not None:
        files.write_text(out / "classification_report.txt", f"{report}\n")
        files.write_json(out / "metrics.json", facts)
        files.write_text(out / "predictions.csv", _table(labels, probabilities))
        _draw(out, subject, dataset, split, labels, probabilities)
        _say(f"Report, metrics, predictions and figures are in {out}")


def compare(names: Sequence[str], place: Path | None, split: str, scaling: str, as_json: bool) -> None:
    """Print the accuracies of several networks, and of every two which is better, if that can be said.

    Parameters
    ----------
    names : sequence of str
        At least two, as `Subject.find` takes them.
    place, split, scaling, as_json
        As in `evaluate`.

    Raises
    ------
    OSError, ValueError, data.DataError
        If a network or the data cannot be had.
    """
    stems = [Path(name).stem for name in names]
    subjects = dict(zip(stems if len(set(stems)) == len(stems) else names, map(Subject.find, names), strict=True))
    dataset = _load(place)
    labels = dataset.splits()[split][1]
    predictions, rows = {}, []
    for short, subject in subjects.items():
        probabilities, how = subject.answers(dataset, split, scaling)
        predictions[short] = probabilities.argmax(axis=1)
        correct = int((predictions[short] == labels).sum())
        low, high = evaluation.wilson_interval(correct, len(labels))
        accuracy = {"accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}
        rows.append({"name": short, "model": subject.name, **how, **accuracy})
    pairs = evaluation.pairwise(labels, predictions).to_dict("records")
    if as_json:
        print(json.dumps(records.plain({**_measured(dataset, split), "models": rows, "pairs": pairs}), indent=2))
        return
    print(f"{len(labels):,} images of the {split} split{f'. {data.SAMPLE_NOTE}' if dataset.kind == 'sample' else ''}\n")
    width = max(map(len, subjects))
    for row in rows:
        print(f"{row['name']:<{width}}  {row['accuracy']:7.2%}  {_interval(row)}")
    print()
    for pair in pairs:
        print(_verdict(pair, adjusted=len(pairs) > 1))


def export(name: str, form: str, target: Path | None) -> Path:
    """Write a network as ONNX, or as ``.keras`` of the Keras that is installed.

    Parameters
    ----------
    name : str
        As `Subject.find` takes it.
    form : {"onnx", "keras"}
    target : Path or None
        File to write, whole or not at all; ``build/export/NAME.onnx`` or ``.keras`` if not given.

    Returns
    -------
    Path
        The file. The ONNX network takes float32 ``(n, 28, 28, 1)`` in 0..255 and gives logits ``(n, 10)``, float32.

    Raises
    ------
    ValueError
        If what writes ONNX is not installed.
    OSError
        If there is no such network, its weights are not kept, or the file cannot be written.
    """
    if form == "onnx" and not all(importlib.util.find_spec(package) for package in ("onnx", "tf2onnx")):
        raise ValueError("ONNX is written by two more packages: python -m pip install onnx tf2onnx")
    target = target or data.root() / "build" / "export" / f"{Path(name).stem}.{form}"
    if target.suffix != f".{form}":
        raise ValueError(f"{target} does not end with .{form}.")
    subject = Subject.find(name)
    model = subject.model or subject.network.model  # the latter's error says that there are no weights
    with files.replacing(target) as temporary:
        if form == "keras":
            model.save(temporary)
        else:
            evaluation.outputs(model, np.zeros((1, 28, 28, 1), np.uint8), "raw")  # Keras exports what was called
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # NumPy's about `np.object`, which Keras looks up
                model.export(temporary, format="onnx", verbose=False)
    return target


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _load(place: Path | None) -> data.Dataset:
    dataset, notes = data.load_with_notes(place)
    _say("\n".join([*notes, dataset.describe()]))
    return dataset


def _measured(dataset: data.Dataset, split: str) -> dict[str, Any]:
    return {
        "split": split,
        "images": len(dataset.splits()[split][1]),
        "data": {"source": dataset.source, "kind": dataset.kind, "fingerprint": dataset.fingerprint},
    }


def _interval(row: dict[str, float]) -> str:
    return f"(95% interval {row['accuracy_low']:.2%} to {row['accuracy_high']:.2%})"


def _report(summary: dict[str, float], classes: pd.DataFrame) -> str:
    lines = [f"{'accuracy':<30}{summary['accuracy']:8.2%}  {_interval(summary)}"]
    lines += [f"{f'{each}, mean of the classes':<30}{summary[f'{each}_macro']:8.2%}" for each in classes.columns[:3]]
    lines += [f"{'loss (nats)':<30}{summary['loss']:8.4f}"]
    lines += [f"{'expected calibration error':<30}{summary['calibration_error']:8.2%}"]
    return "\n".join([*lines, "", classes.to_string(index_names=False, float_format="{:.2%}".format)])


def _table(labels: np.ndarray, probabilities: np.ndarray) -> str:
    """One row an image: its number in the split, both classes, and the probability of each class."""
    import pandas as pd

    names = np.array(data.CLASS_NAMES)
    table = pd.DataFrame(probabilities, columns=names)
    table.insert(0, "true", names[labels])
    table.insert(1, "predicted", names[probabilities.argmax(axis=1)])
    return table.to_csv(index_label="image", float_format="%.6f", lineterminator="\n")


def _draw(out: Path, subject: Subject, dataset: data.Dataset, split: str, labels, probabilities) -> None:
    from matplotlib import pyplot as plt

    from fashion_mnist import figures

    figures.style.use()
    banner = f"\n{data.SAMPLE_NOTE}" if dataset.kind == "sample" else ""
    matrix = evaluation.confusion(labels, probabilities.argmax(axis=1))
    title = f"{Path(subject.name).stem}, {split} images{banner}"
    drawn = {"confusion_matrix": figures.matrices.confusion_matrix(matrix, data.CLASS_NAMES, title)}
    if subject.network is not None and (history := subject.network.card.get("history")):
        drawn["learning_curves"] = figures.curves.learning_curves({subject.network.name: history})
    for name, figure in drawn.items():
        with files.replacing(out / f"{name}.png") as temporary:
            figure.savefig(temporary, metadata={"Software": None})
        plt.close(figure)


def _verdict(pair: dict[str, Any], adjusted: bool) -> str:
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
