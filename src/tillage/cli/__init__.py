"""The command line: one verb, one function; no logic. `main.entry` is the console script."""
