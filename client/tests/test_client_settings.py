"""Where the client finds the platform."""

import json
from pathlib import Path

import pytest

from assay.errors import PlatformUnreachable, RequestRefused
from assay.settings import Environment, find_connection, read_environment


@pytest.fixture
def local_home(tmp_path: Path) -> Path:
    """The directory of a platform that runs on this machine."""
    (tmp_path / "run").mkdir()
    (tmp_path / "api-key").write_text("local-key\n")
    described = {"url": "http://127.0.0.1:8080", "api_key_file": str(tmp_path / "api-key")}
    (tmp_path / "run" / "gateway.json").write_text(json.dumps(described))
    return tmp_path


def test_flags_win_over_the_environment_and_that_over_this_machine(local_home: Path) -> None:
    environment = Environment(url="http://env", api_key="env-key", home=local_home)
    flags = find_connection(url="http://flag", api_key="flag-key", environment=environment)
    assert (flags.url, flags.api_key) == ("http://flag", "flag-key")
    from_environment = find_connection(environment=environment)
    assert (from_environment.url, from_environment.api_key) == ("http://env", "env-key")
    local = find_connection(environment=Environment(home=local_home))
    assert (local.url, local.api_key) == ("http://127.0.0.1:8080", "local-key")


def test_the_local_key_goes_to_the_local_platform_alone(local_home: Path) -> None:
    environment = Environment(home=local_home)
    assert find_connection(url="http://127.0.0.1:8080/", environment=environment).api_key == "local-key"
    with pytest.raises(RequestRefused, match="an API key is needed for http://elsewhere"):
        find_connection(url="http://elsewhere", environment=environment)


def test_a_url_needs_its_scheme() -> None:
    with pytest.raises(RequestRefused, match="write http://host:port"):
        find_connection(url="localhost:8080", api_key="key", environment=Environment())


def test_no_platform_at_all(tmp_path: Path) -> None:
    with pytest.raises(PlatformUnreachable, match="assay up"):
        find_connection(environment=Environment(home=tmp_path))


def test_a_broken_discovery_file_is_named(local_home: Path) -> None:
    (local_home / "run" / "gateway.json").write_text("{")
    with pytest.raises(PlatformUnreachable, match=r"gateway\.json"):
        find_connection(environment=Environment(home=local_home))


def test_empty_variables_count_as_not_set() -> None:
    environment = read_environment({"ASSAY_URL": "", "ASSAY_HOME": "", "COLUMNS": "zero"})
    assert environment == Environment()


def test_the_key_is_not_in_the_text_of_a_connection() -> None:
    connection = find_connection(url="http://x", api_key="secret", environment=Environment())
    assert "secret" not in repr(connection)
