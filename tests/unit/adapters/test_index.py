"""The one door for indexes.

What passes can be written below an empty folder, and everything else is one line.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.adapters.source.index import MAX_FILE, Index, TreeFile, TreeLink
from dct_celery.core.ids import digest_of
from dct_celery.errors import InfrastructureError

_HASH = digest_of(b"")
_PATHS: st.SearchStrategy[object] = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(["a", "b", "..", ".", "", "a" * 300, "\0", "é", "\udcff", "\ud800", "c\n"]),
        max_size=4,
    ).map("/".join),
    st.sampled_from(["/etc/passwd", "a\udcc3\udca9", "aé", "x/" * 3000 + "y", None, 1, []]),
)
_NUMBERS = st.one_of(st.integers(), st.sampled_from([0o644, True, None, 1.5, "1", MAX_FILE + 1]))
_ROWS: st.SearchStrategy[object] = st.one_of(
    st.lists(
        st.tuples(_PATHS, _NUMBERS, _NUMBERS, st.sampled_from([_HASH, "x", None, 1])), max_size=4
    ),
    st.lists(st.tuples(_PATHS, _PATHS), max_size=4),
    st.sampled_from([None, {}, "rows", [1], [[]], [[1, 2]]]),
)


def encoded(files: Any = (), links: Any = (), **more: Any) -> bytes:
    return json.dumps({"version": 1, "files": list(files), "links": list(links), **more}).encode()


def test_an_index_comes_back_as_it_was() -> None:
    # Given names and targets that are no UTF-8, too
    index = Index(
        (TreeFile("a/\udcff.py", 0o600, 0, _HASH), TreeFile("é", 0o755, 0, _HASH)),
        (TreeLink("l", "/x/\udce9"),),
    )
    # When / Then
    assert Index.parse(index.encode()) == index
    assert Index.parse(Index(()).encode()) == Index(())


def test_empty_folders_come_back_and_leave_an_index_without_them_as_it_was() -> None:
    # Given
    index = Index((TreeFile("a/b", 0o644, 0, _HASH),), (), ("a/c", "d"))
    # Then
    assert Index.parse(index.encode()) == index
    assert b"folders" not in Index(()).encode()


@pytest.mark.parametrize(
    "folders",
    ["a", [1], ["../a"], ["a", "a"], ["f"], ["f/g"], ["l"], ["d"], ["a", "a/b"], {"a": 1}],
)
def test_a_folder_that_leads_elsewhere_or_is_none_is_refused(folders: object) -> None:
    # Given: it may not lie below a file or link, nor have anything in it
    files, links = [["f", 420, 0, _HASH], ["d/x", 420, 0, _HASH]], [["l", "d"]]
    # Then
    assert refused(encoded(files, links, folders=folders))


def test_the_order_of_files_makes_no_difference() -> None:
    one, two = TreeFile("a", 0o644, 0, _HASH), TreeFile("b", 0o644, 0, _HASH)
    assert Index((one, two)).digest == Index((two, one)).digest


def refused(content: bytes) -> str:
    with pytest.raises(InfrastructureError) as caught:
        Index.parse(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../evil",
        "a/../../evil",
        "a/..",
        ".",
        "a//b",
        "a/",
        "./a",
        "a\0b",
        "\ud800",
        "a\udcc3\udca9",
        "x" * 256,
        "a/" + "é" * 128,
        "x/" * 2000 + "y",
        None,
        1,
        ["a"],
    ],
)
def test_a_path_that_leads_outside_or_has_a_second_spelling_is_refused(path: Any) -> None:
    refused(encoded([[path, 0o644, 0, _HASH]]))
    refused(encoded(links=[[path, "target"]]))


def test_nothing_lies_below_a_link_or_file_and_nothing_twice() -> None:
    file = [0o644, 0, _HASH]
    assert "below" in refused(encoded([["a/b", *file]], [["a", "/tmp"]]))
    assert "below" in refused(encoded([["a/b/c", *file], ["a", *file]]))
    assert "below" in refused(encoded([], [["a", "/tmp"], ["a/b/c", "x"]]))
    assert "twice" in refused(encoded([["a", *file], ["a", *file]]))
    assert "twice" in refused(encoded([["a", *file]], [["a", "/tmp"]]))


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o4755, True, None, "644", 1.0])
def test_a_mode_is_permission_bits(mode: Any) -> None:
    assert "mode" in refused(encoded([["a", mode, 0, _HASH]]))


@pytest.mark.parametrize("size", [-1, MAX_FILE + 1, 10**30, True, None, "1"])
def test_a_size_is_bounded(size: Any) -> None:
    assert "size" in refused(encoded([["a", 0o644, size, _HASH]]))


@pytest.mark.parametrize(
    "digest", ["", "0" * 39, "0" * 41, "G" * 40, "../" + "0" * 37, "0" * 40 + "\n", None, 0]
)
def test_a_hash_is_a_hash(digest: Any) -> None:
    refused(encoded([["a", 0o644, 0, digest]]))


def test_one_content_has_one_size() -> None:
    assert "two sizes" in refused(encoded([["a", 0o644, 0, _HASH], ["b", 0o644, 1, _HASH]]))


@pytest.mark.parametrize("target", ["", "a\0", "x" * 5000, None, 7])
def test_a_target_is_one_that_a_link_can_have(target: Any) -> None:
    refused(encoded(links=[["a", target]]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"version":2,"files":[],"links":[]}',
        b'{"version":1,"files":[]}',
        b'{"version":1,"files":{},"links":[]}',
        encoded([["a", 0o644, 0]]),
        encoded(more=1),
        b'{"version":' + b"9" * 5000 + b"}",
    ],
)
def test_another_form_is_refused(content: bytes) -> None:
    refused(content)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_index_or_our_error(content: bytes) -> None:
    with contextlib.suppress(InfrastructureError):
        Index.parse(content)


@given(files=_ROWS, links=_ROWS)
def test_what_passes_stays_inside(files: Any, links: Any) -> None:
    try:
        content = json.dumps({"version": 1, "files": files, "links": links}).encode()
        index = Index.parse(content)
    except InfrastructureError:
        return
    for path in index.paths:
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\0" not in path
        assert not any(path.startswith(f"{other}/") for other in index.paths)
    assert len({path.encode("utf-8", "surrogateescape") for path in index.paths}) == len(
        index.paths
    )
