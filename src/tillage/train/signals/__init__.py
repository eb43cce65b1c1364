"""What policies may know beyond the step's own losses: scores made before training, and gradients."""
