"""What a language model may do while it plans: a fixed set of typed tools over one goal and one sample."""
