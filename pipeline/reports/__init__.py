"""What a user sees of a sweep: progress, tables and figures."""
