"""The workflow benchmark: known faults are planted into real text, and the agent must find them."""
