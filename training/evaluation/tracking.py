"""The same measures as LangSmith experiments: one dataset, an experiment for each system, so that runs compare across time.

    track(systems, test)         uploaded where LANGSMITH_API_KEY is set; else computed here, and nothing leaves the machine

Knows nothing about models: answers are there already.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation import measures

KEY = "LANGSMITH_API_KEY"
SPACE_OF_IDS = uuid.UUID("6c0b6f2e-5f43-4c1e-9d0e-0b6f0d7c2a11")  # so that a question has the same id in every run


def track(
    answers: Mapping[str, Mapping[str, str]],
    abouts: Mapping[str, dict[str, Any]],
    references: Mapping[str, Sequence[str]],
    test_sha256: str,
) -> dict[str, dict[str, float]]:
    """Run an experiment for each system.

    Args:
        answers: system -> question -> answer.
        abouts: system -> what it is, as the experiment's metadata.
        references: question -> the counsellors' answers.
        test_sha256: names the dataset.

    Returns:
        system -> measure -> mean over the questions, as the experiment counted it.
    """
    import langsmith

    dataset = f"counselling-test-{test_sha256[:12]}"
    upload = bool(os.environ.get(KEY))
    # Told what the server is like and not to batch, a client that uploads nothing asks nothing of the network either.
    client = langsmith.Client() if upload else langsmith.Client(info={}, auto_batch_tracing=False)
    examples = _examples(dataset, references)
    data: Any = _uploaded(client, dataset, examples) if upload else examples
    return {name: _experiment(client, upload, name, data, answers[name], abouts[name]) for name in answers}


def _examples(dataset: str, references: Mapping[str, Sequence[str]]) -> list[Any]:
    from langsmith.schemas import Example

    return [
        Example(
            id=uuid.uuid5(SPACE_OF_IDS, question),
            dataset_id=uuid.uuid5(SPACE_OF_IDS, dataset),
            inputs={"question": question},
            outputs={"references": list(group)},
        )
        for question, group in references.items()
    ]


def _uploaded(client: Any, dataset: str, examples: Sequence[Any]) -> str:
    """The dataset's name; it is made where it is not there."""
    if not client.has_dataset(dataset_name=dataset):
        made = client.create_dataset(
            dataset, description="Questions that nothing was trained on, and counsellors' answers"
        )
        client.create_examples(
            dataset_id=made.id, examples=[{"inputs": e.inputs, "outputs": e.outputs} for e in examples]
        )
    return dataset


def _experiment(
    client: Any, upload: bool, name: str, data: Any, answers: Mapping[str, str], about: dict[str, Any]
) -> dict[str, float]:
    from langsmith import evaluate

    def target(inputs: dict[str, Any]) -> dict[str, str]:
        return {"answer": answers[inputs["question"]]}

    def measured(outputs: dict[str, Any], reference_outputs: dict[str, Any]) -> dict[str, Any]:
        values = measures.of_answer(outputs["answer"], reference_outputs["references"])
        return {"results": [{"key": key, "score": value} for key, value in values.items()]}

    found = evaluate(
        target,
        data=data,
        evaluators=[measured],
        experiment_prefix=name,
        metadata=about,
        client=client,
        upload_results=upload,
    )
    sums: dict[str, list[float]] = {}
    row: Any
    for row in found:
        for result in row["evaluation_results"]["results"]:
            if result.score is not None:
                sums.setdefault(result.key, []).append(float(result.score))
    return {key: sum(values) / len(values) for key, values in sums.items() if "." not in key}
