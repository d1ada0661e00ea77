"""Which plugins a durable function has, by its decorator and by the environment."""

from pathlib import Path
from typing import Any

import pytest

from perdure import PluginLoadError, durable_execution
from perdure.execution import definition_of
from perdure.plugin import DurableInstrumentationPlugin
from perdure.plugin_discovery import load_configured_plugins
from support.local import Local

MODULE = """
from perdure.plugin import DurableInstrumentationPlugin
class Plugin(DurableInstrumentationPlugin):
    def on_invocation_start(self, info):
        started.append("offered")
class Factory:
    def create_plugin(self, info):
        return Plugin()
class Exclusive(Factory):
    __durable_registration_api__ = 1
    exclusive_group = "g"
    def on_registration_result(self, registered):
        results.append(registered)
class NoArgument:
    def create_plugin(self):
        return Plugin()
def function(info):
    return Plugin()
started, results = [], []
factory, exclusive, no_argument, plugin = Factory(), Exclusive(), NoArgument(), Plugin()
"""
GROUP = """
factory = offers_plugins:factory
exclusive = offers_plugins:exclusive
class = offers_plugins:Factory
plugin = offers_plugins:plugin
function = offers_plugins:function
no-argument = offers_plugins:no_argument
missing = offers_plugins:missing
twice = offers_plugins:factory
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that offers plugins, in both groups; and another one that offers one of the same name."""
    (tmp_path / "offers_plugins.py").write_text(MODULE, "utf-8")
    groups = f"[aws_durable_execution.plugins]{GROUP}[perdure.plugins]{GROUP}"
    for name, entries in {"offers": groups, "also": "[perdure.plugins]\ntwice = offers_plugins:factory\n"}.items():
        home = tmp_path / f"{name}-1.0.dist-info"
        home.mkdir()
        (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
        (home / "entry_points.txt").write_text(entries, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "offers_plugins", raising=False)
    return __import__("offers_plugins")


def loaded(explicit: Any = None, **environment: str) -> list[str]:
    return [type(factory).__name__ for factory in load_configured_plugins(explicit, environment=environment)]


def test_the_environment_names_plugins_in_their_order(installed: Any) -> None:
    assert loaded() == []
    assert loaded(PERDURE_PLUGINS=" ") == []
    assert loaded(DURABLE_EXECUTION_PLUGINS="factory, exclusive") == ["Factory", "Exclusive"]
    assert loaded(PERDURE_PLUGINS="exclusive , factory") == ["Exclusive", "Factory"]
    both = loaded([installed.factory], DURABLE_EXECUTION_PLUGINS="exclusive", PERDURE_PLUGINS="factory")
    assert both == ["Factory", "Exclusive", "Factory"], "those of the decorator come first"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("factory,", "must be names of plugins, separated by commas, not 'factory,'"),
        ("factory,factory", "names the plugin 'factory' more than once"),
        ("unknown", "no installed package offers in the entry-point group 'perdure.plugins' .installed: class, excl"),
        ("twice", "several packages offer a plugin 'twice' in 'perdure.plugins': also, offers"),
        ("missing", "the plugin 'missing' could not be loaded from 'offers_plugins:missing'"),
        ("class", r"the entry point 'class' .* must be a plugin factory, .* give an instance of it"),
        ("plugin", "must be a plugin factory"),
        ("function", "it is the function offers_plugins.function"),
        ("no-argument", "must be a plugin factory"),
    ],
)
def test_a_name_in_the_environment_that_gives_no_factory_is_refused(names: str, message: str) -> None:
    with pytest.raises(PluginLoadError, match=message):
        loaded(PERDURE_PLUGINS=names)


@pytest.mark.parametrize("wrong", ["text", None, 3, lambda info: DurableInstrumentationPlugin(), object()])
def test_what_is_no_plugin_is_refused_where_the_function_is_decorated(wrong: Any, installed: Any) -> None:
    with pytest.raises(PluginLoadError, match=r"plugins\[1\] must be a plugin factory"):
        durable_execution(plugins=[installed.factory, wrong])(lambda event, context: None)


def test_a_factory_s_class_is_refused_one_with_a_class_method_is_not(installed: Any) -> None:
    class Whole:
        @classmethod
        def create_plugin(cls, info: Any) -> Any:
            return installed.Plugin()

    with pytest.raises(PluginLoadError, match=r"the class offers_plugins.Factory: give an instance of it"):
        loaded([installed.Factory])
    assert load_configured_plugins([Whole], environment={}) == [Whole]


def test_of_a_group_there_is_only_one(installed: Any) -> None:
    with pytest.raises(PluginLoadError, match=r"exclude each other .group 'g'"):
        loaded([installed.exclusive], PERDURE_PLUGINS="exclusive")
    with pytest.raises(PluginLoadError, match=r"Derived and offers_plugins.Exclusive exclude each other"):

        class Derived(installed.Exclusive):
            exclusive_group = None

        loaded([Derived(), installed.Exclusive()])
    assert loaded([installed.factory, installed.factory]) == ["Factory", "Factory"]

    class OtherApi:
        __durable_registration_api__ = 2
        exclusive_group = "g"

        def create_plugin(self, info: Any) -> Any:
            return installed.Plugin()

    assert loaded([OtherApi(), installed.exclusive]) == ["OtherApi", "Exclusive"]


def test_factories_hear_whether_they_were_registered(installed: Any, caplog: pytest.LogCaptureFixture) -> None:
    loaded([installed.exclusive])
    assert installed.results == [True]
    with pytest.raises(PluginLoadError):
        loaded([installed.exclusive], PERDURE_PLUGINS="unknown")
    assert installed.results == [True, False]
    with pytest.raises(PluginLoadError):
        loaded([installed.exclusive, installed.exclusive])
    assert installed.results == [True, False, False], "each object hears it once"

    class Failing(installed.Exclusive):
        def on_registration_result(self, registered: bool) -> None:
            raise ValueError

    assert loaded([Failing()]) == ["Failing"]
    assert "on_registration_result" in caplog.text


def test_a_function_has_the_plugins_of_the_environment_in_which_it_is_decorated(
    installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_PLUGINS", "factory")

    @durable_execution(name="x")
    def handler(event: Any, context: Any) -> int:
        return 1

    definition = definition_of(handler)
    assert definition is not None
    assert list(definition.plugins) == [installed.factory]
    assert Local(handler).run().result == 1
    assert installed.started == ["offered"]
