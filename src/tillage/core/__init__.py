"""Errors, specs, registries and events: what every other layer speaks."""
