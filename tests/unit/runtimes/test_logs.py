"""Functions' logs: records, files that do not grow without end, and the lines of a process."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.function import FunctionVersion
from perdure.runtimes import platform_lines
from perdure.runtimes.logs import LINE_BYTES_MAX, FunctionLogs, Record, SandboxLog


def record(text: str, at_ms: int = 0, **more: Any) -> Record:
    return Record(at_ms=at_ms, text=text, **{"version": "1", "sandbox": "s", **more})


def texts(records: list[Record]) -> list[str]:
    return [one.text for one in records]


def sandbox_log(logs: FunctionLogs) -> SandboxLog:
    return SandboxLog(logs, "fn", "3", "box", lambda: 77)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    written = [record("one", 1), record("two\nlines", 2, request_id="r", level="INFO")]
    logs.write("fn", written)
    assert logs.read("fn") == written
    logs.close()
    assert FunctionLogs(tmp_path).read("fn") == written


def test_the_newest_records_are_found_by_time_request_and_version(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    logs.write("fn", [record(str(n), n, request_id=f"r{n % 2}", version=str(n % 3)) for n in range(10)])
    assert texts(logs.read("fn", limit=3)) == ["7", "8", "9"]
    assert texts(logs.read("fn", since_ms=7)) == ["7", "8", "9"]
    assert texts(logs.read("fn", request_id="r1", limit=2)) == ["7", "9"]
    assert texts(logs.read("fn", version="0")) == ["0", "3", "6", "9"]
    assert logs.read("other") == []


def test_a_log_takes_its_share_of_the_disk_and_no_more(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path, file_bytes=1_000, files=3)
    for n in range(200):
        logs.write("fn", [record(f"line {n:04}")])
    files = sorted((tmp_path / "fn").iterdir())
    assert len(files) == 3
    assert all(file.stat().st_size <= 1_000 for file in files)
    found = texts(logs.read("fn"))
    assert found[-1] == "line 0199"
    assert found == sorted(found) and len(found) > 20


def test_a_log_goes_on_where_an_earlier_server_has_left_it(tmp_path: Path) -> None:
    for n in range(5):
        logs = FunctionLogs(tmp_path, file_bytes=100, files=3)
        logs.write("fn", [record(f"line {n}")])
        logs.close()
    assert texts(logs.read("fn")) == ["line 2", "line 3", "line 4"]


def test_a_line_that_was_cut_off_by_a_power_failure_is_passed_over(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    logs.write("fn", [record("one")])
    (file,) = (tmp_path / "fn").iterdir()
    with file.open("ab") as target:
        target.write(b'{"at_ms":5,"te\n')
    logs.write("fn", [record("two")])
    assert texts(logs.read("fn")) == ["one", "two"]


def test_a_follower_sees_what_is_written_until_it_leaves(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    seen: list[Record] = []
    leave = logs.follow("fn", seen.extend)
    logs.write("fn", [record("one")])
    logs.write("other", [record("other")])
    leave()
    logs.write("fn", [record("two")])
    assert texts(seen) == ["one"]


def test_between_what_is_read_and_what_is_followed_nothing_is_missed_and_nothing_comes_twice(tmp_path: Path) -> None:
    """Found in review: a line that was printed twice in one millisecond was shown once."""
    logs = FunctionLogs(tmp_path)
    logs.write("fn", [record("same"), record("same")])
    seen: list[Record] = []
    writers = [threading.Thread(target=logs.write, args=("fn", [record(str(n))])) for n in range(20)]
    for writer in writers[:10]:
        writer.start()
    found, leave = logs.read_and_follow("fn", seen.extend, lambda: logs.read("fn"))
    for writer in writers[10:]:
        writer.start()
    for writer in writers:
        writer.join()
    leave()
    assert sorted(texts([*found, *seen])) == sorted(["same", "same", *map(str, range(20))])


def test_a_log_can_be_removed(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    logs.write("fn", [record("one")])
    logs.remove("fn")
    assert logs.read("fn") == []
    logs.write("fn", [record("two")])
    assert texts(logs.read("fn")) == ["two"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a" * 65, ".."])
def test_a_function_of_no_name_has_no_log(name: str, tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    for act in (lambda: logs.read(name), lambda: logs.remove(name), lambda: logs.write(name, [record("x")])):
        with pytest.raises(InvalidParameterValue):
            act()
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_prints_becomes_lines_of_its_invocation(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    log = sandbox_log(logs)
    log.printed(b"loading\n")
    log.begin("r-1", "START")
    log.printed(b"hel")
    log.printed(b"lo\nworld")
    log.flush()
    log.say("END")
    found = logs.read("fn")
    assert [(one.text, one.request_id, one.is_platform) for one in found] == [
        ("loading", None, False),
        ("START", "r-1", True),
        ("hello", "r-1", False),
        ("world", "r-1", False),
        ("END", "r-1", True),
    ]
    assert {(one.at_ms, one.version, one.sandbox) for one in found} == {(77, "3", "box")}


def test_a_text_of_many_lines_stays_one_record(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    sandbox_log(logs).printed(b"[ERROR] ValueError: bad\rTraceback\r  File\n")
    assert texts(logs.read("fn")) == ["[ERROR] ValueError: bad\nTraceback\n  File"]


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    log = sandbox_log(logs)
    log.printed(b"x" * (LINE_BYTES_MAX + 10))
    assert [len(one.text) for one in logs.read("fn")] == [LINE_BYTES_MAX]
    log.flush()
    assert [len(one.text) for one in logs.read("fn")] == [LINE_BYTES_MAX, 10]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[INFO]\t2026-01-01T00:00:00.000Z\tr\thello", "INFO"),
        ("2026-01-01T00:00:00.000Z\tr\tWARN\thello", "WARN"),
        ('{"timestamp":"t","level":"error","message":"m"}', "ERROR"),
        ('{"a":1}', None),
        ('{"level":5}', None),
        ("{broken", None),
        ("INFO hello", None),
    ],
)
def test_a_line_says_its_level_in_the_forms_of_the_clients(line: str, level: str | None, tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    sandbox_log(logs).printed(line.encode() + b"\n")
    assert [one.level for one in logs.read("fn")] == [level]


def test_the_tail_is_the_last_four_kibibytes_of_one_invocation(tmp_path: Path) -> None:
    log = sandbox_log(FunctionLogs(tmp_path))
    log.begin("r-1")
    log.printed(b"before\n")
    log.begin("r-2", "START")
    log.printed(b"hello\n")
    assert log.tail() == b"START\nhello\n"
    for n in range(1000):
        log.printed(b"line %d\n" % n)
    tail = log.tail()
    assert len(tail) == 4096
    assert tail.endswith(b"line 998\nline 999\n")


TEXT = FunctionVersion(function="fn", memory_mb=256)
JSON = FunctionVersion(function="fn", memory_mb=256, log_format="JSON")
MIB = 1024 * 1024


def test_the_platform_reports_as_tools_for_lambda_expect_it() -> None:
    assert platform_lines.begun(TEXT, "r") == "START RequestId: r Version: $LATEST"
    lines = platform_lines.ended(TEXT, "r", duration_s=0.01234, init_s=0.1, memory_bytes=40 * MIB, error=None)
    assert lines == [
        "END RequestId: r",
        "REPORT RequestId: r\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 256 MB\t"
        "Max Memory Used: 40 MB\tInit Duration: 100.00 ms",
    ]
    error = ErrorObject("x", "Sandbox.Timedout")
    (_, report) = platform_lines.ended(TEXT, "r", duration_s=0.0, init_s=None, memory_bytes=0, error=error)
    assert report.endswith(
        "Billed Duration: 1 ms\tMemory Size: 256 MB\tMax Memory Used: 0 MB\t"
        "Status: timeout\tError Type: Sandbox.Timedout"
    )


def test_the_platform_reports_in_json_where_the_function_logs_so() -> None:
    begun = msgspec.json.decode(platform_lines.begun(JSON, "r"))
    assert (begun["type"], begun["record"]) == ("platform.start", {"requestId": "r", "version": "$LATEST"})
    error = ErrorObject("x", "ValueError")
    (line,) = platform_lines.ended(JSON, "r", duration_s=0.0021, init_s=0.1, memory_bytes=3 * MIB, error=error)
    report = msgspec.json.decode(line)
    assert report["type"] == "platform.report"
    assert report["record"] == {
        "requestId": "r",
        "metrics": {
            "durationMs": 2.1,
            "billedDurationMs": 3,
            "memorySizeMB": 256,
            "maxMemoryUsedMB": 3,
            "initDurationMs": 100.0,
        },
        "status": "error",
        "errorType": "ValueError",
    }
    (line,) = platform_lines.initialized(JSON, 0.05)
    assert msgspec.json.decode(line)["record"]["metrics"] == {"durationMs": 50.0}
    assert platform_lines.initialized(TEXT, 0.05) == []
    failed = msgspec.json.decode(platform_lines.failed_to_begin(JSON, 0.05, error))
    assert failed["record"]["errorType"] == "ValueError"
    assert "Status: error\tError Type: ValueError" in platform_lines.failed_to_begin(TEXT, 0.05, error)
