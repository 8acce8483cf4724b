"""What watches the clock: crontabs, timers of systemd, and the passes that they start."""
