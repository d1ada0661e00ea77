"""The pytest plugin: runners as fixtures, where they run, what is asked of every test, and what a failure shows.

It is loaded with every run of pytest, and loads nothing of the test kit before a test asks for it.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from perdure.testing.clock import VirtualClock
    from perdure.testing.made import Made, Wishes
    from perdure.testing.modes import Choice
    from perdure.testing.server import ServerRunner

SECTION: Final = "durable execution"
MARK: Final = (
    "durable(handler=None, input=None, **options): what perdure_runner() makes a runner of; options are those of "
    "LocalRunner: skip_time, wall_timeout, ..."
)
MODES: Final = ("local", "server", "remote")

MADE: Final["pytest.StashKey[Made]"] = pytest.StashKey()
WISHES: Final["pytest.StashKey[Wishes]"] = pytest.StashKey()
BEFORE: Final["pytest.StashKey[Choice]"] = pytest.StashKey()
ASKED: Final = pytest.StashKey[bool]()


# --- options ------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("perdure", "durable functions")
    add = group.addoption
    add(
        "--perdure-mode",
        choices=MODES,
        default="local",
        help="where perdure_runner runs functions: in this process, at a server in it, or where they are deployed",
    )
    add("--perdure-endpoint", metavar="URL", help="the server of --perdure-mode remote  [PERDURE_ENDPOINT, or AWS]")
    add(
        "--perdure-function-map",
        metavar="FILE",
        help="JSON or TOML: the names that handlers go by there, by their own names",
    )
    add("--perdure-real-time", action="store_true", help="skip no time: what waits, waits")
    add("--perdure-seed", type=int, metavar="N", help="the seed of everything random in runners")
    add(
        "--perdure-crash-everywhere",
        action="store_true",
        help="run each execution of a test again with a crash at every point, and compare",
    )
    add("--perdure-replay", metavar="DIR", help="check that the tested code can go on with the histories in DIR")
    add("--perdure-save-history", metavar="DIR", help="keep the histories of all executions in DIR")
    add("--perdure-update", action="store_true", help="write snapshots anew instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
    option = config.option
    config.stash[ASKED] = any(
        (
            option.perdure_mode != "local",
            option.perdure_endpoint,
            option.perdure_function_map,
            option.perdure_real_time,
            option.perdure_seed is not None,
            option.perdure_crash_everywhere,
            option.perdure_replay,
            option.perdure_save_history,
            option.perdure_update,
        )
    )
    if config.stash[ASKED]:
        _choose(config)


def _choose(config: pytest.Config) -> None:
    """Something is asked for: have runners made like that."""
    from perdure.testing import snapshots
    from perdure.testing.made import Wishes
    from perdure.testing.modes import Choice, Mode, choose, read_functions

    option = config.option
    functions: dict[str, str] = {}
    if option.perdure_function_map:
        try:
            functions = read_functions(Path(option.perdure_function_map))
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--perdure-function-map can't be read: {error}") from None
    if option.perdure_replay and not Path(option.perdure_replay).is_dir():
        raise pytest.UsageError(f"--perdure-replay: there is no folder {option.perdure_replay}")
    config.stash[BEFORE] = choose(
        Choice(
            mode=Mode(option.perdure_mode),
            endpoint=option.perdure_endpoint,
            functions=functions,
            is_real_time=option.perdure_real_time,
            seed=option.perdure_seed,
        )
    )
    if option.perdure_crash_everywhere and option.perdure_mode != "local":
        raise pytest.UsageError("--perdure-crash-everywhere is for --perdure-mode local: nothing else crashes at will")
    config.stash[WISHES] = Wishes(
        crashes=option.perdure_crash_everywhere,
        histories=Path(option.perdure_replay) if option.perdure_replay else None,
        save=Path(option.perdure_save_history) if option.perdure_save_history else None,
    )
    snapshots.is_updating = option.perdure_update


def pytest_unconfigure(config: pytest.Config) -> None:
    before = config.stash.get(BEFORE, None)
    if before is not None:
        from perdure.testing import snapshots
        from perdure.testing.modes import choose

        choose(before)
        snapshots.is_updating = False


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.stash.get(ASKED, False):
        return None
    option = config.option
    parts = [f"mode {option.perdure_mode}"]
    if option.perdure_mode == "remote":
        parts.append(f"endpoint {option.perdure_endpoint or 'of the environment'}")
    if option.perdure_real_time:
        parts.append("real time")
    if option.perdure_seed is not None:
        parts.append(f"seed {option.perdure_seed}")
    if option.perdure_crash_everywhere:
        parts.append("crashes everywhere")
    return f"perdure: {', '.join(parts)}"


# --- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def perdure_runner(request: pytest.FixtureRequest) -> "Iterator[Made]":
    """Makes runners: `perdure_runner(handler, **options)`. They are closed at the end of the test."""
    from perdure.testing.made import Made, Wishes

    mark = request.node.get_closest_marker("durable")
    defaults = dict(mark.kwargs) if mark is not None else {}
    if mark is not None and mark.args:
        defaults.setdefault("handler", mark.args[0])
    made = Made(request.node.nodeid, defaults, request.config.stash.get(WISHES, None) or Wishes())
    request.node.stash[MADE] = made
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def perdure_clock(perdure_runner: "Made", request: pytest.FixtureRequest) -> "VirtualClock":
    """The clock of the runners that the test makes, to be moved by hand."""
    from perdure.testing.clock import VirtualClock

    clock = VirtualClock(is_real=request.config.option.perdure_real_time)
    perdure_runner.use_clock(clock)
    return clock


@pytest.fixture
def perdure_server() -> "Iterator[ServerRunner]":
    """A server of the test's own, on a free port, without functions: `register_durable_function` adds one."""
    from perdure.testing.server import ServerRunner

    with ServerRunner({}) as server:
        yield server


@pytest.fixture(scope="session")
def perdure_server_session() -> "Iterator[ServerRunner]":
    """The same for all tests of a process."""
    from perdure.testing.server import ServerRunner

    with ServerRunner({}) as server:
        yield server


# --- what comes of a test -----------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that has passed is asked for more, if that is wished."""
    result = yield
    made = item.stash.get(MADE, None)
    if made is not None:
        made.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the executions of the test came to."""
    report = yield
    if report.failed and report.when == "call":
        made = item.stash.get(MADE, None)
        if made is not None and made.runners:
            report.sections.append((SECTION, _told(made)))
    return report


def _told(made: "Made") -> str:
    try:
        return made.report() or "no execution was begun"
    except Exception as error:  # noqa: BLE001 - the test's own failure must be told in any case
        return f"what the executions came to can't be told: {type(error).__name__}: {error}"
