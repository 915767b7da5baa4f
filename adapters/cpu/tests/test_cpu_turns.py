import asyncio

from assay_adapter_cpu.turns import PromptTurns


async def test_one_prompt_at_a_time_in_order_while_decoding_goes_on() -> None:
    turns, log, decoding = PromptTurns(), [], asyncio.Event()

    async def request(name: str) -> None:
        async with turns.turn() as prompt_done:
            log.append(f"{name} prompt")
            await asyncio.sleep(0)
            log.append(f"{name} decode")
            prompt_done()
            await decoding.wait()

    tasks = [asyncio.create_task(request(name)) for name in "abc"]
    async with asyncio.timeout(10):
        while len(log) < 6:
            await asyncio.sleep(0)
    assert log == ["a prompt", "a decode", "b prompt", "b decode", "c prompt", "c decode"]
    decoding.set()
    await asyncio.gather(*tasks)


async def test_alone_waits_for_decoding_to_end_and_keeps_new_prompts_out() -> None:
    turns, log, decoding = PromptTurns(), [], asyncio.Event()

    async def decode() -> None:
        async with turns.turn() as prompt_done:
            prompt_done()
            await decoding.wait()
            log.append("decoded")

    async def prompt(name: str, *, alone: bool) -> None:
        async with turns.turn(alone=alone):
            log.append(name)

    first = asyncio.create_task(decode())
    await asyncio.sleep(0)
    rest = [
        asyncio.create_task(prompt("alone", alone=True)),
        asyncio.create_task(prompt("next", alone=False)),
    ]
    await asyncio.sleep(0.01)
    assert log == []
    decoding.set()
    await asyncio.gather(first, *rest)
    assert log == ["decoded", "alone", "next"]


async def test_a_cancelled_turn_lets_the_next_one_in() -> None:
    turns, entered = PromptTurns(), asyncio.Event()

    async def hold() -> None:
        async with turns.turn():
            entered.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await entered.wait()
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiter.cancel()
    holder.cancel()
    async with asyncio.timeout(10), turns.turn(alone=True):
        pass
