"""What decides, and touches nothing: search, halving, slots; news, drift, the gate and what it sees."""
