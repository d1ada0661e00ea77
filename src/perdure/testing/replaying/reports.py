"""What came of replays, for programs: a JSON document, and JUnit's XML for what shows test results."""

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree as ET

from perdure.testing.replaying.judging import Divergence, Verdict
from perdure.testing.replaying.replayer import ReplayResult, ReplaySummary


def result_document(result: ReplayResult) -> dict[str, Any]:
    """One result. `Divergence` is there unless the code is compatible."""
    found: dict[str, Any] = {
        "FunctionName": result.function,
        "DurableExecutionName": result.name,
        "DurableExecutionArn": result.arn,
        "Status": result.status,
        "Source": result.source,
        "Verdict": str(result.verdict),
        "Compatible": result.is_compatible,
        "Operations": result.operations,
        "Events": result.events,
        "Boundaries": result.boundaries,
        "Warnings": list(result.warnings),
    }
    if result.divergence is not None:
        found["Divergence"] = _divergence_document(result.divergence)
    return found


def _divergence_document(divergence: Divergence) -> dict[str, Any]:
    where = divergence.where
    found = {
        "Difference": str(divergence.difference),
        "Message": divergence.message,
        "Expected": divergence.expected,
        "Actual": divergence.actual,
        "Operation": divergence.number,
        "Path": divergence.path,
        "AfterEvent": divergence.after_event,
        "File": where.file if where is not None else None,
        "Line": where.line if where is not None else None,
        "Function": where.function if where is not None else None,
        "Diff": list(divergence.diff),
        "Suggestion": divergence.suggestion,
    }
    return {name: value for name, value in found.items() if value is not None}


def summary_document(summary: ReplaySummary) -> dict[str, Any]:
    """All results, and how many there are of each verdict; `Skipped` were like one of these."""
    return {
        "Compatible": summary.is_compatible,
        "Counts": {str(verdict): summary.count(verdict) for verdict in Verdict},
        "Skipped": summary.skipped,
        "Results": [result_document(result) for result in summary],
    }


def junit(summary: Iterable[ReplayResult], name: str = "perdure replay") -> str:
    """A test suite in JUnit's XML: one test case for each history, failed unless the code is compatible with it."""
    results = list(summary)
    failures = [result for result in results if not result.is_compatible]
    counts = {"tests": str(len(results)), "failures": str(len(failures)), "errors": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0"})
    for result in results:
        case = ET.SubElement(suite, "testcase", {"classname": result.function, "name": result.name, "time": "0"})
        divergence = result.divergence
        if divergence is not None:
            if divergence.where is not None:
                case.set("file", divergence.where.file)
                case.set("line", str(divergence.where.line))
            kind = {"message": _xml(divergence.message), "type": str(result.verdict)}
            ET.SubElement(case, "failure", kind).text = _xml(str(divergence))
        if result.warnings:
            ET.SubElement(case, "system-out").text = _xml("\n".join(result.warnings))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """A text without the signs that XML can't hold."""
    return "".join(sign if sign >= " " or sign in "\n\t" else "�" for sign in text)
