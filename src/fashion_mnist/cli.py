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

PROFILES = ("smoke", "quick", "full")  # the keys of study.PROFILES, which costs NumPy to import


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
    return parser


def _verb(verbs: argparse._SubParsersAction, name: str, description: str, example: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=description[0].lower() + description[1:].split(".")[0],
        description=description,
        epilog=f"Example: {example}",
    )


# ------------------------------------------------------------------------------------------------------------- run


def _add_run(verbs: argparse._SubParsersAction) -> None:
    verb = _verb(
        verbs,
        "run",
        "Execute the notebooks in order. What is done already for the same code, profile, seed and data is kept.",
        "fashion-mnist run 01_eda 02_baselines --profile quick",
    )
    verb.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="which ones, such as 01_eda; all if not given")
    verb.add_argument("--profile", choices=PROFILES, default="quick", help="how much of everything (%(default)s)")
    verb.add_argument("--data", type=Path, metavar="PATH", help="the data set; searched for if not given")
    verb.add_argument("--seed", type=_seed, default=0, help="seed of everything random (%(default)s)")
    verb.add_argument("--fresh", action="store_true", help="execute also what is done already")
    verb.set_defaults(act=_run, parser=verb)


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..{2**32 - 1}")
    return seed


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
    verify.add_argument("--data", type=Path, metavar="PATH", help="folder of the files; searched for if not given")
    verify.set_defaults(act=_data_verify)

    pack = _verb(
        actions,
        "pack",
        "Pack the real data into one zip, for Colab or a machine without network. "
        "Not over the checkout's data.zip unless told: that is the sample, and under version control.",
        "fashion-mnist data pack --to /media/stick/data.zip",
    )
    pack.add_argument("--data", type=Path, metavar="PATH", help="the data set; searched for if not given")
    pack.add_argument("--to", type=Path, metavar="FILE", help="zip to write; build/data.zip if not given")
    pack.set_defaults(act=_data_pack)

    sample = _verb(
        actions,
        "sample",
        "Generate the small offline sample from the real data, the same bytes every time.",
        "fashion-mnist data sample --to data.zip",
    )
    sample.add_argument("--data", type=Path, metavar="PATH", help="the real data; searched for if not given")
    sample.add_argument("--to", type=Path, metavar="FILE", help="zip to write; the checkout's data.zip if not given")
    sample.set_defaults(act=_data_sample)

    info = _verb(actions, "info", "Say which data would be used, and what is in it.", "fashion-mnist data info")
    info.add_argument("--data", type=Path, metavar="PATH", help="the data set; searched for if not given")
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
