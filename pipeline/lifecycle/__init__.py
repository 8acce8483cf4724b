"""What happens to a champion as data arrives: policies, which decide and touch nothing."""
