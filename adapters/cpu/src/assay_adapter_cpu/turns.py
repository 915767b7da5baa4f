"""Who may have a prompt evaluated now.

llama.cpp evaluates all waiting prompts in one batch and cuts that batch into pieces with equally many
tokens of each sequence. A prompt that is one token longer than its neighbour then has its last token
evaluated alone, which changes low digits and, once in a while, the text. So one prompt is let in at a time;
sequences that are past their prompt go on decoding beside it, which is harmless. On a CPU this costs no
throughput: prompts are bound by arithmetic, and two at once take as long as two in a row.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class PromptTurns:
    """Turns at prompt evaluation, first come first served."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def turn(self, *, alone: bool = False) -> AsyncIterator[Callable[[], None]]:
        """Wait for the turn; yields what to call when the prompt is done, if that is before the block ends.

        With `alone` the engine has nothing else to do, decoding included, until then. That is for prompts
        whose first token must not share a batch with another sequence's.
        """
        await self._lock.acquire()
        is_held = True

        def prompt_done() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._lock.release()

        try:
            if alone:
                await self._idle.wait()
            self._working += 1
            self._idle.clear()
            try:
                yield prompt_done
            finally:
                self._working -= 1
                if not self._working:
                    self._idle.set()
        finally:
            prompt_done()
