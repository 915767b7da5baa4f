"""Checks of what an adapter tells about itself and its engine: calibration, telemetry, logs."""

from contextlib import aclosing

from assay_serving.conformance.subject import Subject, expect
from assay_serving.errors import UnknownInstance
from assay_serving.types import SensorKind, TelemetrySample

_SAMPLES = 3
_LOG_BYTES = 64


async def calibrates_itself(subject: Subject) -> None:
    """The adapter tells its own errors of measurement, which are possible ones, for living instances only."""
    instance = await subject.shared()
    found = await subject.server.calibrate(instance.instance_id)
    assert found.streams > 0
    assert found.chunks > found.streams, "a stream of one chunk has no gap"
    assert found.mono_ns > 0
    assert found.ttft_error_p99 >= abs(found.ttft_error_p50), found
    assert found.itl_error_p99 >= abs(found.itl_error_p50), found
    assert 0 <= found.merged_gap_share <= 1, found
    assert 0 <= found.event_loop_lag_p50 <= found.event_loop_lag_p99, found
    await expect(UnknownInstance, subject.server.calibrate("never-was"))


async def samples_telemetry(subject: Subject) -> None:
    """Samples come in the order of time; power is of declared sensors, or a reason says why there is none."""
    instance = await subject.shared()
    # Without anything to read there is one sample, which says so.
    is_read = instance.provenance.engine_pid or instance.capabilities.power_sensors
    wanted = _SAMPLES if is_read else 1
    samples: list[TelemetrySample] = []
    stream = subject.server.telemetry(instance.instance_id, period=0.05)
    async with aclosing(stream) as telemetry:  # type: ignore[type-var]
        async for sample in telemetry:
            samples.append(sample)
            if len(samples) == wanted:
                break
    stamps = [sample.mono_ns for sample in samples]
    assert stamps == sorted(set(stamps)), f"not in the order of time: {stamps}"
    declared = {*instance.capabilities.power_sensors, SensorKind.CPU_TIME}
    for sample in samples:
        assert sample.event_loop_lag >= 0
        kinds = {reading.kind for reading in sample.readings}
        assert kinds <= declared, f"{kinds - declared} not declared"
        assert kinds - {SensorKind.CPU_TIME} or sample.unavailable, "no power, and no reason for that"
        for reading in sample.readings:
            values = (reading.watts, reading.joules_total, reading.cpu_seconds_total)
            assert sum(value is not None for value in values) == 1, reading
            assert all(value >= 0 for value in values if value is not None), reading


async def keeps_its_log(subject: Subject) -> None:
    """The end of the engine's log can be read while it runs and after its end, no longer than asked for."""
    instance = await subject.start(subject.spec(max_concurrency=1))
    running = await subject.server.logs(instance.instance_id)
    short = await subject.server.logs(instance.instance_id, max_bytes=_LOG_BYTES)
    assert len(short.text.encode()) <= _LOG_BYTES
    assert short.is_cut or len(running.text.encode()) <= _LOG_BYTES, "cut, and does not say so"
    await subject.server.release(instance.instance_id, reason="conformance")
    ended = await subject.server.logs(instance.instance_id)
    assert ended.text or not running.text, "the log went with the engine"
    await expect(UnknownInstance, subject.server.logs("never-was"))
