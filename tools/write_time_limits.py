"""Write the one table of the test kit's time limits from the signatures: docs/reference/test-runners.md.

python tools/write_time_limits.py           print the table
python tools/write_time_limits.py --write   put it into the page
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import perdure.testing

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "test-runners.md"
WHERE = (
    "LocalRunner",
    "ServerRunner",
    "RemoteRunner",
    "DurableFunctionTestRunner",
    "DurableFunctionCloudTestRunner",
    "WebRunnerConfig",
)
CALLS = ("", "run", "register_durable_function", "wait_for_result", "wait_for_callback", "pause_execution")
NONE = {
    ("", "execution_timeout"): "a year",
    ("", "invocation_timeout"): "900 s",
    ("run", "execution_timeout"): "the runner's",
    ("run", "wall_timeout"): "the runner's",
    ("run", "timeout"): "the old name of `execution_timeout`",
}
REAL = {"wall_timeout", "timeout", "poll_interval"}
"""Real seconds; everything else is modelled time where time is skipped."""
WITHOUT_EFFECT = {("DurableFunctionTestRunner", "poll_interval")}
BEGIN, END = "<!-- time limits: tools/write_time_limits.py -->\n", "<!-- end -->\n"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Where it is given, its name, without it, and what kind of time it is."""
    seen: set[tuple[str, str]] = set()
    for name in WHERE:
        kind = getattr(perdure.testing, name)
        for call in CALLS:
            function = getattr(kind, call, None) if call else kind
            if function is None:
                continue
            for parameter in inspect.signature(function).parameters.values():
                if (
                    not re.search(r"time_?out|poll_interval", parameter.name)
                    or (name, parameter.name) in WITHOUT_EFFECT
                ):
                    continue
                own = call in ("", "run") or (call, parameter.name) not in seen
                seen.add((call, parameter.name))
                if own:
                    where = f"`{name}`" if not call else f"`{name}.{call}`" if call == "run" else f"any `{call}`"
                    yield where, f"`{parameter.name}`", _shown(call, parameter), _time(name, call, parameter)


def _shown(call: str, parameter: inspect.Parameter) -> str:
    if parameter.default is None:
        return NONE[call, parameter.name]
    return f"{parameter.default:g} s"


def _time(name: str, call: str, parameter: inspect.Parameter) -> str:
    is_old_name = call == "run" and parameter.name == "timeout" and parameter.default is None
    is_real = (parameter.name in REAL and not is_old_name) or "Cloud" in name or name.startswith("Remote")
    return "real" if is_real else "modelled"


def table() -> str:
    """The table, as Markdown."""
    lines = ["| given to | parameter | without it | time |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    return BEGIN + "\n".join(lines) + "\n" + END


def main() -> None:
    if "--write" not in sys.argv:
        print(table())
        return
    page = PAGE.read_text("utf-8")
    begin, end = page.index(BEGIN), page.index(END) + len(END)
    PAGE.write_text(page[:begin] + table() + page[end:], "utf-8")


if __name__ == "__main__":
    main()
