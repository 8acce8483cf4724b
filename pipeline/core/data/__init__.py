"""Rows, splits and where they come from: the shipped corpus, files, the Hugging Face hub."""
