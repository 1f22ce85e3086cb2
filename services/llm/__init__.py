"""The LLM service: prompts and conversations to text, tool calls and log-probabilities."""
