"""When the tokens of one streamed answer came, and how much text each of them brought."""

from array import array

from assay_serving.types import RequestTimes, StampSource
from assay_serving.upstream import ServerEvent, UpstreamReply


class Arrivals:
    """Collects events as they come; whether kernel or user-space times count is known only at the end."""

    __slots__ = (
        "_first_text",
        "_kernel_ns",
        "_last_merged",
        "_last_read",
        "_merged_reads",
        "_read_ns",
        "_text_lengths",
        "_unplaced_text",
    )

    def __init__(self) -> None:
        # One entry per token. Machine integers: thousands of tokens come per second, and what is kept of them
        # should neither fill the processor's cache nor be walked through by the garbage collector.
        self._kernel_ns = array("q")
        self._read_ns = array("q")
        self._text_lengths = array("q")
        self._unplaced_text = 0  # characters that came before any token
        self._first_text: ServerEvent | None = None
        self._last_read = -1  # of a token
        self._last_merged = -1
        self._merged_reads = 0

    @property
    def token_count(self) -> int:
        """Tokens that have come so far."""
        return len(self._read_ns)

    def add(self, event: ServerEvent, *, tokens: int, text_length: int) -> None:
        """Take an event that brought `tokens` tokens and `text_length` characters.

        An event without text is no first token. Of several tokens the last has the text; text that comes
        without a token belongs to the token before it.
        """
        if text_length and self._first_text is None:
            self._first_text = event
        if not tokens:
            self._place_text(text_length)
            return
        _, kernel, read, number = event
        if (tokens > 1 or number == self._last_read) and number != self._last_merged:
            self._merged_reads += 1
            self._last_merged = number
        self._last_read = number
        for _ in range(tokens - 1):
            self._kernel_ns.append(kernel)
            self._read_ns.append(read)
            self._text_lengths.append(0)
        self._kernel_ns.append(kernel)
        self._read_ns.append(read)
        self._text_lengths.append(text_length + self._unplaced_text)
        self._unplaced_text = 0

    def _place_text(self, length: int) -> None:
        if self._text_lengths:
            self._text_lengths[-1] += length
        else:
            self._unplaced_text += length

    def text_lengths(self, *, completion_tokens: int) -> tuple[int, ...]:
        """`GenerateResult.token_text_lengths`: empty where not every completion token came by itself."""
        return tuple(self._text_lengths) if len(self._text_lengths) == completion_tokens else ()

    def times(self, reply: UpstreamReply, *, completion_tokens: int, received_mono_ns: int) -> RequestTimes:
        """The times of the finished answer, by the clock that the reply names."""
        source, sent = reply.stamp_source, reply.sent_mono_ns
        stamps = self._kernel_ns if source is StampSource.KERNEL else self._read_ns
        first = self._first_text.arrived_mono_ns(source) if self._first_text else 0
        # The two clocks are matched to within microseconds: a first token cannot come before its request.
        return RequestTimes(
            received_mono_ns=received_mono_ns,
            sent_mono_ns=sent,
            first_token_mono_ns=max(sent, first) if first else 0,
            done_mono_ns=max(reply.done_mono_ns, stamps[-1]) if stamps else reply.done_mono_ns,
            token_offsets_us=tuple([(stamp - sent) // 1000 if stamp > sent else 0 for stamp in stamps]),
            exact_token_times=len(stamps) == completion_tokens,
            stamp_source=source if stamps else StampSource.USER_SPACE,
            merged_reads=self._merged_reads,
        )
