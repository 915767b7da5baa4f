import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from assay_adapter_cpu.settings import CpuAdapterSettings
from assay_serving.client import ModelServer
from assay_serving.errors import AdapterUnavailable, ServingError
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.settings import engine_environment
from assay_serving.types import Artifact, GenerateRequest, ProvisionSpec, SamplingParameters

pytestmark = pytest.mark.model


def start(home: Path, listen: str = "127.0.0.1:0") -> EngineProcess:
    return EngineProcess.start(
        ProcessCommand(
            arguments=[sys.executable, "-m", "assay_adapter_cpu"],
            environment={
                **engine_environment(),
                "ASSAY_HOME": str(home),
                "ASSAY_CPU_LISTEN": listen,
                "ASSAY_CPU_ADDRESS_FILE": str(home / "address"),
            },
            log_path=home / "log",
        )
    )


async def address_of(process: EngineProcess, home: Path) -> str:
    async with asyncio.timeout(60):
        while not (home / "address").exists():
            assert process.exit_code is None, process.log_tail()
            await asyncio.sleep(0.05)
    return (home / "address").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_engine_outlives_its_adapter(
    number: signal.Signals, tmp_path: Path, cpu_model: Artifact
) -> None:
    process = start(tmp_path)
    try:
        async with ModelServer.connect(await address_of(process, tmp_path)) as server:
            spec = ProvisionSpec(idempotency_key="k", artifact=cpu_model, max_context_tokens=512)
            accepted = await server.provision(spec)
            instance = await server.wait_ready(accepted.instance_id, timeout=60)
            engine = psutil.Process(instance.provenance.engine_pid)
            request = GenerateRequest(
                text="Once upon a time", sampling=SamplingParameters(max_tokens=400, ignore_eos=True)
            )
            async with server.generate_session(instance.instance_id) as session:
                running = asyncio.create_task(session.generate(request))
                await session.generate(GenerateRequest(text="Hi", sampling=SamplingParameters(max_tokens=1)))
                os.kill(process.pid, number)
                with pytest.raises(ServingError) as failure:
                    await running
                if number is signal.SIGKILL:
                    assert isinstance(failure.value, AdapterUnavailable)
                    assert failure.value.retryable
            code = await process.wait()
            assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL), process.log_tail()
            await asyncio.to_thread(psutil.wait_procs, [engine], 20)
            assert not engine.is_running()
            with pytest.raises(AdapterUnavailable):
                await server.describe()
        if number is signal.SIGTERM:
            assert not list((tmp_path / "run" / "adapter-cpu").iterdir())
    finally:
        await process.stop()


async def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    first = start(tmp_path / "a")
    try:
        address = await address_of(first, tmp_path / "a")
        second = start(tmp_path / "b", listen=address)
        assert await second.wait() == 1
        assert f"cannot listen on {address}" in second.log_tail()
        assert "Traceback" not in second.log_tail()
    finally:
        await first.stop()


def test_roots_are_split_like_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CPU_ARTIFACT_ROOTS", f"{tmp_path}/a:{tmp_path}/b")
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    settings = CpuAdapterSettings()
    assert settings.artifact_roots == (tmp_path / "a", tmp_path / "b")
    assert settings.cache_directory == tmp_path / "cache" / "artifacts"
