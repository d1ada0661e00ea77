"""The demonstration behind `make demo`: an order is started, killed in a step and in a wait, and served all the same.

Every run is a process of its own; this program starts them with the command `perdure` and kills them with SIGKILL.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = Path.cwd() / ".demo"
STORE = FOLDER / "espresso.db"
LOG = FOLDER / "espresso.log"
PERDURE = [sys.executable, "-m", "perdure"]
ENVIRONMENT = {**os.environ, "PERDURE_STORE": str(STORE), "ESPRESSO_LOG": str(LOG), "PYTHONUTF8": "1"}
ORDER = {"order": 7, "drink": "cortado", "cents": 320}
LATE_ORDER = {"order": 8, "drink": "espresso", "cents": 240, "patience_s": 2}
LIMIT_S = 25.0
IS_COLOURED = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def say(text: str) -> None:
    print(f"\n\033[1;36m▌ {text}\033[0m" if IS_COLOURED else f"\n== {text}", flush=True)


def run_order(order: dict[str, Any], name: str) -> "subprocess.Popen[bytes]":
    command = [*PERDURE, "run", str(HERE / "espresso.py"), "-e", json.dumps(order), "--name", name, "--wait"]
    shown = ["perdure", *command[3:4], "espresso.py", *command[5:]]
    print("$", " ".join(f"'{word}'" if "{" in word else word for word in shown), flush=True)
    return subprocess.Popen(command, env=ENVIRONMENT, cwd=FOLDER)


def perdure(*arguments: str) -> None:
    print("$ perdure", *arguments, flush=True)
    subprocess.run([*PERDURE, *arguments], env=ENVIRONMENT, cwd=FOLDER, check=True)


def asked(*arguments: str) -> Any:
    answer = subprocess.run(
        [*PERDURE, *arguments, "-o", "json"], env=ENVIRONMENT, cwd=FOLDER, check=True, capture_output=True
    )
    return json.loads(answer.stdout)


def log_lines() -> list[list[str]]:
    return [line.split() for line in LOG.read_text().splitlines()] if LOG.exists() else []


def until(what: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Wait until the outside world shows it, as somebody who looks at the bar would."""
    deadline = time.monotonic() + LIMIT_S
    while not what():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the run ended with {process.poll()} before it came so far")
        time.sleep(0.02)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if IS_COLOURED:
        print("\033[?25h", end="")
    print(f"  SIGKILL: process {process.pid} is gone, without a chance to clean up", flush=True)


def seen(word: str, order: int, name: str) -> bool:
    return any(line[:3] == [word, str(order), name] for line in log_lines())


def serve_order_7() -> None:
    say("Order 7: a cortado. The process is killed in the middle of the step that reserves the beans.")
    process = run_order(ORDER, "order-7")
    until(lambda: seen("begin", 7, "reserve"), process)
    time.sleep(0.6)
    kill(process)

    say("The same command again: 'validate' is not run again, 'reserve' is. Then it is killed during the wait.")
    process = run_order(ORDER, "order-7")
    until(lambda: seen("done", 7, "charge"), process)
    time.sleep(1.0)
    kill(process)

    say("And again: the wait ends when it was to end, and the barista is asked. He answers from another process.")
    process = run_order(ORDER, "order-7")
    until(lambda: seen("asked", 7, "barista"), process)
    (callback,) = asked("callback", "list")["Callbacks"]
    time.sleep(0.8)
    perdure("callback", "succeed", callback["CallbackId"], "-r", "Ada")
    if process.wait(LIMIT_S):
        sys.exit("order 7 was not served")


def refund_order_8() -> None:
    say("Order 8: nobody answers within two seconds. What was done is undone, in the reverse order.")
    if run_order(LATE_ORDER, "order-8").wait(LIMIT_S):
        sys.exit("order 8 was not refunded")


def show() -> None:
    say("The history of order 7, as the journal has it.")
    perdure("execution", "history", "order-7", "-o", "table")
    say("What the outside world saw of order 7: which process ran which step.")
    begun, done = Counter[str](), Counter[str]()
    processes: dict[str, list[str]] = {}
    for word, order, name, pid in log_lines():
        if order == "7" and word in ("begin", "done"):
            (begun if word == "begin" else done)[name] += 1
            if word == "begin":
                processes.setdefault(name, []).append(pid)
    for name in processes:
        pids = ", ".join(processes[name])
        print(f"  {name:<10} begun {begun[name]}×, completed {done[name]}×   in process {pids}")
    assert all(count == 1 for count in done.values()), "a completed step ran again"
    assert begun["charge"] == 1, "the card was charged twice"
    assert begun["reserve"] == 2, "the step that was killed was not run again"
    (end,) = [
        event for event in asked("execution", "history", "order-7")["Events"] if "Execution" in event["EventType"]
    ][1:]
    assert end["EventType"] == "ExecutionSucceeded", end
    print("\nKilled twice; no completed step ran again, the card was charged once, the cortado was served.")
    shown = os.path.relpath(STORE)
    command = "perdure" if shutil.which("perdure") else os.path.relpath(Path(sys.executable).parent / "perdure")
    print(
        f"Look around:\n  {command} ls --store {shown}\n  {command} execution tree order-8 --timeline --store {shown}"
    )


def main() -> None:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    print(f"Perdure: durable functions on your own machine. Everything is kept in one file: {os.path.relpath(STORE)}")
    serve_order_7()
    refund_order_8()
    show()
    print(f"({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
