"""Adapters in the formats of other programs: read and written, and compared with what those programs compute."""
