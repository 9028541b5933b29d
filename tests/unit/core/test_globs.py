"""Globs mean what they mean in .gitignore."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.globs import PATTERN, Globs, escaped


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.mo", "locale/de/django.mo"), ("*.mo", "django.mo"),
        ("_version.py", "src/pkg/_version.py"), ("media", "media/a/b.jpg"),
        ("media/", "shop/media/a.jpg"), ("/build", "build/x"), ("docs/conf.py", "docs/conf.py"),
        ("app/**/data", "app/data/x"), ("app/**/data", "app/a/b/data"), ("**/x.py", "x.py"),
        ("media/**", "media/a/b"), ("a?c", "abc"), ("[a-c]x", "bx"), ("[!a]x", "bx"),
        (r"\*.py", "*.py"), ("[x", "[x"), ("./docs/a", "docs/a"), ("a[--]b", "a-b"),
        ("**", "anything/at/all"),
    ],
)  # fmt: skip
def test_a_pattern_matches(pattern: str, path: str) -> None:
    assert Globs([pattern]).match(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.mo", "django.mo.txt"), ("/build", "sub/build/x"), ("docs/conf.py", "a/docs/conf.py"),
        ("media/", "media"), ("a*c", "a/c"), ("a?c", "a/c"), ("a[!b]c", "a/c"),
        ("media", "multimedia/x"), ("app/**/data", "app/database"), ("media/**", "media"),
        ("*.MO", "a.mo"), ("[z-a]", "b"),
    ],
)  # fmt: skip
def test_a_pattern_does_not_match(pattern: str, path: str) -> None:
    assert not Globs([pattern]).match(path)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_pattern_that_is_accepted_is_an_error(pattern: str, path: str) -> None:
    if re.fullmatch(PATTERN, pattern):
        Globs([pattern]).match(path)


@pytest.mark.parametrize(
    "pattern", ["", "/", "!keep", "# note", "../up", "a/../b", "a/..", "..", "a\nb"]
)
def test_a_pattern_that_leads_outside_or_means_nothing_is_refused(pattern: str) -> None:
    assert not re.fullmatch(PATTERN, pattern)


@pytest.mark.parametrize("pattern", ["..data", "a/..b", "*", "**"])
def test_two_dots_in_a_name_are_no_way_up(pattern: str) -> None:
    assert re.fullmatch(PATTERN, pattern)


def test_patterns_that_match_nothing_are_listed() -> None:
    assert Globs(["*.mo", "*.po", "x"]).unused(["a.mo", "b/x/c"]) == ["*.po"]


def test_a_folder_is_spelled_out_by_what_is_bound_to_the_root() -> None:
    globs = Globs(["node_modules/jquery/dist/*.js", "*.js", "/.venv"])
    assert globs.names("node_modules")
    assert globs.names("node_modules/jquery")
    assert globs.names(".venv")
    assert not globs.names("node_modules/jquery/node_modules")
    assert not globs.names("venv")


@pytest.mark.parametrize(
    ("patterns", "bases"),
    [
        (["shots/deep/", "/shots/"], ["shots"]),
        (["shots", "a/b"], [""]),
        (["a/b/*.png", "a/bc/", "docs/**/x"], ["a/b", "a/bc", "docs"]),
        ([], []),
    ],
)
def test_the_folders_that_have_all_matches_in_them(patterns: list[str], bases: list[str]) -> None:
    # When / Then
    assert Globs(patterns).bases() == bases


@pytest.mark.parametrize("path", ["a/b.png", "a[1]/*?", "back\\slash"])
def test_an_escaped_path_means_itself_alone(path: str) -> None:
    # Given
    globs = Globs([escaped(path)])
    # When / Then
    assert globs.match(path)
    assert globs.match(f"{path}/below")
    assert not globs.match(f"x/{path}")
    assert not globs.match("a1/xy")
