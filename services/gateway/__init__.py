"""The gateway: OpenAI, NIM and KServe v2 in front of the services."""
