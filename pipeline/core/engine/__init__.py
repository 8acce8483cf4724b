"""Training and evaluation of one trial, in plain torch."""
