"""`perdure dev` as people use it: a module and a template are served, saved files are taken up, Ctrl-C ends it."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.dev import ROOT, Dev, begun, dev
from support.functions import PYTHON, WAIT_S
from support.served import client_of

ORDERS = """
from perdure import DurableContext, durable_execution
from prices import PRICE

@durable_execution(name="order")
def order(event, context: DurableContext):
    print("at work on", event["item"])
    def charge(step):
        step.logger.info("charging %s", PRICE)
        return PRICE
    charged = context.step(charge, name="charge")
    print("charged, with no end of line", end="")
    return {"charged": charged, "by": context.create_callback(name="approve").result()}

def handler(event, context):
    return {"plain": PRICE}
"""
PLAIN = """
import os

def handler(event, context):
    print("on behalf of", event["who"])
    return {"who": event["who"], "stage": os.environ["STAGE"], "price": 5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "prices.py").write_text("PRICE = 5\n")
    return tmp_path


def invoked(dev: Dev, name: str, event: object = None, **more: Any) -> Any:
    payload = json.dumps(event if event is not None else {}).encode()
    return client_of(dev.url).invoke(FunctionName=name, Payload=payload, **more)


def callback_of(dev: Dev, name: str, after: int = 0) -> str:
    """The callback that an execution waits for, from the line that says so."""
    found = re.search(r"perdure callback succeed (\S+)", dev.line(f"{name}: waits for an answer", after))
    assert found is not None
    return found[1]


def answered(dev: Dev, arn: str, callback_id: str) -> Any:
    """The result of an execution once its callback is answered."""
    client = client_of(dev.url)
    client.send_durable_execution_callback_success(CallbackId=callback_id, Result=b'"Ada"')
    name = arn.split("/")[-2]
    dev.line(f"{name}: succeeded")
    return json.loads(client.get_durable_execution(DurableExecutionArn=arn)["Result"])


# --- a module ------------------------------------------------------------------------------------------------------


def test_the_functions_of_a_module_are_served_and_what_they_say_is_shown(folder: Path) -> None:
    with dev(folder, "orders.py") as running:
        assert json.load(invoked(running, "orders-handler")["Payload"]) == {"plain": 5}
        begun_ = invoked(running, "order:$LATEST", {"item": "tea"}, InvocationType="Event", DurableExecutionName="one")
        callback_id = callback_of(running, "one")
        assert answered(running, begun_["DurableExecutionArn"], callback_id) == {"charged": 5, "by": '"Ada"'}
        running.line("[order] one: started")
        running.line("[order] at work on tea")
        running.line("[order] charging 5")
        running.line("[order] charged, with no end of line")
        assert running.end() == 0
    text = running.text
    assert f"orders.py is served at {running.url}, on sqlite:///perdure.db" in text
    assert f"export AWS_ENDPOINT_URL_LAMBDA={running.url}" in text
    assert "aws lambda invoke --function-name 'order:$LATEST' /dev/stdout" in text
    assert re.search(
        r"order +this process, durable +arn:aws:lambda:us-east-1:000000000000:function:order:\$LATEST", text
    )
    assert "Traceback" not in text


def test_a_handler_that_looks_at_the_clock_is_told_with_its_line(tmp_path: Path) -> None:
    """Reported once, however often it is replayed."""
    code = [
        "import time",
        "from perdure import durable_execution",
        "@durable_execution(name='clock')",
        "def handler(event, context):",
        "    began = time.time()",
        "    context.wait(1)",
        "    return began",
    ]
    (tmp_path / "clock.py").write_text("\n".join(code))
    with dev(tmp_path, "clock.py") as running:
        invoked(running, "clock:$LATEST")
        running.line("clock.py:5: NonDeterminismWarning: time.time was called at ")
        assert running.end() == 0
    assert running.text.count("NonDeterminismWarning") == 1


def test_an_open_execution_goes_on_with_the_code_that_was_saved(folder: Path) -> None:
    with dev(folder, "orders.py") as running:
        arn = invoked(running, "order:$LATEST", {"item": "tea"}, InvocationType="Event", DurableExecutionName="one")[
            "DurableExecutionArn"
        ]
        callback_id = callback_of(running, "one")
        (folder / "orders.py").write_text(ORDERS.replace('"by"', '"answered_by"'))
        running.line("[order] one open execution can go on with the new code")
        assert answered(running, arn, callback_id) == {"charged": 5, "answered_by": '"Ada"'}
        (folder / "prices.py").write_text("PRICE = 6\n")
        running.line("orders.py was loaded anew", len(running.lines))
        assert json.load(invoked(running, "orders-handler")["Payload"]) == {"plain": 6}


def test_code_that_does_not_fit_an_open_execution_is_told_at_once_and_can_be_taken_back(folder: Path) -> None:
    with dev(folder, "orders.py") as running:
        arn = invoked(running, "order:$LATEST", {"item": "tea"}, InvocationType="Event", DurableExecutionName="one")[
            "DurableExecutionArn"
        ]
        callback_id = callback_of(running, "one")
        (folder / "orders.py").write_text(ORDERS.replace('name="charge"', 'name="pay"'))
        running.line(
            "[order] one: can't go on with the new code: replay of 'one' diverged at operation 1: "
            "the journal has STEP 'charge', the code asked for STEP 'pay'"
        )
        (folder / "orders.py").write_text(ORDERS)
        running.line("[order] one open execution can go on with the new code")
        assert answered(running, arn, callback_id) == {"charged": 5, "by": '"Ada"'}


def test_code_that_can_not_be_loaded_leaves_the_old_code_running(folder: Path) -> None:
    with dev(folder, "orders.py") as running:
        (folder / "prices.py").write_text("PRICE = = 6\n")
        running.line("can't be imported: SyntaxError: invalid syntax (prices.py, line 1); the code before it runs on")
        assert json.load(invoked(running, "orders-handler")["Payload"]) == {"plain": 5}
        (folder / "prices.py").write_text("PRICE = 7\n")
        running.line("orders.py was loaded anew")
        assert json.load(invoked(running, "orders-handler")["Payload"]) == {"plain": 7}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly_and_what_was_open_goes_on_with_the_next(folder: Path, sent: int) -> None:
    (folder / "pyproject.toml").write_text('[tool.perdure]\napp = "orders.py:order"\n')
    with dev(folder, "--no-reload") as running:
        arn = invoked(running, "order:$LATEST", {"item": "tea"}, InvocationType="Event", DurableExecutionName="one")[
            "DurableExecutionArn"
        ]
        callback_id = callback_of(running, "one")
        assert running.end(sent) == 0
        assert "stopping: what runs is handed back" in running.text
    with dev(folder) as again:
        assert answered(again, arn, callback_id) == {"charged": 5, "by": '"Ada"'}


# --- a template ----------------------------------------------------------------------------------------------------

TEMPLATE = f"""
Parameters:
  Stage: {{Type: String, Default: dev}}
Globals:
  Function: {{Runtime: {PYTHON}, Handler: app.handler, Timeout: 20}}
Resources:
  Table: {{Type: AWS::DynamoDB::Table}}
  PlainFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: plain
      CodeUri: plain/
      AutoPublishAlias: live
      Environment: {{Variables: {{STAGE: !Ref Stage}}}}
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "app.py").write_text(PLAIN)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path


def test_functions_of_a_template_run_from_their_folders_and_are_taken_up_when_they_change(plain: Path) -> None:
    app = plain / "plain" / "app.py"
    with dev(plain, "--parameter-overrides", "Stage=test") as running:
        running.line("left out: Table (AWS::DynamoDB::Table)")
        answer = json.load(invoked(running, "plain:live", {"who": "Ada"})["Payload"])
        assert answer == {"who": "Ada", "stage": "test", "price": 5}
        running.line("[plain] on behalf of Ada")
        app.write_text(PLAIN.replace('"price": 5', '"price": 6'))
        running.line("plain:live leads to version 2")
        assert json.load(invoked(running, "plain:live", {"who": "Ada"})["Payload"])["price"] == 6
        app.write_text(PLAIN.replace('"price": 5', '"price": = 7'))
        running.line("[plain] app.py, line 6: invalid syntax; the code before it runs on")
        assert json.load(invoked(running, "plain:live", {"who": "Ada"})["Payload"])["price"] == 6
        app.write_text(PLAIN.replace('"price": 5', '"price": 8'))
        running.line("plain:live leads to version 3")
        assert json.load(invoked(running, "plain:live", {"who": "Ada"})["Payload"])["price"] == 8
        assert running.end() == 0
    assert re.search(rf"plain +{re.escape(PYTHON)} +arn:\S+:function:plain:live", running.text)


def test_a_template_that_breaks_leaves_what_was_deployed_and_one_that_grows_deploys_more(plain: Path) -> None:
    template = plain / "template.yaml"
    with dev(plain, "template.yaml") as running:
        template.write_text(TEMPLATE.replace("Timeout: 20", "Timeout: soon"))
        running.line("Resources.PlainFunction.Properties.Timeout must be a whole number of seconds from 1 to 5400")
        assert json.load(invoked(running, "plain", {"who": "Ada"})["Payload"])["stage"] == "dev"
        more = "  Second:\n    Type: AWS::Serverless::Function\n    Properties:\n      InlineCode: |\n"
        code = "        def handler(event, context):\n            return 'second'\n"
        template.write_text(TEMPLATE + more + code + "      Handler: index.handler\n")
        running.line("[Second] is new")
        assert json.load(invoked(running, "Second")["Payload"]) == "second"
        template.write_text(TEMPLATE.replace("Default: dev", "Default: prod"))
        running.line("[Second] is not in the template any more; it stays deployed")
        running.line("[plain] is new")
        assert json.load(invoked(running, "plain", {"who": "Ada"})["Payload"])["stage"] == "prod"


def test_the_example_asks_another_function_and_waits_for_somebody(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "sam", tmp_path / "sam")
    with dev(tmp_path / "sam") as running:
        arn = invoked(running, "order:live", {"item": "espresso"}, InvocationType="Event", DurableExecutionName="one")[
            "DurableExecutionArn"
        ]
        result = answered(running, arn, callback_of(running, "one"))
    assert result == {
        "item": "espresso",
        "price": "2.20 EUR",
        "reservation": "reserved espresso",
        "confirmed_by": '"Ada"',
    }


# --- the page about it ---------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "howto" / "dev.md").read_text("utf-8")


def page_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def assert_shown(block: str, running: Dev) -> None:
    """Each line of a block of the page is shown, or will be; `…` stands for anything."""
    for line in filter(None, block.splitlines()):
        running.matching(".*".join(re.escape(part) for part in line.split("…")))


def test_what_the_page_about_it_shows_happens(tmp_path: Path) -> None:
    (program,) = page_blocks("python")
    begins, lives, errs, diverges = page_blocks("text")
    orders = tmp_path / "orders.py"
    orders.write_text(program)
    with dev(tmp_path, "orders.py") as running:
        assert_shown(begins, running)
        arn = invoked(running, "order:$LATEST", {"item": "tea"}, InvocationType="Event", DurableExecutionName="one")[
            "DurableExecutionArn"
        ]
        callback_id = callback_of(running, "one")
        orders.write_text(program.replace('name="price"', 'name="cost"'))
        assert_shown(diverges, running)
        orders.write_text(program)
        running.line("[order] one open execution can go on with the new code")
        assert answered(running, arn, callback_id) == {"item": "tea", "price": 5, "confirmed_by": '"Ada"'}
        assert_shown(lives, running)
    shutil.copytree(ROOT / "examples" / "sam", tmp_path / "sam")
    template = tmp_path / "sam" / "template.yaml"
    template.write_text(template.read_text().replace("Timeout: 30", "Timeout: soon"))
    running = begun(tmp_path / "sam")
    assert running.process.wait(WAIT_S) == 2
    running.end()
    assert errs.strip() in running.lines


# --- what can not be served ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "files", "code", "said"),
    [
        ([], {}, 2, "there is no template.yaml in"),
        (["none.py"], {}, 2, "there is no file none.py"),
        (["none.yaml"], {}, 2, "none.yaml, line 1: it can't be read: No such file or directory"),
        ([], {"template.yaml": "Resources: {T: {Type: AWS::SQS::Queue}}"}, 2, "template.yaml has no functions that"),
        ([], {"template.yaml": "Resources: {F: {Type: AWS::Serverless::Function}}"}, 2, "F.Properties has no Runtime"),
        (
            [],
            {"pyproject.toml": "[tool.perdure]\napp = 3"},
            2,
            "app in [tool.perdure] of pyproject.toml must be a text",
        ),
        ([], {"pyproject.toml": "[tool"}, 2, "pyproject.toml can't be read"),
        (["app.py"], {"app.py": "x = 1"}, 2, "app.py has no functions"),
        (["app.py"], {"app.py": "print('imported'); x ="}, 2, "SyntaxError: invalid syntax"),
        (["app.py", "--parameter-overrides", "A=1"], {"app.py": ""}, 2, "--parameter-overrides is for templates"),
        (["--parameter-overrides", "A"], {}, 2, "write Name=Value, not 'A'"),
    ],
)
def test_what_can_not_be_served_is_one_line_with_a_way_out(
    tmp_path: Path, words: list[str], files: dict[str, str], code: int, said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    running = begun(tmp_path, *words)
    assert running.process.wait(WAIT_S) == code
    running.end()
    assert running.url == "", "nothing is said on stdout"
    errors = [line for line in running.lines if line.startswith("error:")]
    assert said in errors[0]
    assert len(errors) == 1
    assert "Traceback" not in running.text


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "perdure", "dev", "orders.py", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 2
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr


# --- the workshop of AWS -------------------------------------------------------------------------------------------

WORKSHOP = f"""
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {{Runtime: {PYTHON}, Timeout: 30, CodeUri: code/, AutoPublishAlias: live}}
Resources:
  OrderFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: workshop-order
      Handler: certain.lambda_handler
      DurableConfig: {{ExecutionTimeout: 600, RetentionPeriodInDays: 1}}
  ApprovalFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: approval
      Handler: approval.handler
      DurableConfig: {{ExecutionTimeout: 600}}
"""
CERTAIN = """
import random
random.random = lambda: 0.9  # the notification fails in half of all cases, where it is left to chance
from workshop_order import lambda_handler
"""
APPROVAL = """
from aws_durable_execution_sdk_python import durable_execution

@durable_execution
def handler(event, context):
    return {"approved_by": context.create_callback(name="approve").result()}
"""
SDK = "aws_durable_execution_sdk_python"


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """The order function as the workshop has it, with the official SDK beside it, as `pip install -t` puts it there."""
    code = tmp_path / "code"
    spec = importlib.util.find_spec(SDK)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shutil.copytree(spec.submodule_search_locations[0], code / SDK, ignore=shutil.ignore_patterns("__pycache__"))
    seed = (ROOT / "tests" / "seeds" / "workshop_order.py").read_text()
    (code / "workshop_order.py").write_text(seed.replace("from perdure.", f"from {SDK}."))
    (code / "certain.py").write_text(CERTAIN)
    (code / "approval.py").write_text(APPROVAL)
    (tmp_path / "template.yaml").write_text(WORKSHOP)
    return tmp_path


def aws(dev: Dev, folder: Path, *words: str) -> Any:
    """What `aws lambda …` answers."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_LAMBDA": dev.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        [sys.executable, "-m", "awscli", "lambda", *words, "--output", "json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.mark.processes
def test_the_order_function_of_the_workshop_is_invoked_answered_listed_stopped_and_inspected(workshop: Path) -> None:
    with dev(workshop) as running:
        order = aws(
            running, workshop, "invoke", "--function-name", "workshop-order:live", "--payload", "{}", "out.json"
        )
        assert (order["StatusCode"], order["ExecutedVersion"]) == (200, "1")
        result = json.loads((workshop / "out.json").read_text())
        assert (result["success"], result["notification"]["recipient"]) == (True, "customer@example.com")
        running.line("[workshop-order] Function started at")

        history = aws(
            running, workshop, "get-durable-execution-history", "--durable-execution-arn", order["DurableExecutionArn"]
        )
        types = [event["EventType"] for event in history["Events"]]
        assert [kind for kind in types if kind != "InvocationCompleted"] == [
            "ExecutionStarted",
            "StepStarted",
            "StepSucceeded",
            "WaitStarted",
            "WaitSucceeded",
            "StepStarted",
            "StepSucceeded",
            "ExecutionSucceeded",
        ]

        arns: dict[str, str] = {}
        for name in ("answered", "stopped"):
            words = ["--invocation-type", "Event", "--durable-execution-name", name, "--payload", "{}", "out.json"]
            arns[name] = aws(running, workshop, "invoke", "--function-name", "approval:live", *words)[
                "DurableExecutionArn"
            ]
        aws(
            running,
            workshop,
            "send-durable-execution-callback-success",
            *("--callback-id", callback_of(running, "answered"), "--result", '"Ada"'),
        )
        running.line("answered: succeeded")
        callback_of(running, "stopped")
        aws(
            running,
            workshop,
            "stop-durable-execution",
            *("--durable-execution-arn", arns["stopped"], "--error", "ErrorMessage=not needed,ErrorType=Cancelled"),
        )
        found = {
            name: aws(running, workshop, "get-durable-execution", "--durable-execution-arn", arn)
            for name, arn in arns.items()
        }
        assert json.loads(found["answered"]["Result"]) == {"approved_by": '"Ada"'}
        assert (found["stopped"]["Status"], found["stopped"]["Error"]["ErrorMessage"]) == ("STOPPED", "not needed")

        listed = aws(running, workshop, "list-durable-executions-by-function", "--function-name", "approval:live")
        assert {(each["DurableExecutionName"], each["Status"]) for each in listed["DurableExecutions"]} == {
            ("answered", "SUCCEEDED"),
            ("stopped", "STOPPED"),
        }
        functions = aws(running, workshop, "list-functions")["Functions"]
        assert {each["FunctionName"] for each in functions} == {"workshop-order", "approval"}
        assert running.end() == 0
