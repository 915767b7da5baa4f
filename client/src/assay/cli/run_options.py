"""The options of ``assay run plan`` and ``assay run start``."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from assay.cli.prompt_options import PromptChoices, RowChoices
from assay.cli.session import assignments, without_nothing
from assay.errors import RequestRefused

GIBIBYTE = 1024**3
_BOUNDS = ("ttft", "itl", "latency")


@dataclass(frozen=True, slots=True)
class SubjectChoices:
    """What is evaluated and how."""

    artifact: Annotated[
        str, typer.Option(help="What is evaluated: name or id of an artifact.", show_default=False)
    ]
    method: Annotated[str, typer.Option(help="How: name or id of a method.", show_default=False)]
    method_version: Annotated[
        int | None, typer.Option(help="Version of the method.", min=1, show_default="newest")
    ] = None


@dataclass(frozen=True, slots=True)
class ExecutionChoices:
    """How a run is carried out."""

    limit: Annotated[
        int | None, typer.Option(help="Evaluate the first N rows.", min=1, show_default="all rows")
    ] = None
    batch_size: Annotated[
        int, typer.Option(help="Submit-burst: requests handed over at once and waited for together.", min=1)
    ] = 1
    concurrency: Annotated[int, typer.Option(help="Bursts in flight at once.", min=1)] = 1
    bootstrap_iterations: Annotated[
        int | None,
        typer.Option(
            help="For standard errors without a closed form.", min=0, show_default="1000; lm-eval has 100000"
        ),
    ] = None
    reuse_responses: Annotated[
        bool,
        typer.Option(
            "--reuse-responses",
            help="Take earlier answers of the same artifact and serving instance to the same prompts.",
        ),
    ] = False
    on_failure: Annotated[
        str, typer.Option(help="What a failed sample counts as: score_zero, exclude, or fail (the run).")
    ] = "score_zero"
    max_retries: Annotated[int, typer.Option(help="Further tries of a failed request.", min=0)] = 3
    cpus: Annotated[
        float | None, typer.Option(help="Serving CPUs.", min=0.1, show_default="the backend's")
    ] = None
    memory_gib: Annotated[
        int | None, typer.Option(help="Serving memory, GiB.", min=1, show_default="the backend's")
    ] = None
    accelerators: Annotated[
        int | None, typer.Option(help="Serving accelerators.", min=1, show_default="the backend's")
    ] = None
    max_context_tokens: Annotated[
        int | None,
        typer.Option(help="Longest prompt with answer, tokens.", min=128, show_default="the backend's"),
    ] = None

    goodput: Annotated[
        str | None,
        typer.Option(
            help="Bounds in seconds within which an answer counts for goodput: ttft=0.5,itl=0.05,latency=10, "
            "or some of them.",
            show_default=False,
        ),
    ] = None
    stop_early_against: Annotated[
        str | None,
        typer.Option(
            help="End the run as soon as it is proven, or hopeless to prove, that it is not worse than this "
            "base run: name or id.",
            show_default=False,
        ),
    ] = None
    stop_early_margin: Annotated[
        float | None,
        typer.Option(help="Margin of --stop-early-against, in the metric's unit.", show_default="0.02"),
    ] = None
    stop_early_looks: Annotated[
        int | None,
        typer.Option(help="How often the run is judged, its end included.", min=2, show_default="5"),
    ] = None

    def options(self) -> dict[str, Any]:
        """The options as the API takes them; what was not given is left to the platform."""
        serving = without_nothing(
            {
                "cpus": self.cpus,
                "memory_bytes": None if self.memory_gib is None else self.memory_gib * GIBIBYTE,
                "accelerators": self.accelerators,
                "max_context_tokens": self.max_context_tokens,
            }
        )
        return without_nothing(
            {
                "limit": self.limit,
                "batch_size": self.batch_size,
                "concurrency": self.concurrency,
                "bootstrap_iterations": self.bootstrap_iterations,
                "reuse_responses": self.reuse_responses or None,
                "on_failure": self.on_failure,
                "max_retries": self.max_retries,
                "serving": serving or None,
                "goodput": goodput_bounds(self.goodput) if self.goodput is not None else None,
                "early_stop": self._early_stop(),
            }
        )

    def _early_stop(self) -> dict[str, Any] | None:
        """The rule that ends a run early. Raises RequestRefused."""
        if self.stop_early_against is None:
            if self.stop_early_margin is not None or self.stop_early_looks is not None:
                raise RequestRefused(
                    "--stop-early-margin and --stop-early-looks belong to --stop-early-against RUN"
                )
            return None
        return without_nothing(
            {
                "baseline_run_id": self.stop_early_against,
                "margin": self.stop_early_margin,
                "looks": self.stop_early_looks,
            }
        )


def goodput_bounds(text: str) -> dict[str, float]:
    """Bounds as ``ttft=0.5,itl=0.05,latency=10``, as the API takes them. Raises RequestRefused."""
    bounds: dict[str, float] = {}
    for name, value in assignments(text.split(","), option="--goodput").items():
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if name not in _BOUNDS or not 0 < seconds < float("inf"):
            names = ", ".join(_BOUNDS)
            raise RequestRefused(f"--goodput {name}={value}: write seconds above 0 for some of {names}")
        bounds[f"{name}_s"] = seconds
    return bounds


def run_request(
    subject: SubjectChoices, rows: RowChoices, prompts: PromptChoices, execution: ExecutionChoices
) -> dict[str, Any]:
    """What ``Runs.plan`` and ``Runs.start`` take. Raises RequestRefused."""
    return {
        "artifact": subject.artifact,
        "method": subject.method,
        "method_version": subject.method_version,
        **rows.request(),
        "options": {**execution.options(), **prompts.options()},
    }
