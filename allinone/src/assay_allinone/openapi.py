"""Writes the OpenAPI document of every service: ``python -m assay_allinone.openapi DIRECTORY``."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

import access_svc.settings
import access_svc.wiring
import dataset_svc.settings
import dataset_svc.wiring
import eval_svc.settings
import eval_svc.wiring
import method_svc.settings
import method_svc.wiring
import metrics_svc.settings
import metrics_svc.wiring

KEY = SecretStr("only the descriptions are made here")


def documents() -> dict[str, dict[str, Any]]:
    """Service name to OpenAPI document. Nothing is started."""
    apps = {
        "dataset-svc": dataset_svc.wiring.create_app(dataset_svc.settings.Settings(internal_key=KEY)),
        "method-svc": method_svc.wiring.create_app(method_svc.settings.Settings(internal_key=KEY)),
        "eval-svc": eval_svc.wiring.create_app(eval_svc.settings.Settings(internal_key=KEY)),
        "metrics-svc": metrics_svc.wiring.create_app(metrics_svc.settings.Settings(internal_key=KEY)),
        "access-svc": access_svc.wiring.create_app(
            access_svc.settings.Settings(internal_key=KEY, api_key=KEY)
        ),
    }
    return {name: app.openapi() for name, app in apps.items()}


def main() -> None:
    """Write one JSON file per service."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m assay_allinone.openapi DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
