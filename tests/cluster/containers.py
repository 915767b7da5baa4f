"""Containers as local processes, each on an address of its own."""

import asyncio
import base64
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.schemas import Object
from cluster.store import Store

_TIED = str(Path(__file__).parent / "programs" / "tied.py")


class ConfigurationError(Exception):
    """CreateContainerConfigError: something that the container's environment refers to is missing."""


@dataclass(frozen=True)
class Image:
    """What a registry has under a name: programs on the image's PATH as local command lines.

    With `error` pulling fails with the registry's message.
    """

    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    pull_seconds: float = 0.0
    error: str = ""


def free_address() -> str:
    """An address of the loopback network that nobody else uses, as a Pod's network namespace has one."""
    return f"127.{random.randint(64, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"


def environment_of(store: Store, pod: Object, container: Object, address: str) -> dict[str, str]:
    """The container's variables, with references resolved; raises ConfigurationError."""
    found: dict[str, str] = {}
    for each in container.get("env", []):
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            found[each["name"]] = _secret(store, pod["metadata"]["namespace"], reference)
        elif source.get("fieldRef", {}).get("fieldPath") == "status.podIP":
            found[each["name"]] = address
        else:
            found[each["name"]] = expanded(each.get("value", ""), found)
    return found


def _secret(store: Store, namespace: str, reference: Object) -> str:
    secret = store.objects.get(("secrets", namespace, reference["name"]))
    if secret is None:
        raise ConfigurationError(f'secret "{reference["name"]}" not found')
    if reference["key"] not in secret.get("data", {}):
        raise ConfigurationError(
            f"couldn't find key {reference['key']} in Secret {namespace}/{reference['name']}"
        )
    return base64.b64decode(secret["data"][reference["key"]]).decode()


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`text` with ``$(NAME)`` replaced and ``$$`` unescaped, as a kubelet does it."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([-._A-Za-z0-9]+)\)", value, text)


class Process:
    """One container: a local process group, its output in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self.log = log

    @classmethod
    def start(
        cls, image: Image, container: Object, variables: Mapping[str, str], *, address: str, log: Path
    ) -> "Process":
        """Run the container's command; raises FileNotFoundError where the image has no such program."""
        program, *rest = [expanded(text, variables) for text in container["command"]]
        if program not in image.programs:
            raise FileNotFoundError(f'exec: "{program}": executable file not found in $PATH')
        arguments = [expanded(text, variables) for text in container.get("args", [])]
        # A Pod's network namespace has only its own address: listening everywhere means there.
        arguments = [address if text == "0.0.0.0" else text for text in arguments]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _TIED, *image.programs[program], *rest, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], **image.environment, **variables},
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    async def wait(self) -> int:
        while (code := self._process.poll()) is None:
            await asyncio.sleep(0.01)
        return code

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()
