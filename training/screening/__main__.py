"""Train what screening and the gate have learned, and tell how well it does on authors it has not read.

    python -m training.screening train                 messages -> assets/screening/classifier/
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
import tempfile
from pathlib import Path

from support.screening import classifier, reply_classifier
from support.screening.classifier import Classifier
from support.screening.encoder import EMBEDDED
from training.screening.dataset import read_examples, read_replies
from training.screening.measure import baseline, in_batches, report
from training.screening.messages import Messages
from training.screening.replies import Replies
from training.screening.tuning import make

EPOCHS = 4
EPOCHS_OF_REPLIES = 6


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.screening", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("train", "train-replies", "holdout", "baseline"))
    parser.add_argument("authors", nargs="*", help="holdout: names of example files, such as en_young")
    parser.add_argument("--encoder", default=EMBEDDED, help="embedded, or a model of the same shape on the Hub")
    parser.add_argument("--epochs", type=int, help=f"passes: {EPOCHS}, of replies {EPOCHS_OF_REPLIES}")
    parser.add_argument("--start", type=Path, help="go on from this classifier's folder, such as after adding examples")
    parser.add_argument(
        "--out", type=Path, help="train: where it is saved, after each epoch; else where the app reads it"
    )
    options = parser.parse_args(arguments)
    if options.command == "train-replies":
        out, epochs = options.out or reply_classifier.FOLDER, options.epochs or EPOCHS_OF_REPLIES
        make(Replies(read_replies()), options.encoder, epochs, options.start, out)
        return 0
    examples = read_examples()
    if options.command == "baseline":
        print(baseline(examples, options.encoder))
        return 0
    epochs = options.epochs or EPOCHS
    held = [e for e in examples if e.author in options.authors]
    if options.command == "holdout":
        if not held:
            parser.error(f"name authors to hold out, of {', '.join(sorted({e.author for e in examples}))}")
        with tempfile.TemporaryDirectory() as folder:
            make(Messages([e for e in examples if e not in held]), options.encoder, epochs, None, Path(folder))
            print(report(held, [score.at_risk for score in in_batches(Classifier(Path(folder)), held)]))
        return 0
    make(Messages(examples), options.encoder, epochs, options.start, options.out or classifier.FOLDER)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
