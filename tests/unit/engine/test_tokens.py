"""Tokens and callback ids: readable by us, forgeable by nobody."""

import re

import pytest

from perdure.engine import tokens
from perdure.engine.commands import Token
from perdure.model.error import StaleToken

SECRET, KEY = b"s" * 32, b"k" * 16


def test_a_token_says_what_it_was_made_of_in_the_alphabet_of_the_api() -> None:
    text = tokens.mint(SECRET, KEY, Token(3, 70_000))
    assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text)
    assert tokens.read(SECRET, KEY, text) == Token(3, 70_000)


@pytest.mark.parametrize(
    ("secret", "key"), [(b"t" * 32, KEY), (SECRET, b"l" * 16)], ids=["another store's secret", "another execution"]
)
def test_a_token_of_somebody_else_is_stale(secret: bytes, key: bytes) -> None:
    with pytest.raises(StaleToken):
        tokens.read(SECRET, KEY, tokens.mint(secret, key, Token(1, 0)))


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", "é"])
def test_what_is_no_token_is_stale(text: str) -> None:
    with pytest.raises(StaleToken):
        tokens.read(SECRET, KEY, text)


def test_every_changed_character_breaks_the_seal() -> None:
    text = tokens.mint(SECRET, KEY, Token(1, 0))
    for index, letter in enumerate(text):
        changed = text[:index] + ("A" if letter != "A" else "B") + text[index + 1 :]
        with pytest.raises(StaleToken):
            tokens.read(SECRET, KEY, changed)


def test_a_callback_id_tells_its_execution_and_a_foreign_text_tells_nothing() -> None:
    text = tokens.callback_id(KEY, b"n" * 16)
    assert tokens.callback_owner(text) == KEY
    assert [tokens.callback_owner(bad) for bad in ("", "x", "AAAA", text[:-4])] == [None] * 4
