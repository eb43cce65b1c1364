"""Where the two halves meet: rounds of plan, prepare, train, feed back and revise."""
