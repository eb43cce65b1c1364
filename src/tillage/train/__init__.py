"""From a dataset on disk to a trained model: tokens, feed, data policies, trainer, what it measured."""
