"""python -m support.screening: lines in, lines out, line numbers for what cannot be read, and never a word of it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.screening import __main__ as cli
from support.screening.report import wilson

ROOT = Path(__file__).resolve().parents[2]


def run(arguments, lines):
    sink = io.StringIO()
    status = cli.main(arguments, io.StringIO("".join(line + "\n" for line in lines)), sink)
    return status, [json.loads(line) for line in sink.getvalue().splitlines()]


def row(identifier, *contents):
    return json.dumps({"id": identifier, "messages": [{"role": "user", "content": content} for content in contents]})


def test_messages():
    status, rows = run(["messages"], [row("a", "I want to die"), "", row("b", "I like soup")])
    assert status == 0
    assert [(r["id"], r["level"], r["crisis_reply"]) for r in rows] == [("a", 2, True), ("b", 0, False)]
    assert rows[0]["category"] == "suicide"
    assert rows[0]["evidence"] == ["suicide.wish_to_die"]


def test_replies():
    lines = [json.dumps({"id": i, "user": "hi", "reply": text}) for i, text in enumerate(["Call 988.", "Call 987."])]
    status, rows = run(["replies"], lines)
    assert status == 0
    assert rows == [{"id": 0, "ok": True, "problems": []}, {"id": 1, "ok": False, "problems": ["phone_number"]}]


@pytest.mark.parametrize(
    "line",
    [
        "zebulon {",
        '"zebulon"',
        '{"id": 1}',
        '{"messages": "zebulon"}',
        '{"messages": [{"role": "zebulon", "content": "zebulon"}]}',
        '{"messages": [{"role": "user", "content": 7}]}',
        '{"messages": ["zebulon"]}',
    ],
)
def test_a_bad_line_is_named_by_number_and_skipped(line, capsys):
    status, rows = run(["messages"], [line, row("b", "I like soup")])
    assert status == 0
    assert [r["id"] for r in rows] == ["b"]
    stderr = capsys.readouterr().err
    assert stderr.startswith("line 1: ")
    assert "zebulon" not in stderr


def test_more_lines_than_a_run_takes(monkeypatch, capsys):
    monkeypatch.setattr(cli, "MOST_LINES", 2)
    status, rows = run(["messages"], [row(i, "soup") for i in range(5)])
    assert (status, len(rows)) == (0, 2)
    assert "line 3" in capsys.readouterr().err


def test_report(tmp_path):
    rows = [
        {"source": "made_up", "level": 2, "messages": [{"role": "user", "content": "I want to die"}]},
        {"source": "made_up", "level": 2, "messages": [{"role": "user", "content": "soup"}]},
        {"source": "plain", "at_risk": 0, "messages": [{"role": "user", "content": "soup"}]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    sink = io.StringIO()
    assert cli.main(["report", str(path)], sink=sink) == 0
    table = sink.getvalue()
    assert "made_up level 2" in table
    assert "0.500" in table
    assert "false positives" in table
    assert "soup" not in table


def test_wilson():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "support.screening", "messages"],
        input=row("a", "I want to die \u2019") + "\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        check=True,
    )
    assert json.loads(done.stdout)["level"] == 2
