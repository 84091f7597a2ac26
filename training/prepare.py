"""A table of questions and answers -> train and validation splits, and a report of what was left out.

    python -m training.prepare --data train.csv --out outputs/data --rows 1000 --seed 0
    python -m training.prepare --out outputs/data        # from the Hub: Amod/mental_health_counseling_conversations

Writes `train.jsonl`, `validation.jsonl` (one {"context", "response"} a line) and `report.json`. One question often has
several answers, so rows are split by question: a model is never validated on a question that it was trained on.

Knows nothing about tokens, prompts or models. Does not judge what an answer says: read the data before you train on it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training import TrainingError

HUB_ID = "Amod/mental_health_counseling_conversations"
COLUMNS = ("Context", "Response")
SPLITS = ("train", "validation")

Row = dict[str, str]


def prepare(
    data: Path | None, out: Path, *, rows: int | None = None, validation: float = 0.1, seed: int = 0, source: str = ""
) -> dict[str, Any]:
    """Read, clean, sample, split, write.

    Args:
        data: csv with the columns Context and Response; None reads the Hub's dataset.
        out: folder for the splits and the report.
        rows: how many rows to keep, both splits together; None keeps all.
        validation: the share of rows held out, above 0 and below 1.
        seed: decides which rows are kept, and which are held out.
        source: what the report and the model card call the data; empty: the Hub id or the file's name.

    Returns:
        the report, as written to `report.json`.

    Raises:
        TrainingError: the data cannot be read, or holds too little to split.
    """
    if rows is not None and rows < 2:
        raise TrainingError(f"--rows must be at least 2, one row for each split; it is {rows}.")
    if not 0 < validation < 1:
        raise TrainingError(f"--validation must be above 0 and below 1; it is {validation}.")
    raw = read_csv(data) if data else read_hub()
    cleaned, dropped = clean(raw)
    if not cleaned:
        raise TrainingError(
            f"No row is left of {len(raw)}: every one lacks a Context or a Response. Check the columns."
        )
    kept = sample(cleaned, rows, seed)
    dropped["not_sampled"] = len(cleaned) - len(kept)
    train, held_out = split_by_question(kept, validation, seed)
    report: dict[str, Any] = {
        "source": source or (data.name if data else HUB_ID),
        "source_sha256": sha256_of(data) if data else None,
        "seed": seed,
        "rows_read": len(raw),
        "dropped": dropped,
        "splits": {},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, part in zip(SPLITS, (train, held_out), strict=True):
        path = out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
        questions = len({question_key(row) for row in part})
        report["splits"][name] = {"rows": len(part), "questions": questions, "sha256": sha256_of(path)}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def read_csv(path: Path) -> list[Row]:
    """Rows of a csv file; columns other than Context and Response are left out.

    Raises:
        TrainingError: no such file, not UTF-8, not a csv, or a column is missing.
    """
    csv.field_size_limit(2**24)  # the module's own limit is 128 KiB a cell, which a long answer may pass
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _demand_columns(reader.fieldnames or [], path.name)
            return [_row(cells) for cells in reader]
    except FileNotFoundError:
        raise TrainingError(
            f"There is no file {path}; pass the csv with --data, or leave --data out to use {HUB_ID}."
        ) from None
    except IsADirectoryError:
        raise TrainingError(f"{path} is a folder; --data takes one csv file.") from None
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not UTF-8 text; save it as csv (UTF-8) and try again.") from None
    except csv.Error as error:
        raise TrainingError(f"{path} is not a readable csv ({error}); export it again, with quoted cells.") from None


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


def clean(rows: Iterable[Row]) -> tuple[list[Row], dict[str, int]]:
    """Drop rows without a question or an answer, and exact repetitions; count each reason.

    Returns:
        the rows that stay, in their order, and how many went for which reason.
    """
    dropped = {"empty_context": 0, "empty_response": 0, "duplicate": 0}
    seen: set[tuple[str, str]] = set()
    kept = []
    for row in rows:
        pair = row["context"], row["response"]
        if not all(pair):
            dropped["empty_response" if row["context"] else "empty_context"] += 1
        elif pair in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(pair)
            kept.append(row)
    return kept, dropped


def sample(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """`count` rows by chance, in their old order; all of them where there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), count))]


def split_by_question(rows: Sequence[Row], validation: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Hold out whole questions, with all their answers, until about `validation` of the rows is held out.

    Returns:
        train and validation rows, neither empty, with no question in both.

    Raises:
        TrainingError: all rows ask the same question.
    """
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[question_key(row)] = sizes.get(question_key(row), 0) + 1
    if len(sizes) < 2:
        raise TrainingError("All rows ask the same question, so none can be held out; use more rows, or other data.")
    questions = sorted(sizes)
    random.Random(seed).shuffle(questions)
    room = validation * len(rows)
    held_out: set[str] = set()
    for question in questions:
        if sizes[question] <= room and len(held_out) < len(sizes) - 1:  # one question always stays to train on
            held_out.add(question)
            room -= sizes[question]
    if not held_out:
        held_out = {min(questions, key=lambda question: sizes[question])}
    train = [row for row in rows if question_key(row) not in held_out]
    return train, [row for row in rows if question_key(row) in held_out]


def question_key(row: Row) -> str:
    """What makes two questions the same: letter case and spacing do not count."""
    return " ".join(row["context"].casefold().split())


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _demand_columns(found: Sequence[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise TrainingError(
            f"{where} lacks the column {' and '.join(missing)}; it has: {', '.join(found) or 'nothing'}. "
            "Rename its columns to Context (the question) and Response (the answer)."
        )


def _row(cells: Mapping[str, Any]) -> Row:
    context, response = (str(cells[name] or "").strip() for name in COLUMNS)
    return {"context": context, "response": response}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help=f"csv with the columns Context and Response; without it, {HUB_ID}")
    parser.add_argument("--out", type=Path, default=Path("outputs/data"), help="folder for the splits and report.json")
    parser.add_argument("--rows", type=int, help="how many rows to keep; without it, all")
    parser.add_argument("--validation", type=float, default=0.1, help="share of rows held out (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="decides which rows are kept and held out")
    parser.add_argument("--source", default="", help="what the model card calls the data, such as its Hub id")
    options = parser.parse_args()
    try:
        report = prepare(
            options.data,
            options.out,
            rows=options.rows,
            validation=options.validation,
            seed=options.seed,
            source=options.source,
        )
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    print(json.dumps(report, indent=2))
    print(f"Next: python -m training.qlora --config training/recipes/seed.yaml --data {options.out}")


if __name__ == "__main__":
    main()
