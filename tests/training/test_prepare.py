"""Counts, splits and messages of training.prepare."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import TrainingError, prepare
from training.prepare import question_groups, question_key, read_file, sample, split_by_question, topics_of


def write_csv(path, rows, columns=("Context", "Response")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows_of(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").split("\n") if line]


# Each differs from the others enough not to be taken for a repetition.
SUBJECTS = [
    "allotment",
    "bakery",
    "choir",
    "dentist",
    "engine",
    "flute",
    "garden",
    "harbour",
    "island",
    "jacket",
    "kettle",
    "lantern",
    "market",
    "novel",
    "orchard",
    "piano",
    "quarry",
    "river",
    "saddle",
    "tunnel",
    "umbrella",
    "violin",
    "window",
    "yoghurt",
]


def answer(i: int) -> str:
    subject = SUBJECTS[i]
    return (
        f"That {subject} seems to take much room in your week. What would change if the {subject} were quiet for a day? "
        f"Perhaps begin with one small {subject} step, number {i}, and tell me how the {subject} went afterwards."
    )


def question(i: int) -> str:
    return f"How do I talk with my {SUBJECTS[i]} teacher about {SUBJECTS[-i - 1]} lessons?"


def test_every_row_read_is_kept_or_counted(tmp_path):
    rows = [(question(i), answer(i)) for i in range(20)]
    rows += [("", "An answer alone."), ("  ", " "), ("A question alone?", ""), (question(3), f" {answer(3)} ")]
    report = prepare.prepare(write_csv(tmp_path / "rows.csv", rows), tmp_path / "out", rows=15)
    assert report["rows_read"] == 24
    assert {name: count for name, count in report["dropped"].items() if count} == {
        "empty_context": 2, "empty_response": 1, "duplicate": 1, "not_sampled": 5,
    }  # fmt: skip
    kept = sum(part["rows"] for part in report["splits"].values())
    assert kept == 15 and kept + sum(report["dropped"].values()) == report["rows_read"]
    assert report == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "report.png").stat().st_size > 10_000


def test_the_fixture_splits_without_a_shared_question(tmp_path, fixture_csv):
    report = prepare.prepare(fixture_csv, tmp_path)
    splits = {name: rows_of(tmp_path, name) for name in ("train", "validation", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 17, "validation": 1, "test": 6}
    assert_no_question_is_shared(splits)
    assert report["splits"]["train"]["sha256"] == prepare.sha256_of(tmp_path / "train.jsonl")


def test_a_seed_gives_the_same_files_and_another_seed_others(tmp_path, fixture_csv):
    reports = [prepare.prepare(fixture_csv, tmp_path / str(i), rows=16, seed=seed) for i, seed in enumerate((1, 1, 2))]
    assert reports[0] == reports[1]
    assert reports[0]["splits"] != reports[2]["splits"]


@settings(max_examples=60, deadline=None)
@given(
    questions=st.lists(st.sampled_from(["a", "A ", "b", "b\n b", "B b", "c", "d"]), min_size=1, max_size=40),
    validation=st.floats(0.01, 0.5),
    test=st.just(0.0) | st.floats(0.01, 0.49),
    seed=st.integers(0, 99),
)
def test_splits_never_share_a_question_and_are_never_empty(questions, validation, test, seed):
    rows = [{"context": question, "response": str(i)} for i, question in enumerate(questions)]
    shares = {"validation": validation, "test": test}
    needed = 3 if test else 2
    if len({question_key(row) for row in rows}) < needed:
        with pytest.raises(TrainingError, match=f"cannot fill {needed} splits"):
            split_by_question(rows, shares, seed)
        return
    splits = split_by_question(rows, shares, seed)
    assert splits["train"] and splits["validation"] and bool(splits["test"]) == bool(test)
    assert_no_question_is_shared(splits)
    assert sorted(row["response"] for part in splits.values() for row in part) == sorted(
        row["response"] for row in rows
    )


def assert_no_question_is_shared(splits) -> None:
    questions = [{question_key(row) for row in rows} for rows in splits.values()]
    assert sum(map(len, questions)) == len(set().union(*questions))


def test_each_split_has_about_its_share():
    rows = [{"context": question(i), "response": str(i)} for i in range(20)] * 10
    splits = split_by_question(rows, {"validation": 0.05, "test": 0.25}, seed=1)
    assert {name: len(part) for name, part in splits.items()} == {"train": 140, "validation": 10, "test": 50}


def test_sampling_keeps_the_order_and_all_rows_where_there_are_no_more():
    rows = [{"context": str(i), "response": "x"} for i in range(10)]
    assert sample(rows, 99, seed=0) == sample(rows, None, seed=0) == rows
    some = sample(rows, 4, seed=0)
    assert len(some) == 4 and some == sorted(some, key=rows.index)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    import pandas

    answers = ["Zeile\nzwei\u2028drei", 'He said "yes", then left.', "Ich höre dir zu. 🌿", None]
    table = pandas.DataFrame({"id": range(4), "Context": ["Why? ", "How?", "NA", "7"], "Response": answers})
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=suffix == ".jsonl")
    assert read_file(path) == [
        {"context": question, "response": text or ""}
        for question, text in zip(("Why?", "How?", "NA", "7"), answers, strict=True)
    ]


def test_a_byte_order_mark_and_missing_cells_do_no_harm(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text("\ufeffid,Context,Response\n1,Why?,So.\n2,Only a question\n", encoding="utf-8")
    assert read_file(path) == [{"context": "Why?", "response": "So."}, {"context": "Only a question", "response": ""}]


def test_questions_that_say_nearly_the_same_stay_together():
    asked = (
        "I moved to a new city in spring and since then I have not found one single person to talk to in the evening"
    )
    rows = [
        {"context": text, "response": "x"} for text in (asked, f"{asked.upper()}!!", f"{asked} or so", "What is love?")
    ]
    groups = question_groups(rows)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_topics_count_every_text_once():
    texts = ["my sister argues about money", "money and debts", "exam stress at school", "school exam tomorrow"] * 5
    topics = topics_of(texts)
    assert sum(topics.values()) == 20 and topics_of(["the", "and"]) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"question,answer\nWhy?,So.\n", "lacks the column Context and Response; it has: question, answer"),
        (b"Context,Answer\nWhy?,So.\n", "lacks the column Response"),
        (b"", "not a readable .csv"),
        (b"Context,Response\n\xff\xfe,x\n", "not UTF-8"),
        (b"Context,Response\n,\n", r"No row is left of 1 \(empty context 1\)"),
        (
            f'Context,Response\n{question(1)},"{answer(1)}"\n{question(1)},"{answer(2)}"\n'.encode(),
            "cannot fill 3 splits",
        ),
    ],
)
def test_data_that_cannot_be_used_says_why(tmp_path, content, says):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=says):
        prepare.prepare(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_paths_and_options_that_cannot_be_used_say_why(tmp_path, fixture_csv):
    with pytest.raises(TrainingError, match=r"There is no file .*--data"):
        prepare.prepare(tmp_path / "nothing.csv", tmp_path)
    with pytest.raises(TrainingError, match="is a folder"):
        prepare.prepare(tmp_path, tmp_path)
    with pytest.raises(TrainingError, match="--rows"):
        prepare.prepare(fixture_csv, tmp_path, rows=1)
    with pytest.raises(TrainingError, match="--validation"):
        prepare.prepare(fixture_csv, tmp_path, validation=1.0)


def test_a_hub_out_of_reach_names_the_way_without_it(tmp_path, monkeypatch):
    import datasets

    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(TrainingError, match="--data") as caught:
        prepare.prepare(None, tmp_path)
    assert prepare.HUB_ID in str(caught.value)


def test_the_command_ends_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["prepare", "--data", str(tmp_path / "nothing.csv")])
    with pytest.raises(SystemExit) as caught:
        prepare.main()
    assert "There is no file" in str(caught.value)
