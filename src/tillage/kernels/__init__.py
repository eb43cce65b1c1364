"""Compiled loops over Arrow buffers: no files, no engine. Each has a slow reference in the tests."""
