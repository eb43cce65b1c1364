"""One client for OpenAI-compatible endpoints, with a cost ledger and a cache. Needs the extra `agent`."""
