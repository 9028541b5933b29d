"""Claims about a run's head: another dispatcher learns from it all that it takes, and secrets stay where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.head import Head, compress, expand, hollow
from dct_celery.dispatcher.request import Request
from dct_celery.errors import ConfigError, InfrastructureError, UsageError
from dct_celery.security import signing
from dct_celery.settings import Settings
from dct_celery.wire import messages
from tests.support.factories import group, make_manifest

REQUEST = Request(("--verbosity=1",), "site.settings", Path("/src"), ".", (".",), {"TZ": "UTC", "API_TOKEN": "s3cret"}, "7", None)
SPEC = signing.sign({"run": "one", "environment": dict(REQUEST.environment)}, "key")
MANIFEST = make_manifest(group("app.tests.A", count=2), group("app.tests.B"))


def head(settings: Settings) -> Head:
    loaded = messages.Loaded(3, MANIFEST.digest, 0.1, {"python": "3.11"}, [{"password": "s3cret"}], facts={"django": "5.2"})
    collected = Collected(MANIFEST, loaded, [entry.to_dict() for entry in MANIFEST])
    return Head.of("one", SPEC, 5.0, REQUEST, settings, collected, "key")


def test_a_head_comes_back_as_it_was() -> None:
    # Given
    first = head(Settings(labels=("app",), failfast=True, reruns=2))
    # When
    second = Head.parse(expand(compress(first.text("key"))), "key")
    # Then
    assert second.to_collected().manifest == MANIFEST
    assert second.to_request() == replace(REQUEST, environment={})
    assert (second.spec, second.began, second.manifest) == (hollow(SPEC), 5.0, first.manifest)


def test_the_run_keeps_its_own_settings_but_for_what_is_said_anew(tmp_path: Path) -> None:
    # Given
    own = Settings(reruns=2, k=("a", "b"), junit_xml="first.xml", store="redis://first", project_dir=str(tmp_path))
    here = Settings(junit_xml="second.xml", store="redis://second", verbosity=2, project_dir="/nowhere")
    # When
    settings = Head.parse(head(own).text("key"), "key").to_settings(here, {"junit_xml"})
    # Then
    assert (settings.reruns, settings.k, settings.verbosity) == (2, ("a", "b"), 1)
    assert (settings.junit_xml, settings.store, settings.project_dir) == ("second.xml", "redis://second", str(tmp_path))


def test_it_holds_no_secret() -> None:
    # When
    text = head(Settings(store="redis://:s3cret@host", signing_key="s3cret")).text("key")
    # Then
    assert "s3cret" not in text


def test_another_key_or_another_version_is_refused() -> None:
    # Given
    text = head(Settings()).text("key")
    # Then
    with pytest.raises(ConfigError, match="DCT_SIGNING_KEY"):
        Head.parse(text, "other")
    with pytest.raises(InfrastructureError, match="cannot be read"):
        expand(b"what")


def test_a_specification_that_the_store_has_lost_comes_back_with_the_values_of_whoever_attaches() -> None:
    # Given
    lost = Head.parse(head(Settings()).text("key"), "key")

    # Then: the same text, so that its signature holds
    assert lost.spec_text({"TZ": "UTC", "API_TOKEN": "s3cret", "HOME": "/"}, "key") == SPEC


@pytest.mark.parametrize("environ", [{"TZ": "UTC"}, {"TZ": "UTC", "API_TOKEN": "other"}])
def test_a_specification_is_not_rebuilt_from_other_values_than_the_runs(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"journals hold no values of variables.*API_TOKEN"):
        Head.parse(head(Settings()).text("key"), "key").spec_text(environ, "key")
