"""The commands: each file reads its config, wires the parts and shows the result."""
