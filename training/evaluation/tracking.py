"""The measures as LangSmith experiments: one dataset, an experiment for each system, so that runs compare across time.

    track(systems, test)         uploaded where LANGSMITH_API_KEY is set; else computed here, and nothing leaves the machine

Knows nothing about models: answers and values are there already.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import Any

from training.evaluation.systems import System, Test

KEY = "LANGSMITH_API_KEY"
NAMES = uuid.UUID(
    "6c0b6f2e-5f43-4c1e-9d0e-0b6f0d7c2a11"
)  # so that a question of a dataset has one id, whoever uploads it


def track(systems: Sequence[System], test: Test) -> dict[str, dict[str, float]]:
    """Run an experiment for each system.

    Returns:
        system -> measure -> mean over the questions, each counting once, as the experiment saw it.
    """
    import langsmith

    upload = bool(os.environ.get(KEY))
    # Told what the server is like and not to batch, a client that uploads nothing asks nothing of the network either.
    client = langsmith.Client() if upload else langsmith.Client(info={}, auto_batch_tracing=False)
    dataset = f"counselling-test-{test.digest[:12]}"
    examples = _examples(dataset, test)
    data: Any = _uploaded(client, dataset, examples) if upload else examples
    found = {system.name: _experiment(client, upload, system, data) for system in systems}
    client.flush()  # what is sent behind our back is sent before we end
    return found


def _examples(dataset: str, test: Test) -> list[Any]:
    from langsmith.schemas import Example

    return [
        Example(
            id=uuid.uuid5(NAMES, f"{dataset}\n{question}"),
            dataset_id=uuid.uuid5(NAMES, dataset),
            inputs={"question": question},
            outputs={"references": references},
        )
        for question, references in test.references.items()
    ]


def _uploaded(client: Any, dataset: str, examples: Sequence[Any]) -> str:
    """The dataset's name; it is made where it is not there."""
    if not client.has_dataset(dataset_name=dataset):
        made = client.create_dataset(
            dataset, description="Questions that nothing was trained on, and counsellors' answers"
        )
        rows = [{"id": example.id, "inputs": example.inputs, "outputs": example.outputs} for example in examples]
        client.create_examples(dataset_id=made.id, examples=rows)
    return dataset


def _experiment(client: Any, upload: bool, system: System, data: Any) -> dict[str, float]:
    from langsmith import evaluate

    def target(inputs: dict[str, Any]) -> dict[str, str]:
        return {"answer": system.answers.get(inputs["question"], "")}

    def measured(inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        question = inputs["question"]
        found = {name: of[question][0] for name, of in system.values.items() if question in of}
        return {"results": [{"key": name, "score": value} for name, value in found.items()]}

    rows: Any = evaluate(
        target,
        data=data,
        evaluators=[measured],
        experiment_prefix=system.name,
        metadata=system.about,
        client=client,
        upload_results=upload,
    )
    sums: dict[str, list[float]] = {}
    for row in rows:
        for result in row["evaluation_results"]["results"]:
            if result.score is not None:
                sums.setdefault(result.key, []).append(float(result.score))
    return {key: sum(values) / len(values) for key, values in sums.items()}
