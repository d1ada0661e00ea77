"""The files of a folder are read beside each other, a few at a time; bad ones are reported and do not stop the others.

Each file is a CSV with a column `cents`. The list of files is a step, so that a replay sees the same files in the same
order whatever has happened to the folder since. Each file is a branch of a map, with its name in histories and lists.

Try it:

    perdure run examples/files/files.py:handler -e '{"folder": "examples/files/invoices"}'
"""

import csv
from pathlib import Path
from typing import Any

from perdure import (
    CompletionConfig,
    DurableContext,
    MapConfig,
    RetryStrategyConfig,
    StepConfig,
    StepContext,
    create_retry_strategy,
    durable_execution,
    durable_step,
)

READ = StepConfig(retry_strategy=create_retry_strategy(RetryStrategyConfig(retryable_error_types=[OSError])))
"""A disk that is gone may come back; a file with a bad line does not get better."""


@durable_step
def list_files(step: StepContext, folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.csv"))


@durable_step
def add_up(step: StepContext, file: str) -> dict[str, int]:
    with Path(file).open(newline="", encoding="utf-8") as lines:
        cents = [int(row["cents"]) for row in csv.DictReader(lines)]
    return {"rows": len(cents), "cents": sum(cents)}


def one_file(context: DurableContext, file: str) -> dict[str, int]:
    return context.step(add_up(file), config=READ)


@durable_execution(name="invoices")
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    files = context.step(list_files(event["folder"]))
    config = MapConfig(
        max_concurrency=4,
        item_namer=lambda file: Path(file).name,
        completion_config=CompletionConfig(tolerated_failure_percentage=event.get("bad_percent", 25)),
    )
    batch = context.map(files, one_file, name="files", config=config)
    return {
        "why": batch.completion_reason,
        "read": batch.success_count,
        "rows": sum(one["rows"] for one in batch.get_results()),
        "cents": sum(one["cents"] for one in batch.get_results()),
        "bad": {Path(files[item.index]).name: item.error.message for item in batch.failed() if item.error},
    }
