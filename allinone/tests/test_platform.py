"""The platform's description: ports, keys, environment, order; and the command line around it."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from assay_allinone.platform import Ports, PortTaken, platform, process_specs, reserved_ports, secret
from assay_allinone.settings import PlatformSettings
from assay_allinone.supervisor import AlreadyRunning, owned_directory
from assay_chassis.local import ServerNotInstalled
from assay_chassis.processes import LOOPBACK, ProcessSpec

PORTS = Ports(
    gateway=1,
    nats=2,
    nats_monitoring=3,
    mongo=4,
    cpu_adapter=5,
    dataset=6,
    method=7,
    eval=8,
    metrics=9,
    gpu_adapter=10,
    rngd_adapter=11,
    console=12,
    access=13,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_ports_are_those_of_the_last_start_where_they_are_free(home: Path) -> None:
    record = home / "run" / "ports.json"
    with (
        reserved_ports(record, settings=PlatformSettings()) as first,
        reserved_ports(home / "run" / "others.json", settings=PlatformSettings()) as others,
    ):
        ours = {getattr(first, name) for name in Ports.__dataclass_fields__}
        theirs = {getattr(others, name) for name in Ports.__dataclass_fields__}
        assert len(ours) == len(Ports.__dataclass_fields__)
        assert not ours & theirs
    with (
        socket.create_server((LOOPBACK, first.nats)),
        reserved_ports(record, settings=PlatformSettings()) as second,
    ):
        assert second.nats != first.nats
        assert second.mongo == first.mongo
        assert second.metrics == first.metrics


def test_a_gateway_port_that_the_user_chose_is_never_replaced(home: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as busy:
        settings = PlatformSettings(gateway_port=busy.getsockname()[1])
        with (
            pytest.raises(PortTaken, match=f"port {settings.gateway_port} is in use: set ASSAY_GATEWAY_PORT"),
            reserved_ports(home / "run" / "ports.json", settings=settings),
        ):
            pytest.fail("the block must not be entered")


def test_a_secret_is_made_once_and_readable_by_its_owner_alone(home: Path) -> None:
    first = secret(home / "key", prefix="assay_")
    assert first.startswith("assay_")
    assert len(first) > 40
    assert secret(home / "key", prefix="assay_") == first
    assert secret(home / "other", prefix="assay_") != first
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600


def test_an_empty_key_file_is_not_a_key(home: Path) -> None:
    (home / "key").touch()
    with pytest.raises(ValueError, match="key is empty: delete it"):
        secret(home / "key", prefix="")


def test_every_process_finds_the_others_where_they_are(home: Path) -> None:
    specs = {spec.name: spec for spec in process_specs(home, ports=PORTS, settings=PlatformSettings())}
    assert set(specs) == {"nats", "mongo", "cpu-adapter", "services", "eval-worker", "console", "gateway"}
    assert specs["services"].depends_on == ("nats", "mongo")
    console = specs["console"].environment
    assert console == {"ASSAY_CONSOLE_PORT": "12", "ASSAY_CONSOLE_GATEWAY_URL": "http://127.0.0.1:1"}
    environment = specs["eval-worker"].environment
    key = (home / "api-key").read_text().strip()
    only_services = {"ASSAY_API_KEY": key, "ASSAY_API_CLIENT": "owner"}
    assert {**environment, **only_services} == specs["services"].environment
    assert environment.keys().isdisjoint(only_services), "a worker has no use for a client's key"
    assert environment["ASSAY_NATS_URL"] == "nats://127.0.0.1:2"
    assert environment["ASSAY_MONGO_URI"] == "mongodb://127.0.0.1:4/?retryWrites=false"
    assert environment["ASSAY_ADAPTERS"] == "cpu=127.0.0.1:5"
    assert (environment["ASSAY_EVAL_PORT"], environment["ASSAY_EVAL_URL"]) == ("8", "http://127.0.0.1:8")
    configuration = gateway_configuration_of(home / "run" / "envoy.yaml")
    assert environment["ASSAY_INTERNAL_KEY"] not in configuration
    assert key not in configuration, "the gateway knows no secret"
    assert environment["ASSAY_INTERNAL_KEY"] != key


def test_adapters_run_where_the_operator_asks_for_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {spec.name for spec in specs() if spec.name.endswith("-adapter")}

    def specs() -> list[ProcessSpec]:
        return process_specs(home, ports=PORTS, settings=PlatformSettings())

    monkeypatch.setenv("ASSAY_UP_ADAPTERS", "cpu, gpu")
    monkeypatch.setenv("ASSAY_GPU_COMMAND", "no-such-vllm serve")
    with pytest.raises(ServerNotInstalled, match=r"'no-such-vllm'.*ASSAY_GPU_LAUNCHER"):
        specs()
    monkeypatch.setenv("ASSAY_GPU_LAUNCHER", "endpoint")
    assert names() == {"cpu-adapter", "gpu-adapter"}
    by_name = {spec.name: spec for spec in specs()}
    assert by_name["gpu-adapter"].argv[1:] == ("-m", "assay_adapter_gpu")
    assert by_name["gpu-adapter"].environment["ASSAY_GPU_LISTEN"] == "127.0.0.1:10"
    assert by_name["eval-worker"].depends_on == ("services", "cpu-adapter", "gpu-adapter")
    assert by_name["services"].environment["ASSAY_ADAPTERS"] == "cpu=127.0.0.1:5,gpu=127.0.0.1:10"
    monkeypatch.setenv("ASSAY_ADAPTERS", "cpu=10.0.0.5:7001")
    assert names() == {"gpu-adapter"}, "the user's own takes the place of this machine's"
    assert specs()[-1].name == "gateway"
    monkeypatch.setenv("ASSAY_UP_ADAPTERS", "tpu")
    with pytest.raises(ValueError, match="up_adapters"):
        specs()


def gateway_configuration_of(path: Path) -> str:
    text = path.read_text()
    parsed: dict[str, Any] = yaml.safe_load(text)
    assert [cluster["name"] for cluster in parsed["static_resources"]["clusters"]] == [
        "dataset",
        "method",
        "eval",
        "metrics",
        "console",
        "access",
    ]
    return text


def test_a_mongodb_of_the_users_replaces_the_embedded_server(home: Path) -> None:
    settings = PlatformSettings(mongo_uri=SecretStr("mongodb://db.example/"))
    specs = {spec.name: spec for spec in process_specs(home, ports=PORTS, settings=settings)}
    assert "mongo" not in specs
    assert specs["services"].depends_on == ("nats",)
    assert specs["services"].environment["ASSAY_MONGO_URI"] == "mongodb://db.example/"


def test_the_users_proxy_is_not_used_between_the_processes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = process_specs(home, ports=PORTS, settings=PlatformSettings())[1].environment
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"


async def test_a_second_platform_changes_nothing_in_a_directory_in_use(home: Path) -> None:
    with owned_directory(home):
        before = sorted(home.rglob("*"))
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            async with platform(home):
                pytest.fail("the block must not be entered")
        assert [path for path in sorted(home.rglob("*")) if path.is_file()] == [
            path for path in before if path.is_file()
        ]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assay_allinone", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_up_in_a_directory_in_use_is_one_clear_line(home: Path) -> None:
    with owned_directory(home):
        result = command("up", "--home", str(home))
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {home} is in use by process {os.getpid()}")
    assert len(result.stderr.splitlines()) == 1


def test_up_with_a_bad_setting_names_it(home: Path) -> None:
    result = command("up", "--home", str(home), ASSAY_GATEWAY_PORT="http")
    assert result.returncode == 2
    assert "gateway_port" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_containers_configuration_is_the_same_but_for_addresses(home: Path) -> None:
    process_specs(home, ports=PORTS, settings=PlatformSettings())
    local = (home / "run" / "envoy.yaml").read_text().splitlines()
    result = command(
        "gateway-configuration",
        str(home / "envoy.yaml"),
        ASSAY_EVAL_ADDRESS="evaluation.example:9",
    )
    assert result.returncode == 0, result.stderr
    container = (home / "envoy.yaml").read_text().splitlines()
    differing = [line for line, other in zip(container, local, strict=True) if line != other]
    words = json.dumps(differing)
    for expected in ("0.0.0.0", "dataset-svc", "evaluation.example", "/dev/stdout"):
        assert expected in words
    assert len(differing) == 8


def test_a_container_with_a_malformed_address_is_refused_naming_it(home: Path) -> None:
    result = command("gateway-configuration", str(home / "envoy.yaml"), ASSAY_EVAL_ADDRESS="nowhere")
    assert result.returncode == 2
    assert "'nowhere' is no address" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (home / "envoy.yaml").exists()
