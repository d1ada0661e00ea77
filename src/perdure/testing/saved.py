"""Results as JSON documents: the histories that the replayer reads, and AWS's tools write."""

import json
from collections.abc import Mapping
from typing import Any

from perdure.model.error import InvalidParameterValue
from perdure.testing.exceptions import DurableFunctionsTestError
from perdure.testing.facts import Facts
from perdure.testing.histories import facts_of, history_of_facts, read_history, write_history


def write(facts: Facts) -> str:
    """The document of an execution."""
    return json.dumps(write_history(history_of_facts(facts)), indent=1, ensure_ascii=False) + "\n"


def read(document: str | bytes | Mapping[str, Any]) -> Facts:
    """The facts of a document; DurableFunctionsTestError says what is missing or can't be."""
    try:
        given = document if isinstance(document, Mapping) else json.loads(document)
        return facts_of(read_history(given))
    except (ValueError, InvalidParameterValue) as error:
        raise DurableFunctionsTestError(
            f"this is no saved execution: {error}; it is a JSON object with Execution, the answer to "
            "GetDurableExecution, and Events, those of GetDurableExecutionHistory with execution data"
        ) from error
