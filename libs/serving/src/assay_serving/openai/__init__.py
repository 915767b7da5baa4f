"""An engine over model servers that speak OpenAI's completions with vLLM's extensions."""
