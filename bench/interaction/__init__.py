"""What selecting, mixing and weighing data during training is worth: `python -m bench.interaction`."""
