"""Template files as trees: YAML with short tags, JSON, lines, and what is too much."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from perdure.sam.document import DEPTH_MAX, Fields, Items, Scalar, read
from perdure.sam.trouble import TemplateError
from perdure.sam.values import plain


def tree(text: str) -> Any:
    return plain(read(text, "template.yaml"))


def refused(text: str) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        read(text, "template.yaml")
    return caught.value


def test_a_short_tag_is_the_function_that_it_stands_for() -> None:
    found = tree(
        """
        a: !Ref Name
        b: !GetAtt Order.Arn
        c: !Sub ["${x}", {x: !Ref Y}]
        d: !If [IsProd, 1, !Ref "AWS::NoValue"]
        e: !Not [!Condition IsProd]
        f: !Base64 on
        """
    )
    assert found == {
        "a": {"Ref": "Name"},
        "b": {"Fn::GetAtt": ["Order", "Arn"]},
        "c": {"Fn::Sub": ["${x}", {"x": {"Ref": "Y"}}]},
        "d": {"Fn::If": ["IsProd", 1, {"Ref": "AWS::NoValue"}]},
        "e": {"Fn::Not": [{"Condition": "IsProd"}]},
        "f": {"Fn::Base64": "on"},
    }


def test_an_account_number_a_date_and_a_version_stay_as_they_are_written() -> None:
    fields = read("{a: 012345678901, b: 2010-09-09, c: 1.10, d: '7', e: yes, f: 12:30:45, g: }", "t").fields
    texts = {name: node.text for name, node in fields.items() if isinstance(node, Scalar)}
    assert texts == {
        "a": "012345678901",
        "b": "2010-09-09",
        "c": "1.10",
        "d": "7",
        "e": "true",
        "f": "12:30:45",
        "g": "",
    }
    values = [node.value for node in fields.values() if isinstance(node, Scalar)]
    assert values == ["012345678901", "2010-09-09", 1.1, "7", True, "12:30:45", None]


def test_a_value_has_the_line_of_its_key() -> None:
    root = read("a:\n\n  b: 1\nc:\n  - x\n  - y\n", "t")
    assert isinstance(inner := root.fields["a"], Fields)
    assert isinstance(listed := root.fields["c"], Items)
    assert [inner.line, inner.fields["b"].line, listed.line, listed.items[1].line] == [1, 3, 4, 6]


def test_aliases_and_merge_keys_repeat_what_they_name() -> None:
    assert tree("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}\nf: {<<: [*x, {g: 4, b: 5}]}") == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 1, "c": 3},
        "f": {"b": 1, "c": 2, "g": 4},
    }


def test_a_billion_laughs_are_refused_before_they_are_laughed() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    error = refused("\n".join(lines))
    assert "more than 100000 values, aliases followed" in error.message


def test_depth_is_bounded_with_and_without_aliases() -> None:
    assert "nested more than 64 levels deep" in refused("a: " + "[" * 100_000).message
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, DEPTH_MAX + 2)]
    assert "nested more than 64 levels deep" in refused("\n".join(lines)).message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [*x]", "line 1: the alias *x names nothing"),
        ("a: 1\nb: *y", "line 2: the alias *y names nothing"),
        ("a: 1\na: 2", "line 2: the key 'a' stands twice"),
        ("a: !Reff b", "line 1: the tag !Reff is none of CloudFormation's"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("- 1", "line 1: a template is a mapping"),
        ("", "line 1: a template is a mapping"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins"),
        ("a: 1\n  b: 2", "line 2: this is no YAML: mapping values are not allowed"),
        ('a: "b', "this is no YAML"),
        ("a: \0", "this is no YAML"),
        ("[a]: 1", "a key must be a text"),
        ("<<: 3", "'<<' takes a mapping"),
        ("x: " + "y" * 1_048_576, "at most 1048576 bytes"),
    ],
)
def test_what_is_no_template_is_refused_with_its_line(text: str, said: str) -> None:
    error = refused(text)
    assert said in error.message
    assert error.message.startswith("template.yaml, line ")


def test_json_may_have_tabs_and_characters_beyond_the_first_plane() -> None:
    assert tree('{\n\t"a": "\\ud83d\\ude00 \\\\ud83d \\/",\n\t"b":[1,true,null]}') == {
        "a": "\N{GRINNING FACE} \\ud83d /",
        "b": [1, True, None],
    }


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff\u2028\u2029\x85"))
keys = texts.filter(lambda key: key != "<<" and len(json.dumps(key)) < 1000)  # YAML's keys end at 1,024 characters
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(keys, values, max_size=4), st.booleans(), st.booleans())
def test_json_is_read_as_json_is(document: dict[str, Any], is_ascii: bool, is_indented: bool) -> None:
    text = json.dumps(document, ensure_ascii=is_ascii, indent="\t" if is_indented else None)
    assert tree(text) == document


PIECES = [
    "a: ",
    "- ",
    "\n",
    "  ",
    "!Sub ",
    "!Ref x",
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    "<<: ",
    "'",
    '"',
    "|\n",
    "? ",
    "\t",
    "#",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_whatever_a_file_holds_it_is_a_tree_or_an_error_with_a_line(text: str) -> None:
    with contextlib.suppress(TemplateError):
        read(text, "template.yaml")
