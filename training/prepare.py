"""A table of questions and answers -> clean train, validation and test splits, and a report of what was left out.

    python -m training.prepare --data train.csv --out outputs/data --seed 0
    python -m training.prepare --out outputs/data        # from the Hub: Amod/mental_health_counseling_conversations

Reads csv, json, jsonl or parquet with the columns Context and Response. `cleaning` says what goes, and why. Writes
`train.jsonl`, `validation.jsonl` (which decides when training stops), `test.jsonl` (which decides nothing, and so is what
results are measured on), one {"context", "response"} a line, `report.json` and `report.png`. One question often has
several answers, and some are asked twice in nearly the same words, so rows are split by question: a model is never
measured on a question that it was trained on.

Knows nothing about tokens, prompts or models. Cleaning goes by rules and errs: read the data before you train on it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.screening import rules_version
from training import TrainingError, writable
from training.cleaning import Counts, Row, alike, clean

HUB_ID = "Amod/mental_health_counseling_conversations"
COLUMNS = ("Context", "Response")
TOPICS = 8


def prepare(
    data: Path | None,
    out: Path,
    *,
    rows: int | None = None,
    validation: float = 0.05,
    test: float = 0.25,
    seed: int = 0,
    source: str = "",
    progress: bool = False,
) -> dict[str, Any]:
    """Read, clean, sample, split, write.

    Args:
        data: csv, json, jsonl or parquet with the columns Context and Response; None reads the Hub's dataset.
        out: folder for the splits and the report.
        rows: how many rows to keep, all splits together; None keeps all.
        validation: the share of rows that training is stopped by, above 0.
        test: the share that results are measured on; 0 for none. Both together below 1.
        seed: decides which rows are kept, and which are held out.
        source: what the report and the model card call the data; empty: the Hub id or the file's name.
        progress: whether a bar is drawn.

    Returns:
        the report, as written to `report.json`.

    Raises:
        TrainingError: the data cannot be read, or holds too little to split.
    """
    if rows is not None and rows < 3:
        raise TrainingError(f"--rows must be at least 3, one row for each split; it is {rows}.")
    if not (validation > 0 and test >= 0 and validation + test < 1):
        raise TrainingError(
            f"--validation must be above 0, --test not below, both together below 1; they are {validation} and {test}."
        )
    raw = read_file(data) if data else read_hub()
    if not raw:
        raise TrainingError(
            f"{data or HUB_ID} holds no rows below the names of its columns; add some, or name other data."
        )
    writable(out)
    cleaned, counts = clean(raw, progress=progress)
    if not cleaned:
        raise TrainingError(
            f"No row is left of {len(raw)} ({_listed(counts.rows)}). Check the columns Context and Response."
        )
    kept = sample(cleaned, rows, seed)
    splits = split_by_question(kept, {"validation": validation, "test": test}, seed)
    report: dict[str, Any] = {
        "source": source or (data.name if data else HUB_ID),
        "source_sha256": sha256_of(data) if data else None,
        "seed": seed,
        "rows_read": len(raw),
        "dropped": {**dict(sorted(counts.rows.items())), "not_sampled": len(cleaned) - len(kept)},
        "sentences_cut_from_answers": dict(counts.sentences.most_common()),
        "masked_in_questions": dict(counts.masked.most_common()),
        "names_found_by": counts.names_found_by,
        "screening_rules": rules_version(),
        "splits": {},
    }
    for name, part in splits.items():
        path = out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
        questions = len({question_key(row) for row in part})
        report["splits"][name] = {"rows": len(part), "questions": questions, "sha256": sha256_of(path)}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _plot(kept, counts, len(raw), out / "report.png")
    return report


def read_file(path: Path) -> list[Row]:
    """Rows of a csv, json, jsonl or parquet file; columns other than Context and Response are left out.

    Raises:
        TrainingError: no such file, not one of these formats, or a column is missing.
    """
    import pandas

    as_text: Any = False  # numbers stay as they are written
    readers: dict[str, Any] = {
        ".csv": lambda: pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", engine="python"),
        ".json": lambda: pandas.read_json(path, dtype=as_text),
        ".jsonl": lambda: pandas.read_json(path, lines=True, dtype=as_text),
        ".parquet": lambda: pandas.read_parquet(path),
    }
    if path.is_dir():
        raise TrainingError(f"{path} is a folder; --data takes one file.")
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise TrainingError(
            f"{path} is not one of {', '.join(readers)}; convert it, or leave --data out to use {HUB_ID}."
        )
    try:
        table = readers[suffix]()
    except FileNotFoundError:
        raise TrainingError(
            f"There is no file {path}; pass one with --data, or leave --data out to use {HUB_ID}."
        ) from None
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not UTF-8 text; save it as UTF-8 and try again.") from None
    except (ValueError, OSError, pandas.errors.ParserError) as error:
        raise TrainingError(
            f"{path} is not a readable {suffix} ({type(error).__name__}: {str(error)[:100]}); export it again."
        ) from None
    _demand_columns([str(name) for name in table.columns], path.name)
    return [_row(cells) for cells in table.to_dict("records")]


def read_hub() -> list[Row]:
    """Rows of the Hub's dataset.

    Raises:
        TrainingError: the Hub or the dataset cannot be reached.
    """
    from datasets import load_dataset

    try:
        table: Any = load_dataset(HUB_ID, split="train")
    except Exception as error:  # the Hub's client, its file systems and the builder each raise families of their own
        raise TrainingError(
            f"The dataset {HUB_ID} could not be read from the Hub ({type(error).__name__}); check the network and "
            "HF_TOKEN, or download its csv and pass it with --data."
        ) from error
    _demand_columns(table.column_names, HUB_ID)
    return [_row(cells) for cells in table]


def sample(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """`count` rows by chance, in their old order; all of them where there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), count))]


def split_by_question(rows: Sequence[Row], shares: Mapping[str, float], seed: int) -> dict[str, list[Row]]:
    """Hold out whole questions, with all their answers, until each split has about its share of the rows.

    Args:
        rows: in any order, which each split keeps.
        shares: name of each held-out split -> its share of the rows; one with 0 stays empty.
        seed: decides which questions.

    Returns:
        "train" and the splits of `shares`; none but those with a share of 0 is empty, and no question is in two.

    Raises:
        TrainingError: there are fewer questions than splits.
    """
    groups = question_groups(rows)
    sizes = Counter(groups)
    wanted = [name for name, share in shares.items() if share > 0]
    if len(sizes) <= len(wanted):
        raise TrainingError(
            f"{len(sizes)} different questions cannot fill {len(wanted) + 1} splits; use more rows, or other data."
        )
    left = sorted(sizes)
    random.Random(seed).shuffle(left)
    split_of: dict[str, str] = {}
    for i, name in enumerate(wanted):
        room, spare = shares[name] * len(rows), len(left) - (len(wanted) - i)  # the others need a question each
        chosen: list[str] = []
        for question in left:
            if sizes[question] <= room and len(chosen) < spare:
                chosen.append(question)
                room -= sizes[question]
        chosen = chosen or [min(left, key=lambda question: sizes[question])]
        split_of |= dict.fromkeys(chosen, name)
        left = [question for question in left if question not in split_of]
    splits: dict[str, list[Row]] = {name: [] for name in ("train", *shares)}
    for row, group in zip(rows, groups, strict=True):
        splits[split_of.get(group, "train")].append(row)
    return splits


def question_groups(rows: Sequence[Row]) -> list[str]:
    """For each row, a name that it shares with all rows that ask the same question, or nearly the same."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = list(dict.fromkeys(question_key(row) for row in rows))
    pairs = list(alike(keys))
    links = coo_array(([1] * len(pairs), tuple(zip(*pairs, strict=True)) or ([], [])), shape=(len(keys), len(keys)))
    group = dict(zip(keys, connected_components(links, directed=False)[1], strict=True))
    named = {number: key for key, number in reversed(group.items())}
    return [named[group[question_key(row)]] for row in rows]


def question_key(row: Row) -> str:
    """What makes two questions the same: letter case and spacing do not count."""
    return " ".join(row["context"].casefold().split())


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _demand_columns(found: Sequence[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        one = " A csv's cells must be separated by commas." if len(found) == 1 else ""
        raise TrainingError(
            f"{where} lacks the column {' and '.join(missing)}; it has: {', '.join(found) or 'nothing'}. "
            f"Rename its columns to Context (the question) and Response (the answer).{one}"
        )


def _row(cells: Mapping[str, Any]) -> Row:
    texts = (cells[name] if isinstance(cells[name], str) else "" for name in COLUMNS)
    return dict(zip(("context", "response"), (text.strip() for text in texts), strict=True))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(counts.items()) if count)


def _plot(rows: Sequence[Row], counts: Counts, read: int, path: Path) -> None:
    """Lengths, reasons and topics, as one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    lengths, reasons, topics = figure.subplots(1, 3)
    for name, colour in (("context", "tab:orange"), ("response", "tab:blue")):
        words = [len(row[name].split()) for row in rows]
        lengths.hist(words, bins=40, range=(0, 600), alpha=0.6, color=colour, label=f"{name}, {sum(words):,} words")
    lengths.set(title=f"Words of a text ({len(rows):,} rows kept of {read:,})", xlabel="words", ylabel="rows")
    lengths.legend()
    for title, axes, bars in (
        (
            "Left out or cut, by reason",
            reasons,
            {**counts.rows, **{f"{k} (sentences)": v for k, v in counts.sentences.items()}},
        ),
        ("Topics of the questions", topics, topics_of([row["context"] for row in rows])),
    ):
        shown = sorted((value, name.replace("_", " ")) for name, value in bars.items() if value)[-18:]
        axes.barh([name for _, name in shown], [value for value, _ in shown], color="tab:gray")
        axes.set_title(title)
        axes.tick_params(axis="y", labelsize=8)
    figure.savefig(path, dpi=110)


def topics_of(texts: Sequence[str]) -> dict[str, int]:
    """How many texts speak of what: TOPICS factors of their words (NMF), each named by its heaviest words."""
    from sklearn.decomposition import NMF
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        stop_words="english", min_df=min(5, max(1, len(texts) // 20)), token_pattern=r"[a-z]{3,}"
    )
    try:
        vectors = vectorizer.fit_transform(texts)
    except ValueError:  # stop words alone
        return {}
    count: Any = min(TOPICS, *vectors.shape)
    model = NMF(n_components=count, init="nndsvd", random_state=0, max_iter=400)
    strongest = model.fit_transform(vectors).argmax(axis=1)
    words = vectorizer.get_feature_names_out()
    names = [", ".join(str(words[i]) for i in factor.argsort()[::-1][:3]) for factor in model.components_]
    return dict(Counter(names[topic] for topic in strongest))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        help=f"csv, json, jsonl or parquet with the columns Context and Response; without it, {HUB_ID}",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/data"), help="folder for the splits and report.json")
    parser.add_argument("--rows", type=int, help="how many rows to keep; without it, all")
    parser.add_argument("--validation", type=float, default=0.05, help="share that training is stopped by (0.05)")
    parser.add_argument("--test", type=float, default=0.25, help="share that results are measured on (0.25)")
    parser.add_argument("--seed", type=int, default=0, help="decides which rows are kept and held out")
    parser.add_argument(
        "--source",
        nargs="?",
        default="",
        const=HUB_ID,
        help=f"what the model card calls the data; without a name: the file is a copy of {HUB_ID}",
    )
    options = parser.parse_args()
    try:
        report = prepare(
            options.data,
            options.out,
            rows=options.rows,
            validation=options.validation,
            test=options.test,
            seed=options.seed,
            source=options.source,
            progress=True,
        )
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    print(json.dumps(report, indent=2))
    print(f"Next: python -m training.qlora --config training/recipes/seed.yaml --data {options.out}")


if __name__ == "__main__":
    main()
