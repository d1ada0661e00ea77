"""Plain functions in real processes: answers, failures of every kind, and how long a process lives."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model.error import ErrorObject, TooManyRequests
from perdure.model.function import FunctionVersion
from perdure.runtimes.packages import remove
from perdure.runtimes.pool import InvokeOutcome
from perdure.service.invocation import Call
from support.functions import WAIT_S, Managed, managed
from support.packages import entries, file, link, package

APP = """
import os, signal, sys, time

def echo(event, context):
    return {"event": event, "pid": os.getpid()}

def fail(event, context):
    raise ValueError("bad news")

def leave(event, context):
    os._exit(event)

def die(event, context):
    os.kill(os.getpid(), signal.SIGKILL)

def hang(event, context):
    print("waiting", flush=True)
    time.sleep(600)

def child(event, context):
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    print("child", child.pid, flush=True)
    os._exit(3)

def hoard(event, context):
    held = bytearray(400 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(600)

def large(event, context):
    return "x" * event

def talk(event, context):
    for n in range(1000):
        print("line", n)
    print("err", file=sys.stderr)
    sys.stdout.write("end")
    return None

def surroundings(event, context):
    with open(os.path.join(os.environ["TMPDIR"], "mine"), "w") as file:
        file.write("x")
    return {"env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0], "sid": os.getsid(0) == os.getpid()}
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Managed]:
    with managed(tmp_path) as made:
        yield made


def put(pool: Managed, handler: str, **more: Any) -> FunctionVersion:
    return pool.put(f"fn-{handler}", {"app.py": APP}, handler=f"app.{handler}", **more)


def failure(outcome: InvokeOutcome) -> dict[str, Any]:
    assert outcome.function_error == "Unhandled"
    return dict(json.loads(outcome.body))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def await_end(pid: int) -> None:
    """Wait until a process that is no child of ours, or may be waited for by another thread, has ended."""
    try:
        ending = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([ending], [], [], WAIT_S)[0]
    finally:
        os.close(ending)


def test_a_process_is_used_again(pool: Managed) -> None:
    version = put(pool, "echo")
    first, second = (json.loads(pool.invoke(version, payload).body) for payload in (b'{"a":1}', b"[2]"))
    assert (first["event"], second["event"]) == ({"a": 1}, [2])
    assert first["pid"] == second["pid"]


def test_an_empty_payload_is_an_empty_object(pool: Managed) -> None:
    assert json.loads(pool.invoke(put(pool, "echo"), b"").body)["event"] == {}


def test_an_error_is_the_callers_and_the_process_goes_on(pool: Managed) -> None:
    version = put(pool, "fail")
    for _ in range(2):
        error = failure(pool.invoke(version, request_id="r-1"))
        assert (error["errorType"], error["errorMessage"], error["requestId"]) == ("ValueError", "bad news", "r-1")
        assert 'app.py", line 8, in fail' in error["stackTrace"][0]
    assert len({record.sandbox for record in pool.logs.read(version.function)}) == 1


@pytest.mark.parametrize(
    ("handler", "payload", "how"),
    [
        ("leave", b"3", "Runtime exited with error: exit status 3"),
        ("leave", b"0", "Runtime exited without providing a reason"),
        ("die", b"0", "Runtime exited with error: signal: killed"),
    ],
)
def test_a_process_that_ends_without_an_answer_says_how(handler: str, payload: bytes, how: str, pool: Managed) -> None:
    version = put(pool, handler)
    assert failure(pool.invoke(version, payload, request_id="r-1")) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: r-1 Error: {how}",
    }
    assert pool.lines(version.function, request_id="r-1")[-1].endswith("Status: error\tError Type: Runtime.ExitError")


def test_an_invocation_that_takes_too_long_is_killed(pool: Managed) -> None:
    version = put(pool, "hang", timeout_s=1)
    assert failure(pool.invoke(version, request_id="r-1")) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "r-1 Task timed out after 1.00 seconds",
    }
    lines = pool.lines(version.function, request_id="r-1")
    assert lines[:3] == ["START RequestId: r-1 Version: $LATEST", "waiting", "r-1 Task timed out after 1.00 seconds"]
    assert "Status: timeout" in lines[-1]


def test_what_a_process_has_started_ends_with_it(pool: Managed) -> None:
    version = put(pool, "child")
    failure(pool.invoke(version))
    (pid,) = [int(line.split()[1]) for line in pool.lines(version.function) if line.startswith("child")]
    await_end(pid)


def test_a_function_that_holds_too_much_memory_is_killed(pool: Managed) -> None:
    error = failure(pool.invoke(put(pool, "hoard", memory_mb=256), request_id="r-1"))
    assert error["errorType"] == "Runtime.OutOfMemory"
    assert error["errorMessage"].startswith("RequestId: r-1 Error: the function used ")
    assert error["errorMessage"].endswith("its MemorySize allows 256 MB")


def test_a_response_that_is_too_large_is_an_error(pool: Managed) -> None:
    version = put(pool, "large")
    assert len(pool.invoke(version, b"6000000").body) == 6_000_002
    error = failure(pool.invoke(version, b"7000000"))
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    assert pool.invoke(version, b"1").body == b'"x"'


def test_what_a_function_prints_is_in_its_log_before_its_answer_is_given(pool: Managed) -> None:
    version = put(pool, "talk")
    outcome = pool.invoke(version, request_id="r-1")
    lines = pool.lines(version.function, request_id="r-1", limit=5000)
    assert lines[1:1003] == [*(f"line {n}" for n in range(1000)), "err", "end"]
    assert len(outcome.log_tail) == 4096
    tail = outcome.log_tail.decode().splitlines()
    assert tail[-4:-1] == ["err", "end", "END RequestId: r-1"]
    assert tail[-1].startswith("REPORT RequestId: r-1\tDuration: ")


def test_a_process_has_its_own_surroundings(pool: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    version = put(pool, "surroundings", environment={"MINE": "1"})
    found = json.loads(pool.invoke(version, trace="Root=1-2").body)
    root = found["env"]["LAMBDA_TASK_ROOT"]
    assert (found["cwd"], found["path"], found["sid"]) == (root, root, True)
    assert found["env"]["MINE"] == "1"
    assert found["env"]["_X_AMZN_TRACE_ID"] == "Root=1-2"
    assert "SECRET_OF_THE_SERVER" not in found["env"]
    temp = Path(found["env"]["TMPDIR"])
    assert (temp / "mine").exists()
    pool.pool.close(0)
    assert not temp.parent.exists()


def test_invocations_at_once_have_processes_of_their_own(pool: Managed) -> None:
    version = pool.put(
        "meet",
        {
            "app.py": "import os, time\n"
            "def handler(event, context):\n"
            "    open(os.path.join(event, str(os.getpid())), 'w').close()\n"
            "    while len(os.listdir(event)) < 3: time.sleep(0.01)\n"
            "    return os.getpid()\n"
        },
    )
    place = pool.logs._folder.parent / "meeting"
    place.mkdir()
    going = [pool.pool.invoke(version, json.dumps(str(place)).encode()) for _ in range(3)]
    pids = {json.loads(one.result(WAIT_S).body) for one in going}
    assert len(pids) == 3


def test_reserved_concurrency_bounds_a_function(tmp_path: Path) -> None:
    with managed(tmp_path, concurrency_of={"fn-hang": 1, "fn-echo": None}.get) as pool:
        hanging, echo = put(pool, "hang", timeout_s=1), put(pool, "echo")
        going = pool.pool.invoke(hanging, b"0")
        with pytest.raises(TooManyRequests):
            pool.pool.invoke(hanging, b"0")
        assert not pool.pool.reserve(hanging.target)
        assert pool.invoke(echo).function_error is None
        going.result(WAIT_S)
        assert pool.pool.reserve(hanging.target)
        pool.pool.release(hanging.target)


def test_a_pool_has_so_many_places_and_no_more(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"places": 2}) as pool:
        version = put(pool, "echo")
        assert pool.pool.reserve(version.target)
        assert pool.pool.reserve(version.target)
        assert not pool.pool.reserve(version.target)
        with pytest.raises(TooManyRequests):
            pool.pool.invoke(version, b"0")
        pool.pool.release(version.target)
        assert pool.invoke(version).function_error is None
        assert not pool.pool.reserve("unknown:$LATEST")


def test_an_idle_process_makes_room_for_another_function(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"places": 1}) as pool:
        first = json.loads(pool.invoke(put(pool, "echo")).body)["pid"]
        other = pool.put("other", {"app.py": APP}, handler="app.echo")
        assert pool.invoke(other).function_error is None
        await_end(first)


def test_an_idle_process_is_ended_after_a_while(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"idle_s": 0.05}) as pool:
        version = put(pool, "echo")
        pid = json.loads(pool.invoke(version).body)["pid"]
        await_end(pid)
        assert json.loads(pool.invoke(version).body)["pid"] != pid


def test_a_process_that_is_too_old_for_its_credentials_takes_no_more_tasks(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"life_s": 0.0}) as pool:
        version = put(pool, "echo")
        pids = {json.loads(pool.invoke(version).body)["pid"] for _ in range(3)}
        assert len(pids) == 3


def test_new_code_runs_in_new_processes(pool: Managed) -> None:
    old = put(pool, "echo")
    pid = json.loads(pool.invoke(old).body)["pid"]
    new = pool.put("fn-echo", {"app.py": "def echo(event, context): return 'new'"}, handler="app.echo")
    assert pool.invoke(new).body == b'"new"'
    await_end(pid)


def test_a_changed_variable_is_seen_at_once(pool: Managed) -> None:
    files = {"app.py": "import os\ndef handler(event, context): return os.environ['A']"}
    assert pool.invoke(pool.put("fn", files, environment={"A": "1"})).body == b'"1"'
    assert pool.invoke(pool.put("fn", files, environment={"A": "2"})).body == b'"2"'


def test_tenants_of_an_isolated_function_have_processes_of_their_own(pool: Managed) -> None:
    shared, apart = put(pool, "echo"), pool.put("apart", {"app.py": APP}, handler="app.echo", is_tenant_isolated=True)

    def pid(version: FunctionVersion, tenant: str) -> int:
        return int(json.loads(pool.invoke(version, tenant_id=tenant).body)["pid"])

    assert pid(shared, "blue") == pid(shared, "red")
    assert pid(apart, "blue") == pid(apart, "blue") != pid(apart, "red")


def test_a_package_that_was_removed_from_the_cache_is_unpacked_again(pool: Managed, tmp_path: Path) -> None:
    files = {"app.py": "def handler(event, context): return 1"}
    assert pool.invoke(pool.put("fn", files, environment={"A": "1"})).body == b"1"
    (folder,) = (tmp_path / "cache").iterdir()
    remove(folder)
    assert pool.invoke(pool.put("fn", files, environment={"A": "2"})).body == b"1"


def test_a_call_for_a_chained_invoke_is_answered(pool: Managed) -> None:
    put(pool, "echo")
    put(pool, "fail")
    answers: dict[str, tuple[str | None, ErrorObject | None]] = {}
    done = threading.Semaphore(0)

    def call(function: str) -> None:
        def answer(result: str | None, error: ErrorObject | None) -> None:
            answers[function] = (result, error)
            done.release()

        pool.pool.call(Call(function, "$LATEST", '{"a":1}' if function != "fn-fail" else None, answer))

    for function in ("fn-echo", "fn-fail", "gone"):
        call(function)
        assert done.acquire(timeout=WAIT_S)
    assert json.loads(answers["fn-echo"][0] or "")["event"] == {"a": 1}
    failed, gone = answers["fn-fail"][1], answers["gone"][1]
    assert failed is not None and (failed.type, failed.message) == ("ValueError", "bad news")
    assert gone is not None and gone.type == "ResourceNotFoundException"


def test_calls_wait_for_a_place(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"places": 1}) as pool:
        version = put(pool, "echo")
        assert pool.pool.reserve(version.target)
        answered = threading.Event()
        pool.pool.call(Call(version.function, "$LATEST", "1", lambda _result, _error: answered.set()))
        assert pool.pool.has_backlog
        assert not answered.is_set()
        pool.pool.release(version.target)
        assert answered.wait(WAIT_S)
        assert not pool.pool.has_backlog


# --- functions that can't begin ----------------------------------------------------------------------------------


def test_a_function_that_can_not_be_loaded_says_why(pool: Managed) -> None:
    version = pool.put("fn", {"app.py": "import nothing_of_this_name"})
    error = failure(pool.invoke(version))
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert error["errorMessage"] == "Unable to import module 'app': No module named 'nothing_of_this_name'"
    lines = pool.lines("fn")
    assert lines[0].startswith("[ERROR] Runtime.ImportModuleError: Unable to import module 'app'")
    assert lines[1].startswith("INIT_REPORT Init Duration: ")


def test_a_function_that_takes_too_long_to_load_is_killed(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"init_s": 0.2}) as pool:
        version = pool.put("fn", {"app.py": "import time\ntime.sleep(600)"}, timeout_s=1)
        error = failure(pool.invoke(version, request_id="r-1"))
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"] == "r-1 Task timed out after 1.00 seconds"


def test_loading_beyond_its_limit_counts_against_the_time_out(tmp_path: Path) -> None:
    with managed(tmp_path, settings={"init_s": 0.01}) as pool:
        app = "import time\ntime.sleep(0.5)\ndef handler(event, context): return context.get_remaining_time_in_millis()"
        version = pool.put("fn", {"app.py": app}, timeout_s=20)
        assert json.loads(pool.invoke(version).body) < 19_500
        assert json.loads(pool.invoke(version).body) > 19_500


def test_a_process_that_ends_at_once_makes_no_storm_of_processes(pool: Managed) -> None:
    version = pool.put("fn", {"bootstrap": "#!/bin/sh\nexit 4\n"}, runtime="provided.al2023", executable=("bootstrap",))
    going = [pool.pool.invoke(version, b"0", request_id=f"r-{n}") for n in range(12)]
    for n, one in enumerate(going):
        error = failure(one.result(WAIT_S))
        assert error["errorMessage"] == f"RequestId: r-{n} Error: Runtime exited with error: exit status 4"
    begun = [line for line in pool.lines("fn") if line.startswith("INIT_REPORT")]
    assert len(begun) <= 8


def test_a_bootstrap_that_can_not_run_says_so(pool: Managed) -> None:
    for files, words in (
        ({"other": "x"}, "Couldn't find valid bootstrap"),
        ({"bootstrap": "#!/bin/sh\n"}, "can't be executed"),
    ):
        version = pool.put("fn", files, runtime="provided.al2023")
        error = failure(pool.invoke(version))
        assert error["errorType"] == "Runtime.InvalidEntrypoint"
        assert words in error["errorMessage"]
    version = pool.put("fn", {"bootstrap": "#!/no/such/shell\n"}, runtime="provided", executable=("bootstrap",))
    error = failure(pool.invoke(version))
    assert error["errorType"] == "Runtime.InvalidEntrypoint"
    assert "can't be started" in error["errorMessage"]


def test_a_package_that_is_an_attack_runs_nothing(pool: Managed, tmp_path: Path) -> None:
    for attack in (entries(file("../../up.py")), entries(link("app.py", "/etc/passwd")), b"no zip"):
        error = failure(pool.invoke(pool.put("fn", attack)))
        assert error["errorType"] == "InvalidParameterValueException"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_bootstrap_may_answer_by_hand(pool: Managed) -> None:
    """A custom runtime in the shell, as the Lambda Developer Guide has one."""
    script = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  event=$(curl -sS -D "$TMPDIR/headers" "$api/invocation/next")
  id=$(grep -i Lambda-Runtime-Aws-Request-Id "$TMPDIR/headers" | tr -d '[:space:]' | cut -d: -f2)
  curl -sS -X POST "$api/invocation/$id/response" -d "{\\"got\\":$event}" > /dev/null
done
"""
    version = pool.put("fn", {"bootstrap": script}, runtime="provided.al2023", executable=("bootstrap",))
    for number in (b"1", b"2"):
        assert pool.invoke(version, number).body == b'{"got":' + number + b"}"


# --- the end -----------------------------------------------------------------------------------------------------


def test_closing_lets_what_runs_end(tmp_path: Path) -> None:
    with managed(tmp_path) as pool:
        version = pool.put(
            "fn",
            {"app.py": "import time\ndef handler(event, context):\n    print('in', flush=True)\n    time.sleep(0.3)"},
        )
        seen = threading.Event()
        pool.logs.follow("fn", lambda records: seen.set() if any(one.text == "in" for one in records) else None)
        going = pool.pool.invoke(version, b"0")
        assert seen.wait(WAIT_S)
        pool.pool.close(WAIT_S)
        assert going.result(0).body == b"null"


def test_closing_at_once_kills_what_runs(tmp_path: Path) -> None:
    with managed(tmp_path) as pool:
        version = put(pool, "hang", timeout_s=600)
        seen = threading.Event()
        pool.logs.follow(version.function, lambda records: seen.set() if records[-1].text == "waiting" else None)
        going = pool.pool.invoke(version, b"0")
        assert seen.wait(WAIT_S)
        pool.pool.close(0)
        error = failure(going.result(0))
        assert error["errorMessage"].endswith("the server was stopped while the function ran")
        with pytest.raises(TooManyRequests):
            pool.pool.invoke(version, b"0")


SERVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support.functions import Managed
pool = Managed(Path({folder!r}))
version = pool.put("fn", {{"app.py": '''
import os, subprocess, time
def handler(event, context):
    child = subprocess.Popen(["sleep", "600"])
    return [os.getpid(), child.pid, os.environ["TMPDIR"]]
'''}})
print(pool.invoke(version).body.decode(), flush=True)
print(pool.pool._guard.pid, flush=True)
sys.stdin.read()
"""


def test_no_process_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    code = SERVER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pid, child, temp = json.loads(server.stdout.readline())
        guard = int(server.stdout.readline())
        assert is_alive(pid) and is_alive(child) and Path(temp).exists()
        server.kill()
        for one in (guard, pid, child):
            await_end(one)
    assert not Path(temp).parent.exists()


def test_packages_are_unpacked_once_for_all_functions_that_share_them(pool: Managed, tmp_path: Path) -> None:
    content = package({"app.py": APP})
    for name in ("a", "b"):
        assert pool.invoke(pool.put(name, content, handler="app.echo")).function_error is None
    assert len(list((tmp_path / "cache").iterdir())) == 1
