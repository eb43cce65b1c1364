"""The feed in other people's training loops."""
