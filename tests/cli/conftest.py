"""The command line in this process: arguments go in; exit code, stdout and stderr come out."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.cli.main import invoke


class Said(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]

    @property
    def rows(self) -> list[list[str]]:
        """The rows of a tsv table, without the titles."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


Cli = Callable[..., Said]
HOMES = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_STATE_HOME": ".state",
    "AWS_SHARED_CREDENTIALS_FILE": ".aws-credentials",
}
"""Nothing of whoever runs the tests is read."""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs commands in an empty folder, as `cli("run", "orders.py")`; fails if the exit code is not `code`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("PERDURE_", "AWS_", "DURABLE_"))]:
        monkeypatch.delenv(name)
    for name, folder in HOMES.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    root, own = logging.getLogger(), logging.getLogger("perdure")
    before = root.level, own.level, list(root.handlers)

    def call(*arguments: str, code: int = 0) -> Said:
        capsys.readouterr()
        found = invoke(arguments)
        out, err = capsys.readouterr()
        assert found == code, f"exit code {found}\n{out}\n{err}"
        return Said(found, out, err)

    yield call
    root.setLevel(before[0])
    own.setLevel(before[1])
    root.handlers[:] = before[2]


ORDERS = '''
import os
from pathlib import Path
from perdure import DurableContext, Duration, StepConfig, durable_execution
from perdure.retries import RetryDecision


def note(word):
    with Path("ran.txt").open("a") as file:
        print(word, file=file)


@durable_execution
def handler(event, context: DurableContext):
    """Ask, unless told the answer."""
    print("a word on stdout")
    context.step(lambda _: note("reserve"), name="reserve")
    if event.get("ask", False):
        submit = lambda callback_id, _: Path("id.txt").write_text(callback_id)
        answer = context.wait_for_callback(submit, name="barista")
    else:
        answer = "nobody"
    context.step(lambda _: note("serve"), name="serve")
    return {"order": event.get("order"), "answer": answer}


@durable_execution
def retried(event, context: DurableContext):
    def flaky(step):
        if step.attempt < 2:
            raise RuntimeError("no luck")
        return step.attempt
    once = StepConfig(retry_strategy=lambda error, attempt: RetryDecision.retry(Duration.from_seconds(1)))
    with_child = context.run_in_child_context(lambda child: child.step(lambda _: "deep", name="inner"), name="box")
    return [context.step(flaky, name="flaky", config=once), with_child]


@durable_execution
def fails(event, context: DurableContext):
    raise ValueError("no milk\\nleft")


@durable_execution
def sleeps(event, context: DurableContext):
    context.step(lambda _: note("before"), name="before")
    context.wait(Duration.from_seconds(event.get("seconds", 3600)), name="night")
    context.step(lambda _: note("after"), name="after")
    return "slept"


def plain(event, context):
    return 1
'''


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A file with handlers, under a name of its own: a process imports a name once."""
    file = tmp_path / f"orders_{tmp_path.name.replace('-', '_')}.py"
    file.write_text(ORDERS)
    return file
