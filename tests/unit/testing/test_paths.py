"""Paths and globs mean the operations that they say. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from perdure.testing import paths


@dataclass
class Node:
    name: str
    children: list["Node"] = field(default_factory=list)


def selected(roots: Sequence[Node], path: str) -> list[Node]:
    return paths.select(roots, path, name=lambda node: node.name, children=lambda node: node.children)


def leaf(name: str) -> Node:
    return Node(name)


ORDERS = [
    Node("validate"),
    Node("orders", [Node(f"item-{i}", [leaf("charge"), leaf("charge"), leaf("ship")]) for i in range(3)]),
    Node("notify"),
    Node("notify", [leaf("mail")]),
]


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("validate", 1),
        ("notify", 2),
        ("notify[1]", 1),
        ("notify[-1]/mail", 1),
        ("notify[2]", 0),
        ("notify[-3]", 0),
        ("orders/*/charge", 6),
        ("orders/*[2]/charge", 2),
        ("orders/*[2]/charge[1]", 1),
        ("orders/item-?/ship", 3),
        ("orders/*-1/*", 3),
        ("**", 17),
        ("**/charge", 6),
        ("**/charge[0]", 3),
        ("orders/**", 12),
        ("orders/**/ship", 3),
        ("**/**/mail", 1),
        ("charge", 0),
        ("*", 4),
    ],
)
def test_a_path_means_so_many_operations(path: str, count: int) -> None:
    """[T14]"""
    assert len(selected(ORDERS, path)) == count


def test_an_index_counts_those_that_the_name_matches_beneath_one_parent() -> None:
    (second,) = selected(ORDERS, "orders/*[1]")
    assert second.name == "item-1"
    assert [node.name for node in selected(ORDERS, "orders/*/*[2]")] == ["ship", "ship", "ship"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "at least one name"),
        ("a//b", "empty name"),
        ("a/", "empty name"),
        ("a[1]x", "no index at the end"),
        ("a[x]", "no index at the end"),
        ("a\\", "ends in a backslash"),
    ],
)
def test_what_is_no_path_is_refused_with_what_is_wrong(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paths.parse(path)


# --- properties --------------------------------------------------------------------------------------------------

names = st.text(st.sampled_from("ab/[]*?\\0(- "), min_size=1, max_size=5)
trees = st.recursive(
    st.builds(Node, names),
    lambda children: st.builds(Node, names, st.lists(children, max_size=4)),
    max_leaves=12,
)
forests = st.lists(trees, min_size=1, max_size=4)


def with_paths(roots: Sequence[Node], above: str = "") -> list[tuple[str, Node]]:
    """Every node with the path that it is given."""
    found = []
    for node, segment in zip(roots, paths.segments_of([each.name for each in roots]), strict=True):
        found.append((above + segment, node))
        found += with_paths(node.children, f"{above}{segment}/")
    return found


def everything(roots: Sequence[Node]) -> list[Node]:
    return list(paths.walk(roots, lambda node: node.children))


def ids(nodes: Sequence[Node]) -> list[int]:
    return [id(node) for node in nodes]


@given(forests)
def test_the_path_of_an_operation_means_it_and_no_other(roots: list[Node]) -> None:
    for path, node in with_paths(roots):
        assert ids(selected(roots, path)) == ids([node])


@given(forests)
def test_two_stars_mean_everything_in_document_order(roots: list[Node]) -> None:
    assert ids(selected(roots, "**")) == ids(everything(roots)) == ids([node for _, node in with_paths(roots)])


@given(forests, names)
def test_a_name_at_any_depth_means_all_that_bear_it(roots: list[Node], name: str) -> None:
    expected = [node for node in everything(roots) if node.name == name]
    assert ids(selected(roots, f"**/{paths.escape(name)}")) == ids(expected)


@given(forests)
def test_a_star_means_the_children_of_whatever_is_before_it(roots: list[Node]) -> None:
    for path, node in with_paths(roots):
        assert ids(selected(roots, f"{path}/*")) == ids(node.children)


@given(names)
def test_an_escaped_name_is_no_glob_and_means_itself(name: str) -> None:
    assert not paths.is_glob(paths.escape(name))
    assert ids(selected([node := Node(name), Node(name + "x")], paths.escape(name))) == [id(node)]
