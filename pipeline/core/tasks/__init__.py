"""The kinds of tasks: how rows become model inputs, losses, answers and scores."""
