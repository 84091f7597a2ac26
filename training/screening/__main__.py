"""Train what screening and the gate have learned, and tell how well it does on authors it has not read.

    python -m training.screening train                 messages -> assets/screening/classifier/
    python -m training.screening train-english         those in English -> assets/screening/english_classifier/
    python -m training.screening train-replies         sentences of replies -> assets/screening/reply_classifier/
    python -m training.screening holdout en_young es   without those files, scored on them: how it does on new authors
    python -m training.screening baseline --encoder .. logistic regression over the frozen encoder: why an adapter is trained

Examples are tab-separated lines in `examples/` and `replies/`, one file for each author and language. All were written for
this project. A file is held out whole, never a random part of it: what one author writes is alike.

LoRA over all linear layers of the encoder and one linear head (`tuning`), for `messages` and for `replies`; beside it a linear
model over n-grams (`ngrams`). Seeds are fixed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.screening.classifier import Classifier, EnglishClassifier
from support.screening.encoder import EMBEDDED, ENGLISH
from support.screening.reply_classifier import ReplyClassifier
from training.screening.dataset import read_examples, read_replies
from training.screening.measure import baseline, in_batches, report
from training.screening.messages import Messages
from training.screening.replies import Replies
from training.screening.tuning import SEED, make

EPOCHS = 4
EPOCHS_OF_ENGLISH = 3
EPOCHS_OF_REPLIES = 4


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.screening", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], about: str, encoder: str = EMBEDDED
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.add_argument("--encoder", default=encoder, help=f"{encoder}, or a model of the same shape on the Hub")
        added.set_defaults(run=run)
        return added

    for added, folder, epochs in (
        (command("train", _train, "the classifier of messages"), Classifier.folder, EPOCHS),
        (
            command("train-english", _train_english, "the second, of English", ENGLISH),
            EnglishClassifier.folder,
            EPOCHS_OF_ENGLISH,
        ),
        (command("train-replies", _train_replies, "that of replies"), ReplyClassifier.folder, EPOCHS_OF_REPLIES),
    ):
        added.add_argument("--epochs", type=int, default=epochs, help=f"passes over the examples ({epochs})")
        added.add_argument("--start", type=Path, help="go on from this folder, such as after adding examples")
        added.add_argument(
            "--out", type=Path, default=folder, help="saved here after each epoch; else where the app reads"
        )
        added.add_argument(
            "--new", nargs="+", default=[], metavar="AUTHOR",
            help="with --start: only these authors, and as many examples of the others beside them, drawn anew",
        )  # fmt: skip
    holdout = command("holdout", _holdout, "train without some authors and score them")
    holdout.add_argument("--epochs", type=int, default=EPOCHS)
    holdout.add_argument("authors", nargs="+", help="names of example files, such as en_young")
    command("baseline", _baseline, "what the encoder finds without an adapter")
    return parser


def _train(options: argparse.Namespace) -> int:
    examples = read_examples()
    make(Messages(examples, _drawn(examples, options.new)), options.encoder, options.epochs, options.start, options.out)
    return 0


def _train_english(options: argparse.Namespace) -> int:
    examples = [example for example in read_examples() if example.language == "en"]
    # Wordings are weighed by the first classifier: counted twice, they raise false alarms.
    task = Messages(examples, _drawn(examples, options.new), by_wording=False)
    make(task, options.encoder, options.epochs, options.start, options.out)
    return 0


def _train_replies(options: argparse.Namespace) -> int:
    sentences = read_replies()
    make(
        Replies(sentences, _drawn(sentences, options.new)), options.encoder, options.epochs, options.start, options.out
    )
    return 0


def _drawn(examples: list[Any], new: list[str]) -> list[Any] | None:
    """Those of the new authors and as many of the others: what is added is learned, and nothing forgotten, in a part of the
    time. None where no author is new: then all are read."""
    if not new:
        return None
    _known(new, examples)
    added = [example for example in examples if example.author in new]
    others = [example for example in examples if example.author not in new]
    return added + random.Random(SEED).sample(others, min(len(added), len(others)))


def _known(authors: list[str], examples: list[Any]) -> None:
    there = {example.author for example in examples}
    if unknown := sorted({*authors} - there):
        raise SystemExit(f"No examples by {', '.join(unknown)}. Authors: {', '.join(sorted(there))}")


def _holdout(options: argparse.Namespace) -> int:
    examples = read_examples()
    _known(options.authors, examples)
    held = [e for e in examples if e.author in options.authors]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "classifier"
        make(
            Messages([e for e in examples if e.author not in options.authors]),
            options.encoder,
            options.epochs,
            None,
            out,
        )
        print(report(held, [score.at_risk for score in in_batches(Classifier(out), held)]))
    return 0


def _baseline(options: argparse.Namespace) -> int:
    print(baseline(read_examples(), options.encoder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
