"""Payloads in files: the official names and envelopes, but nothing half written and nothing outside the folder."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from aws_durable_execution_sdk_python import filesystem_serdes as official
from aws_durable_execution_sdk_python.serdes import SerDesContext as OfficialContext
from hypothesis import given, settings, strategies as st

from perdure.exceptions import RetryableSerDesError, SerDesError, ValidationError
from perdure.filesystem_serdes import (
    FileSystemPathEncoding,
    FileSystemSerDes,
    FileSystemSerDesConfig,
    FileSystemSerDesMode,
)
from perdure.preview import PreviewConfig, PreviewField, PreviewMode, build_preview
from perdure.serdes import JsonSerDes, SerDes, SerDesContext, deserialize, serialize

ARN = "arn:aws:lambda:us-east-1:123456789012:function:my-fn:$LATEST/durable-execution/order 7/inv-1"
CONTEXT = SerDesContext("op", ARN)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_theirs(base: Path, value: Any, arn: str, operation: str, **config: Any) -> tuple[str, dict[str, bytes]]:
    theirs = official.FileSystemSerDes(str(base), official.FileSystemSerDesConfig(**config))
    return theirs.serialize(value, OfficialContext(operation, arn)), files(base)


SHAPES = [
    ARN,
    "arn:aws-cn:lambda:r:1:function:f n+é:1/durable-execution/e e/i.i~",
    "arn:aws:lambda:r:1:function:fn/durable-execution/e/i",
    "arn:aws:lambda:r:1:function:fn:a:b/durable-execution/e/i",
    "arn:aws:lambda:r:1:function:fn:1/durable-execution//i",
    "arn:aws:lambda:r:1:function:fn:1/durable-execution/e/i/x",
    "odd",
    "",
    "a/b/../c",
]


@pytest.mark.parametrize("encoding", list(FileSystemPathEncoding))
@pytest.mark.parametrize(
    ("arn", "operation"), [*((arn, "op") for arn in SHAPES), *((ARN, o) for o in ("a/b", "..", "é*"))]
)
def test_files_and_envelopes_are_those_of_the_official_sdk(
    tmp_path_factory: pytest.TempPathFactory, encoding: FileSystemPathEncoding, arn: str, operation: str
) -> None:
    base, their_base = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    value = {"a": [1, "é"]}
    ours = FileSystemSerDes(base, FileSystemSerDesConfig(path_encoding=encoding))
    text = ours.serialize(value, SerDesContext(operation, arn))
    expected = with_theirs(their_base, value, arn, operation, path_encoding=official.FileSystemPathEncoding(encoding))
    assert (text.replace(str(base), str(their_base)), files(base)) == expected
    assert ours.deserialize(text, SerDesContext(operation, arn)) == value


@pytest.mark.parametrize("length", [261_104, 261_105])
def test_a_value_is_in_a_file_from_the_same_size_on(tmp_path: Path, length: int) -> None:
    ours = FileSystemSerDes(tmp_path / "a", FileSystemSerDesConfig(storage_mode=FileSystemSerDesMode.OVERFLOW))
    text = ours.serialize("x" * length, CONTEXT)
    mode = official.FileSystemSerDesMode.OVERFLOW
    theirs, _ = with_theirs(tmp_path / "b", "x" * length, ARN, "op", storage_mode=mode)
    assert text == theirs.replace(str(tmp_path / "b"), str(tmp_path / "a"))
    assert ("file" in json.loads(text)) == (length == 261_105)
    assert ours.deserialize(text, CONTEXT) == "x" * length


def test_the_envelope_shows_a_preview(tmp_path: Path) -> None:
    config = FileSystemSerDesConfig(
        generate_preview=lambda value: build_preview(
            value, PreviewConfig(PreviewMode.EXCLUDE_ALL, [PreviewField("id")], mask=[PreviewField("card")])
        )
    )
    serdes = FileSystemSerDes(tmp_path, config)
    envelope = json.loads(serdes.serialize({"id": 7, "card": {"number": "4111"}, "rest": "x"}, CONTEXT))
    assert envelope == {
        "file": str(tmp_path / "my-fn" / "order 7" / "inv-1" / "op.json"),
        "preview": {"id": 7, "card": "***"},
    }
    assert set(json.loads(serdes.serialize({"rest": 1}, CONTEXT))) == {"file"}


def test_another_serdes_may_write_what_the_file_holds(tmp_path: Path) -> None:
    serdes = FileSystemSerDes(str(tmp_path), FileSystemSerDesConfig(serdes=JsonSerDes()))
    text = serdes.serialize({"a": 1}, CONTEXT)
    assert list(files(tmp_path).values()) == [b'{"a": 1}']
    assert serdes.deserialize(text, CONTEXT) == {"a": 1}


class ByAnyOtherName(SerDes[Any]):
    def serialize(self, value: Any, serdes_context: SerDesContext) -> Any:
        return None

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        return data


def test_a_serdes_that_writes_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SerDesError, match="ByAnyOtherName wrote None; a file needs a text"):
        FileSystemSerDes(tmp_path, FileSystemSerDesConfig(serdes=ByAnyOtherName())).serialize(1, CONTEXT)


# --- nothing outside, nothing by halves --------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.sampled_from(["..", ".", "a", "a\0b", "...", "%2e%2e", "~"]), min_size=3, max_size=3),
    operation=st.sampled_from(["..", ".", "../x", "/etc/x", "a/../../../b", "\0", "op"]),
    shape=st.sampled_from(["arn:aws:lambda:r:1:function:{}:1/durable-execution/{}/{}", "{}/{}/{}", "{}"]),
    encoding=st.sampled_from(list(FileSystemPathEncoding)),
)
def test_no_arn_and_no_operation_leads_out_of_the_folder(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[str],
    operation: str,
    shape: str,
    encoding: FileSystemPathEncoding,
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    base = outer / "a" / "b" / "c" / "d"
    base.mkdir(parents=True)
    context = SerDesContext(operation, shape.format(*parts))
    serdes = FileSystemSerDes(base, FileSystemSerDesConfig(path_encoding=encoding))
    text = serdes.serialize({"a": 1}, context)
    assert serdes.deserialize(text, context) == {"a": 1}
    assert len(files(outer)) == len(files(base)) == 1


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside.json", "{base}/../outside.json", "{base}-2/x", 5, None])
def test_a_payload_can_not_have_another_file_read(tmp_path: Path, path: Any) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "outside.json").write_text("1")
    (base / "link").symlink_to(tmp_path / "outside.json")
    serdes = FileSystemSerDes(base)
    for found in (path.format(base=base) if isinstance(path, str) else path, str(base / "link")):
        with pytest.raises(SerDesError, match="which is not below"):
            serdes.deserialize(json.dumps({"file": found}), CONTEXT)


def test_a_file_is_written_under_another_name_synced_and_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal refers to is on disk, with the folders that lead to it."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(handle: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def seen_replace(self: Path, target: Any) -> Path:
        calls.append(f"rename {self.suffix} to {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    FileSystemSerDes(tmp_path).serialize(1, CONTEXT)
    assert calls == ["sync folder"] * 3 + ["sync file", "rename .tmp to op.json", "sync folder"]


def test_what_fails_half_way_leaves_the_former_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serdes = FileSystemSerDes(tmp_path)
    text = serdes.serialize("first", CONTEXT)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RetryableSerDesError, match=r"op\.json can't be written: No space left"):
            serdes.serialize("second", CONTEXT)
    assert len(files(tmp_path)) == 1
    assert serdes.deserialize(text, CONTEXT) == "first"


# --- what fails --------------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_and_what_will_not_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[34]"""
    serdes = FileSystemSerDes(tmp_path)
    text = serdes.serialize(1, CONTEXT)
    for number, kind in (
        (errno.ESTALE, RetryableSerDesError),
        (errno.EIO, RetryableSerDesError),
        (errno.EACCES, SerDesError),
    ):

        def refuse(_: Path, number: int = number) -> bytes:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", refuse)
            with pytest.raises(kind, match="can't be read"):
                deserialize(serdes, text, "op", ARN)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    serdes = FileSystemSerDes(tmp_path)
    text = serdes.serialize(1, CONTEXT)
    (tmp_path / "my-fn" / "order 7" / "inv-1" / "op.json").unlink()
    with pytest.raises(SerDesError, match=r"the file .*op\.json can't be read: No such file"):
        serdes.deserialize(text, CONTEXT)


def test_a_name_too_long_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SerDesError, match=r"path_encoding=FileSystemPathEncoding\.HASH"):
        FileSystemSerDes(tmp_path).serialize(1, SerDesContext("x" * 300, ARN))


@pytest.mark.parametrize("text", ["nope", "[]", "5", "null", "{}", '{"t":"m","v":{}}', '{"data":5}'])
def test_what_is_no_envelope_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SerDesError):
        deserialize(FileSystemSerDes(tmp_path), text, "op", ARN)


def test_options_may_be_given_by_their_words(tmp_path: Path) -> None:
    config = FileSystemSerDesConfig(storage_mode="OVERFLOW", path_encoding="HASH")  # type: ignore[arg-type]
    assert config == FileSystemSerDesConfig(FileSystemSerDesMode.OVERFLOW, FileSystemPathEncoding.HASH)
    with pytest.raises(ValidationError, match="storage_mode must be one of ALWAYS, OVERFLOW, not 'SOMETIMES'"):
        FileSystemSerDesConfig(storage_mode="SOMETIMES")  # type: ignore[arg-type]


def test_both_sdks_read_what_the_other_has_written(tmp_path: Path) -> None:
    ours, theirs = FileSystemSerDes(tmp_path), official.FileSystemSerDes(str(tmp_path))
    value = {"a": (1, b"x")}
    assert theirs.deserialize(serialize(ours, value, "op", ARN), OfficialContext("op", ARN)) == value
    assert deserialize(ours, theirs.serialize(value, OfficialContext("op", ARN)), "op", ARN) == value
